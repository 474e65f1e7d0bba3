"""What a terminal shows of a corpus: rows, the documentation of its tables, the ready questions. Text from data stays text.

Rows that fit the width are a table, if need be with the words of its column names one below the other; wider ones are shown
one row below the other, a line a column, as a table of folded columns is read by nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from manifests import schemas
from manifests.corpus import Corpus
from manifests.printable import printable
from manifests.queries import QUESTIONS
from manifests.schema_docs import describe, parameter_words


def cell(value: Any) -> Text:
    """A value of DuckDB as one line; null is empty."""
    if value is None:
        return Text("")
    if isinstance(value, float):
        return Text(f"{value:.10g}")
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return Text(printable(", ".join(value)))
    return Text(printable(str(value)))


def rows_shown(names: Sequence[str], rows: Sequence[Sequence[Any]], console: Console) -> RenderableType:
    """Rows as a table, or one below the other when the terminal is too narrow for it."""
    numbers = [bool(rows) and all(isinstance(row[at], int | float | None) for row in rows) for at in range(len(names))]
    cells = [[cell(value) for value in row] for row in rows]
    for narrow in (False, True):
        headings = [printable(name).replace("_", "\n") if narrow else printable(name) for name in names]
        table = _table(collapse_padding=narrow)
        for heading, number in zip(headings, numbers, strict=True):
            table.add_column(Text(heading), overflow="fold", justify="right" if number else "left")
        for row in cells:
            table.add_row(*row)
        if not rows or Measurement.get(console, console.options.update(width=10_000), table).maximum <= console.width:
            return table
    return Group(*(_record(number, names, row) for number, row in enumerate(cells, start=1)))


def _record(number: int, names: Sequence[str], row: Sequence[Text]) -> RenderableType:
    table = _table(show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in zip(names, row, strict=True):
        if value.plain:
            table.add_row(Text(printable(name)), value)
    return Group(Text(f"row {number}", style="dim"), table)


def tables_shown(corpus: Corpus) -> RenderableType:
    """Every table in one line, and the versions of the corpus."""
    table = _table()
    for name in ("table", "columns", "a row"):
        table.add_column(name, justify="right" if name == "columns" else "left")
    for name, schema in schemas.TABLES.items():
        table.add_row(name, str(len(schema.names)), schemas.ABOUT[name])
    versions = ", ".join(f"{step} {version}" for step, version in corpus.versions().items())
    return Group(table, Text(printable(f"version of the tables: {versions}; this longreel writes {schemas.VERSION}")))


def table_shown(name: str) -> RenderableType:
    """The columns of one table."""
    table = _table()
    table.add_column("column", overflow="fold")
    table.add_column("type", overflow="fold")
    table.add_column("meaning")
    for column in describe(name):
        short = column.name.rpartition(".")[2] if column.depth else column.name
        table.add_row(Text("  " * column.depth + short), Text(column.kind), Text(column.meaning))
    return Group(Text(schemas.ABOUT[name]), table)


def questions_shown() -> RenderableType:
    """Every ready question with its parameters."""
    table = _table()
    table.add_column("question", no_wrap=True)
    table.add_column("asks")
    for question in QUESTIONS.values():
        words = [question.asks, *(f"  {parameter_words(parameter)}" for parameter in question.parameters)]
        table.add_row(question.name, Text("\n".join(words)))
    return Group(table, Text("longreel query CORPUS --named QUESTION --param NAME=VALUE"))


def _table(**options: Any) -> Table:
    return Table(box=None, header_style="bold", pad_edge=False, **options)
