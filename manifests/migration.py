"""Older tables read as today's: the rule of `manifests.schemas.VERSION`, as code.

`CHANGES` lists what each version changed. From it both readers follow: the SQL of a view over old files (`select_list`), and
Arrow tables from one file (`read_rows`). Files are never rewritten; a step that runs anew writes today's version. A version is
frozen when it is released: its columns then stand in ``tests/manifests/schema_versions``, and a test fails when `CHANGES` does
not lead from there to today's schemas.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from manifests import schemas
from manifests.errors import CorruptCorpusError, UsageError


@dataclass(frozen=True, kw_only=True)
class NewTable:
    """A table that older corpora do not have: empty there."""

    version: int
    table: str


@dataclass(frozen=True, kw_only=True)
class Added:
    """A column that older files do not have.

    Attributes:
        default: what it is there: a string, number, truth value, or None for null.
    """

    version: int
    table: str
    column: str
    default: str | int | float | bool | None = None


@dataclass(frozen=True, kw_only=True)
class Renamed:
    """A column that older files have under another name, with the same meaning and type."""

    version: int
    table: str
    old: str
    new: str


@dataclass(frozen=True, kw_only=True)
class Removed:
    """A column that older files still have: nobody reads it."""

    version: int
    table: str
    column: str


Change = NewTable | Added | Renamed | Removed

CHANGES: Sequence[Change] = (
    Added(version=2, table="sources", column="tokens"),
    # A reader that knows Hive partitions took `origin=curate` of the path for this column.
    Renamed(version=2, table="sources", old="origin", new="came_from"),
    Added(version=2, table="sequences", column="flops"),
    Added(version=2, table="stages", column="kept_sequences"),
    Added(version=2, table="stages", column="bound"),
    Added(version=2, table="stages", column="longest"),
    Added(version=2, table="stages", column="visible_pairs"),
    Added(version=2, table="stages", column="read_pairs"),
    Added(version=2, table="stages", column="flops"),
    Added(version=2, table="stages", column="distinct_samples"),
    Added(version=2, table="stages", column="distinct_sources"),
    Added(version=2, table="stages", column="top_sources"),
    Added(version=2, table="stages", column="unevenness"),
    NewTable(version=2, table="requests"),
    NewTable(version=2, table="costs"),
)
"""Oldest first. Version 2 is not released: changes join it."""


def in_words(change: Change) -> str:
    """A change as a line of documentation."""
    if isinstance(change, NewTable):
        return f"table `{change.table}` is new"
    if isinstance(change, Renamed):
        return f"`{change.table}.{change.old}` is now `{change.new}`"
    if isinstance(change, Removed):
        return f"`{change.table}.{change.column}` is gone"
    return (
        f"`{change.table}.{change.column}` is new; {'null' if change.default is None else repr(change.default)} in older files"
    )


@dataclass(frozen=True)
class Default:
    """A column that an old file lacks, and what it is instead."""

    value: str | int | float | bool | None


def origins(table: str, version: int) -> dict[str, str | Default]:
    """For each of today's columns of a table: its name in files of ``version``, or what it is there."""
    found: dict[str, str | Default] = {name: name for name in schemas.TABLES[table].names}
    for change in reversed(CHANGES):
        if change.version <= version or change.table != table:
            continue
        for name, old in found.items():
            if isinstance(change, Added) and old == change.column:
                found[name] = Default(change.default)
            elif isinstance(change, Renamed) and old == change.new:
                found[name] = change.old
    return found


def require_known(version: int, where: str) -> None:
    """Refuses a version that is newer than this program.

    Raises:
        UsageError: it is.
    """
    if version > schemas.VERSION:
        raise UsageError(
            f"{where} has tables of version {version}, and this longreel reads up to {schemas.VERSION}: use a newer longreel"
        )


def select_list(table: str, version: int, kinds: dict[str, str]) -> str:
    """The columns of a SELECT that shows files of ``version`` as today's table.

    Args:
        kinds: DuckDB's type of each of today's columns.
    """
    columns = []
    for name, old in origins(table, version).items():
        if isinstance(old, Default):
            columns.append(f'CAST({_literal(old.value)} AS {kinds[name]}) AS "{name}"')
        else:
            columns.append(f'"{old}"' if old == name else f'"{old}" AS "{name}"')
    return ", ".join(columns)


def _literal(value: str | int | float | bool | None) -> str:
    if value is None:
        return "NULL"
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else json.dumps(value)


def version_of(schema: pa.Schema, where: str) -> int:
    """The version of the tables that a Parquet file was written with.

    Raises:
        CorruptCorpusError: the file does not say it.
    """
    said = (schema.metadata or {}).get(b"longreel.version", b"").decode("ascii", "replace")
    if not said.isdigit():
        raise CorruptCorpusError(f"{where} is not a table of longreel: it names no version")
    return int(said)


def read_rows(path: Path, table: str, columns: Sequence[str] | None = None) -> pa.Table:
    """One Parquet file of any known version, as today's table.

    Args:
        columns: today's names of the columns to read; all when None.

    Raises:
        CorruptCorpusError: the file is no table of this project, or lacks a column of its version.
        UsageError: its version is newer than this program.
    """
    return pa.Table.from_batches(read_batches(path, table, columns), schema=_wanted(table, columns))


def read_batches(
    path: Path, table: str, columns: Sequence[str] | None = None, *, batch_size: int = 65_536
) -> Iterator[pa.RecordBatch]:
    """The same in pieces of at most ``batch_size`` rows, for files that should not be in memory whole."""
    schema = _wanted(table, columns)
    with path.open("rb") as stream, pq.ParquetFile(stream) as file:
        there = file.schema_arrow
        version = version_of(there, str(path))
        require_known(version, str(path))
        known = origins(table, version)
        names = [old for name in schema.names if isinstance(old := known[name], str)]
        missing = [name for name in names if name not in there.names]
        if missing:
            raise CorruptCorpusError(f"{path} lacks column {missing[0]!r} of {table} version {version}: run its step again")
        for batch in file.iter_batches(batch_size=batch_size, columns=names or [there.names[0]]):
            arrays = [_column(batch, known[field.name], field) for field in schema]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _wanted(table: str, columns: Sequence[str] | None) -> pa.Schema:
    schema = schemas.TABLES[table]
    return schema if columns is None else pa.schema([schema.field(name) for name in columns], metadata=schema.metadata)


def _column(batch: pa.RecordBatch, old: str | Default, field: pa.Field) -> Any:
    if isinstance(old, Default):
        return pa.repeat(pa.scalar(old.value, type=field.type), len(batch))
    column = batch.column(old)
    return column if column.type == field.type else column.cast(field.type)
