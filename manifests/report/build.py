"""Puts the page together: asks the corpus, fills the template, writes one file that needs no other and no network.

What keeps data from acting is in `manifests.report.pages`. Equal corpora and runs give equal pages.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from manifests.catalog import Catalog
from manifests.report import figures
from manifests.report.intake import CONTEXTS, DURATIONS, STATUSES, read_intake
from manifests.report.pages import figure, require_file, write_page
from manifests.report.planned import read_stages
from manifests.report.previews import read_previews
from manifests.report.training import read_training

RUNS_SHOWN = 30


def write_report(corpus_folder: Path, out: Path, *, run: Path | None = None) -> None:
    """Writes the report of a corpus, and of a training run when one is given, to ``out``.

    Raises:
        UsageError: the folder holds no corpus, or ``out`` is a folder.
        CorruptCorpusError: ``corpus.json`` or a step record cannot be read.
    """
    require_file(out)
    catalog = Catalog(corpus_folder)
    training = read_training(run)
    write_page(
        out,
        "page.html.jinja",
        name=catalog.corpus.folder.resolve().name,
        recipe=catalog.corpus.identity()["recipe"]["name"],
        intake=read_intake(catalog),
        statuses=STATUSES,
        contexts=CONTEXTS,
        durations=DURATIONS,
        plans=read_stages(catalog),
        previews=read_previews(catalog),
        training=training,
        loss=figures.curve(training.curve("loss"), "training loss by step") if training else "",
        indexer_loss=figures.curve(training.curve("indexer_loss"), "indexer loss by step") if training else "",
        steps=[record for step in catalog.corpus.steps() if (record := catalog.corpus.record(step)) is not None],
        runs=_runs(catalog),
        histogram=figures.histogram,
        bar=figures.bar,
    )


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
        flat = {key: value for key, value in counts.items() if isinstance(value, int | float | str)}
        runs.append({**run, "said": ", ".join(f"{key} {figure(value)}" for key, value in flat.items())})
    return runs
