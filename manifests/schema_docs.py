"""The tables and ready questions of a corpus in words, from the schemas and questions themselves.

    python -m manifests.schema_docs > docs/tables.md

A test fails while ``docs/tables.md`` says something else.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from manifests import migration, schemas
from manifests.corpus import Corpus
from manifests.errors import UsageError
from manifests.queries import QUESTIONS
from manifests.queries.question import Parameter


@dataclass(frozen=True, kw_only=True)
class Described:
    """One column, or one field of a nested column.

    Attributes:
        name: dotted, ``[]`` behind what is a list above it: ``messages[].parts[].kind``.
        depth: 0 for a column.
    """

    name: str
    kind: str
    meaning: str
    depth: int


def describe(table: str) -> list[Described]:
    """Every column of a table in order, each followed by its fields where it is nested.

    Raises:
        UsageError: there is no such table.
    """
    if table not in schemas.TABLES:
        raise UsageError(f"there is no table {table!r}: {', '.join(schemas.TABLES)}")
    return [each for field in schemas.TABLES[table] for each in _described(field, field.name, 0)]


def _described(field: pa.Field, name: str, depth: int) -> Iterator[Described]:
    inner, brackets = field.type, ""
    while pa.types.is_list(inner):
        inner, brackets = inner.value_type, brackets + "[]"
    meaning = (field.metadata or {}).get(b"meaning", b"").decode()
    null = ", may be null" if field.nullable and depth == 0 else ""
    yield Described(name=name, kind=_kind(inner) + brackets + null, meaning=meaning, depth=depth)
    for child in inner if pa.types.is_struct(inner) else ():
        yield from _described(child, f"{name}{brackets}.{child.name}", depth + 1)


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_struct(kind):
        return "struct"
    if pa.types.is_map(kind):
        return f"map of {kind.key_type} to {kind.item_type}"
    return str(kind)


def parameter_words(parameter: Parameter) -> str:
    """A parameter in one line."""
    if parameter.required:
        return f"{parameter.name}: {parameter.meaning}"
    default = "optional" if parameter.default is None else f"default {parameter.default}"
    return f"{parameter.name}: {parameter.meaning} ({default})"


def tables_value(corpus: Corpus, table: str | None) -> dict[str, Any]:
    """The columns of one table, or what each table is and the versions of the corpus: for JSON."""
    if table is not None:
        return {"table": table, "columns": [dataclasses.asdict(column) for column in describe(table)]}
    return {"tables": schemas.ABOUT, "versions": corpus.versions(), "writes": schemas.VERSION}


def questions_value() -> list[dict[str, Any]]:
    """Every ready question, its SQL and its parameters: for JSON."""
    return [
        {
            "name": question.name,
            "asks": question.asks,
            "sql": question.sql.strip(),
            "parameters": [
                {"name": each.name, "meaning": each.meaning, "kind": each.kind.__name__, "default": each.default,
                 "required": each.required}
                for each in question.parameters
            ],
        }
        for question in QUESTIONS.values()
    ]  # fmt: skip


def markdown() -> str:
    """The whole of ``docs/tables.md``."""
    return "\n".join([*_tables(), "", *_questions(), "", *_versions()]) + "\n"


def _tables() -> Iterator[str]:
    yield "# Tables and ready questions"
    yield ""
    yield "Made by `python -m manifests.schema_docs > docs/tables.md` from `manifests/schemas.py` and `manifests/queries/`."
    yield f"The tables have version {schemas.VERSION}. In the terminal: `longreel query CORPUS --tables [NAME]`."
    yield ""
    yield "Every table is Parquet under `CORPUS/TABLE/`, Hive-partitioned (`origin=`, `recipe=`, `stage=`, and the buckets for"
    yield "`samples`); `runs` is JSON. The partition's columns stand in the files too. Ids carry Bloom filters."
    for table in schemas.TABLES:
        yield ""
        yield f"## {table}"
        yield ""
        yield schemas.ABOUT[table]
        yield ""
        yield "| column | type | meaning |"
        yield "|---|---|---|"
        for column in describe(table):
            yield f"| `{column.name}` | {column.kind} | {_cell(column.meaning)} |"


def _questions() -> Iterator[str]:
    yield "## Ready questions"
    yield ""
    yield "`longreel query CORPUS --named NAME [--param NAME=VALUE]`; each is one SELECT in `manifests/queries/`."
    yield ""
    yield "| name | asks | parameters |"
    yield "|---|---|---|"
    for question in QUESTIONS.values():
        yield f"| `{question.name}` | {_cell(question.asks)} | {_cell('; '.join(map(parameter_words, question.parameters)))} |"


def _versions() -> Iterator[str]:
    yield "## Versions"
    yield ""
    yield "A step's record in `steps/` says the version of the tables it wrote. Older ones are read as today's; a newer one is"
    yield "refused."
    yield ""
    for change in migration.CHANGES:
        yield f"- {change.version}: {migration.in_words(change)}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(markdown())
