"""A difference as a person reads it in 80 columns: the loudest first, nothing that is the same; data made plain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from manifests.diff.difference import Difference
from manifests.diff.plans import PlanChange, StageChange
from manifests.diff.sources import SourceChanges
from manifests.diff.summary import WORDS, summary
from manifests.report.plain import one_line

LOUD = "bold red"
ROWS = 20


def rendered(difference: Difference, rows: int = ROWS) -> Iterator[RenderableType]:
    """Everything that differs, piece by piece, for a rich console.

    Args:
        rows: lines of a table, at most; 0 for all.
    """
    d = difference
    yield _text(f"A  {d.a}\nB  {d.b}", lines=True)
    yield _text(summary(d), style="bold")
    if d.sources and d.sources.crossings:
        yield from _crossings(d.sources, rows)
    other = [
        step.step for step in d.made if step.fingerprint_a != step.fingerprint_b and step.fingerprint_a and step.fingerprint_b
    ]
    if other:
        yield _text(f"made by other code, configuration or inputs: {', '.join(other)}")
    if d.fields:
        yield from _titled("Recipe", _fields(d.fields, rows))
    if d.sources and d.sources.counts:
        yield from _sources(d.sources, rows)
    if d.samples:
        s = d.samples
        changed = [task for task in s.tasks if task.added or task.removed or task.tokens_a != task.tokens_b]
        if changed:
            table = _table("task", "A", "B", "added", "removed", "tokens")
            for task in [*_cut(changed, rows), s]:
                name = getattr(task, "task", "all")
                table.add_row(
                    _cell(name, 30), *_numbers(task.a, task.b, task.added, task.removed), _signed(task.tokens_b - task.tokens_a)
                )
            yield from _titled("Samples by task", table, len(changed) - len(_cut(changed, rows)))
            table = _table("context", "duration", "A", "B", "added", "removed", "tokens")
            for bucket in s.buckets:
                if bucket.added or bucket.removed:
                    numbers = _numbers(bucket.a, bucket.b, bucket.added, bucket.removed)
                    tokens = _signed(bucket.tokens_b - bucket.tokens_a)
                    table.add_row(_cell(bucket.context, 12), _cell(bucket.duration or "-", 12), *numbers, tokens)
            yield from _titled("Samples by bucket", table)
        counted = {"other bucket": s.rebucketed, "other token counts": s.recounted, "other licence": s.relicensed}
        said = [f"{count:,} {what}" for what, count in counted.items() if count]
        if said:
            yield _text(f"of samples in both: {', '.join(said)}")
    losses = [loss for loss in d.losses if loss.a != loss.b]
    if losses:
        table = _table("table", "stage", "reason", "A", "B", "change")
        for loss in _cut(losses, rows):
            words = (_cell(loss.table, 12), _cell(loss.stage, 14), _cell(loss.reason, 28))
            table.add_row(*words, *_numbers(loss.a, loss.b), _signed(loss.b - loss.a))
        yield from _titled("Lost, by reason", table, len(losses) - len(_cut(losses, rows)))
    licences = [row for row in d.licences if (row.sources_a, row.samples_a) != (row.sources_b, row.samples_b)]
    if licences:
        table = _table("licence", "sources A", "B", "samples A", "B")
        for row in _cut(licences, rows):
            table.add_row(_cell(row.licence, 30), *_numbers(row.sources_a, row.sources_b, row.samples_a, row.samples_b))
        yield from _titled("Licences", table, len(licences) - len(_cut(licences, rows)))
    for plan in d.plans:
        yield from _plan(plan, rows)
    for side, names in (("A", d.plans_a), ("B", d.plans_b)):
        if names:
            yield _text(f"planned only in {side}: {', '.join(names)}")
    tables = [table for table in d.tables if not table.same]
    if tables:
        listed = _table("table", "rows in A", "rows in B")
        for each in tables:
            listed.add_row(_cell(each.table, 20), *_numbers(each.a, each.b))
        yield from _titled("Tables whose rows differ", listed)


def _crossings(sources: SourceChanges, rows: int) -> Iterator[RenderableType]:
    total = sum(sources.crossings.values())
    ways = ", ".join(f"{count:,} {way}" for way, count in sources.crossings.items())
    yield Text(one_line(f"!! {total:,} sources crossed the split: {ways}"), style=LOUD)
    table = _table("source", "A", "B", "samples")
    for row in _cut(sources.crossed, rows):
        table.add_row(_cell(row.source, 44), _cell(row.a, 10), _cell(row.b, 10), f"{row.samples:,}", style="red")
    yield from _titled("", table, total - len(_cut(sources.crossed, rows)))


def _sources(sources: SourceChanges, rows: int) -> Iterator[RenderableType]:
    table = _table("change", "sources")
    for change, count in sources.counts.items():
        table.add_row(_cell(WORDS.get(change, change), 24), f"{count:,}")
    yield from _titled(f"Sources: {sources.a:,} in A, {sources.b:,} in B", table)
    examples = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("change", "source", "A", "B and why"):
        examples.add_column(column, overflow="fold")
    for row in _cut(sources.examples, rows):
        after = " ".join(part for part in (row.b or "-", f"({one_line(row.why, 90)})" if row.why else "") if part)
        examples.add_row(_cell(row.change, 10), _cell(row.source, 60), _cell(row.a or "-", 32), _cell(after, 140))
    yield from _titled("", examples)


def _plan(plan: PlanChange, rows: int) -> Iterator[RenderableType]:
    changed = [stage for stage in plan.stages if _changed(stage)]
    if not changed and not plan.fields:
        return
    title = f"Plan {plan.recipe_a}" + (f" -> {plan.recipe_b}" if plan.recipe_b != plan.recipe_a else "")
    if plan.fields:
        yield from _titled(f"{title}: fields", _fields(plan.fields, rows))
    table = _table("stage", "split", "A", "B", "same", "moved", "new", "gone", "kept")
    for stage in changed:
        for row in stage.sequences:
            kept = f"{row.same / row.a:.1%}" if row.a else "-"
            table.add_row(
                str(stage.stage), _cell(row.split, 9), *_numbers(row.a, row.b, row.same, row.moved, row.new, row.gone), kept
            )
    yield from _titled(f"{title}: sequences", table)
    table = _table("stage", "fill A", "B", "steps A", "B", "dearest/mean step A", "B", "samples new", "gone")
    for stage in changed:
        a, b = stage.a, stage.b
        table.add_row(
            str(stage.stage),
            *(f"{side.fill:.2%}" if side else "-" for side in (a, b)),
            *(f"{side.steps:,}" if side else "-" for side in (a, b)),
            *(f"{side.unevenness:.3f}" if side and side.unevenness is not None else "-" for side in (a, b)),
            *_numbers(stage.samples_new, stage.samples_gone),
        )
    yield from _titled("", table)
    table = _table("stage", "ingredient", "wanted A", "B", "placed A", "B", "change")
    for stage in changed:
        for entry in stage.mixture:
            if (entry.wanted_a, entry.placed_a) != (entry.wanted_b, entry.placed_b):
                figures = (entry.wanted_a, entry.wanted_b, entry.placed_a, entry.placed_b)
                change = _signed((entry.placed_b or 0) - (entry.placed_a or 0))
                table.add_row(str(stage.stage), _cell(entry.task, 22), *map(_short, figures), change)
    yield from _titled("Mixture, in tokens", table)


def _changed(stage: StageChange) -> bool:
    return stage.a != stage.b or any(row.new or row.gone or row.moved for row in stage.sequences)


def _fields(fields: Sequence[object], rows: int) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("field", "A", "B"):
        table.add_column(column, overflow="fold")
    for change in _cut(fields, rows):
        values = (getattr(change, side) for side in ("a", "b"))
        table.add_row(_cell(change.field, 60), *(_cell("-" if value is None else value, 120) for value in values))
    if len(fields) > len(_cut(fields, rows)):
        table.add_row(f"... {len(fields) - rows:,} more", "", "")
    return table


def _titled(title: str, table: Table, more: int = 0) -> Iterator[RenderableType]:
    if not table.row_count:
        return
    yield Text("")
    if title:
        yield _text(title, style="bold")
    yield table
    if more > 0:
        yield _text(f"... {more:,} more; --limit 0 or --json shows all")


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    words = {"task", "source", "context", "duration", "table", "stage", "reason", "licence", "change", "split", "ingredient"}
    for column in columns:
        last_of_losses = column == "change" and columns[0] != "change"
        table.add_column(column, justify="left" if column in words and not last_of_losses else "right", overflow="fold")
    return table


def _cut(rows: Sequence[object], most: int) -> list[Any]:
    return list(rows[:most] if most else rows)


def _cell(value: str, most: int) -> Text:
    return Text(one_line(value, most))


def _text(value: str, *, style: str = "", lines: bool = False) -> Text:
    return Text("\n".join(one_line(line) for line in value.split("\n")) if lines else one_line(value), style=style)


def _numbers(*values: int) -> list[str]:
    return [f"{value:,}" for value in values]


def _short(value: int | None) -> str:
    """Four figures and a unit: ``1.943 M``."""
    if value is None:
        return "-"
    for limit, unit in ((10**12, "T"), (10**9, "G"), (10**6, "M")):
        if value >= limit:
            return f"{value / limit:.4g} {unit}"
    return f"{value:,}"


def _signed(value: int) -> str:
    return f"{value:+,}" if value else "0"
