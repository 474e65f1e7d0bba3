"""Puts the page together: asks the corpus, fills the template, writes one file that needs no other and no network.

What keeps data from acting is in `manifests.report.pages`. Equal corpora and runs give equal pages. Only sums and a few
examples are read into Python, whatever the size of the corpus.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import duckdb

from manifests.catalog import Catalog, first_line
from manifests.diff import compare
from manifests.diff.summary import summary
from manifests.errors import CorruptCorpusError
from manifests.report import figures
from manifests.report.contents import CONTEXTS, DURATIONS, Contents, read_contents
from manifests.report.fates import read_fates
from manifests.report.intake import read_intake
from manifests.report.lineage import read_lineage
from manifests.report.notes import read_notes
from manifests.report.pages import figure, require_file, tokens, write_page
from manifests.report.planned import read_stages
from manifests.report.previews import read_previews
from manifests.report.synthesis import read_synthesis
from manifests.report.training import read_training

RUNS_SHOWN = 30
MEMORY = "3GiB"


def write_report(corpus_folder: Path, out: Path, *, run: Path | None = None, against: Path | None = None) -> None:
    """Writes the report of a corpus to ``out``.

    Args:
        run: a training run, for its losses.
        against: an earlier corpus, for what changed since.

    Raises:
        UsageError: a folder holds no corpus, or ``out`` is a folder.
        CorruptCorpusError: a corpus cannot be read.
    """
    require_file(out)
    try:
        _write(corpus_folder, out, run, against)
    except duckdb.Error as error:
        raise CorruptCorpusError(f"{corpus_folder} cannot be read: {first_line(error)}; `longreel check` says more") from error


def _write(corpus_folder: Path, out: Path, run: Path | None, against: Path | None) -> None:
    difference = None if against is None else compare(against, corpus_folder)
    catalog = Catalog(corpus_folder)
    with tempfile.TemporaryDirectory(prefix="longreel-report-") as spill:
        catalog.connection.execute(f"SET memory_limit = '{MEMORY}'")
        catalog.connection.execute("SET temp_directory = ?", [spill])
        training = read_training(run)
        intake, contents, plans = read_intake(catalog), read_contents(catalog), read_stages(catalog)
        synthesis, runs = read_synthesis(catalog), _runs(catalog)
        previews = read_previews(catalog)
        lineage = read_lineage(catalog, [preview.figures["sample_id"] for preview in previews])
        fates = read_fates(catalog)
    notes = read_notes(intake, contents, plans, training, runs, difference)
    sections = [
        ("look", "What to look at"), ("intake", "What came in"), ("losses", "Lost"), ("contents", "Samples"),
        *([("synthesis", "Reasoning")] if synthesis else []),
        *([("mixture", "Mixture"), ("packing", "Packing"), ("balance", "Balance")] if plans else []),
        *([("training", "Training")] if training else []), *([("changes", "Changes")] if difference else []),
        *([("lineage", "Lineage")] if lineage.forward else []), ("previews", "Previews"), ("log", "Log"),
    ]  # fmt: skip
    write_page(
        out,
        "page.html.jinja",
        name=catalog.corpus.folder.resolve().name,
        recipe=catalog.corpus.identity()["recipe"]["name"],
        sections=sections,
        notes=notes,
        intake=intake,
        fates=fates,
        contents=contents,
        contexts=CONTEXTS,
        durations=DURATIONS,
        lengths=_lengths(contents),
        synthesis=synthesis,
        plans=plans,
        training=training,
        loss=figures.curve(training.curve("loss"), "training loss by step") if training else "",
        loss_groups=[(group, figures.spark(group.curve)) for group in training.groups()] if training else [],
        indexer_loss=figures.curve(training.curve("indexer_loss"), "indexer loss by step") if training else "",
        difference=difference,
        headline=summary(difference) if difference else "",
        lineage=lineage,
        previews=previews,
        steps=[record for step in catalog.corpus.steps() if (record := catalog.corpus.record(step)) is not None],
        runs=runs,
    )


def _lengths(contents: Contents) -> Any:
    bars = {
        power: (count, f"{count:,} samples of {2**power:,} to {2 ** (power + 1) - 1:,} tokens, {tokens(total)} tokens in all")
        for power, count, total in contents.lengths
    }
    if not bars:
        return ""
    listed = [(_short(2**power), *bars.get(power, (0, ""))) for power in range(min(bars), max(bars) + 1)]
    return figures.columns(listed, "samples by length: " + "; ".join(words for _, count, words in listed if count))


def _short(value: int) -> str:
    return f"{value // 1024}K" if value >= 1024 else str(value)


def _runs(catalog: Catalog) -> list[dict[str, Any]]:
    query = f"SELECT * FROM runs ORDER BY started DESC, step LIMIT {RUNS_SHOWN}"
    relation = catalog.connection.execute(query)
    names = [column[0] for column in relation.description or []]
    runs = []
    for row in relation.fetchall():
        run = dict(zip(names, row, strict=True))
        try:
            counts = json.loads(run["counts"] or "{}")
        except ValueError:
            counts = {}
        flat = (
            {key: value for key, value in counts.items() if isinstance(value, int | float | str)}
            if isinstance(counts, dict)
            else {}
        )
        runs.append({**run, "said": ", ".join(f"{key} {figure(value)}" for key, value in flat.items())})
    return runs
