"""Puts the page together: asks the corpus, fills the template, writes one file that needs no other and no network.

Three things keep data from acting: the template escapes every text; `plain` writes invisible characters out; a content
security policy in the page forbids scripts and any request. Equal corpora and runs give equal pages.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2

from manifests import files
from manifests.catalog import Catalog
from manifests.errors import UsageError
from manifests.report import figures
from manifests.report.intake import CONTEXTS, DURATIONS, STATUSES, read_intake
from manifests.report.plain import plain, shortened
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
    if out.is_dir():
        raise UsageError(f"{out} is a folder: name the file to write, e.g. {out / 'report.html'}")
    catalog = Catalog(corpus_folder)
    training = read_training(run)
    template = _environment().get_template("page.html.jinja")
    page = template.render(
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
    )
    files.write_bytes(out, _without_addresses(page).encode("utf-8", "backslashreplace"))


def _without_addresses(page: str) -> str:
    """Writes the colon of ``://`` as a character reference: a reader sees the same, no program takes it for a link."""
    return page.replace("://", "&#58;//")


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
        runs.append({**run, "said": ", ".join(f"{key} {_figure(value)}" for key, value in flat.items())})
    return runs


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("manifests.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: plain(value) if isinstance(value, str) and not hasattr(value, "__html__") else value,
    )
    environment.filters.update(figure=_figure, percent=_percent, bytes=_bytes, loss=_loss, short=shortened)
    environment.globals["histogram"] = figures.histogram
    return environment


def _figure(value: Any) -> str:
    """A number with thousands parted; anything else as it is; a dash for nothing."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _loss(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) and not isinstance(value, bool) else "–"


def _bytes(value: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            return f"{value:,.0f} B" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")
