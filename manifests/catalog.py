"""DuckDB over a corpus in place: one view for each table of `manifests.schemas`, read only, no server.

A view shows exactly the files that the records of finished steps list: a step that is being written, or was killed, is not
there yet, as a whole. A table whose step has not run is an empty view with all its columns, so that a query fails on a wrong
name, never on a step that is still to come. Files of an older version are shown as today's (`manifests.migration`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from manifests import schemas
from manifests.corpus import Corpus
from manifests.errors import CorruptCorpusError, LongreelError, UsageError
from manifests.migration import select_list
from manifests.places import filesystem
from manifests.queries import QUESTIONS, named, values_of

Value = str | int | float | None


class Catalog:
    """The tables of a corpus in SQL.

    Args:
        folder: the corpus; a local folder or an address, as `manifests.places` knows them.
        damaged: show what can be read of tables with missing or broken files, for the checks that report them.

    Raises:
        UsageError: the folder holds no corpus, or one of a newer version; there is no driver for the address.
        CorruptCorpusError: a file that a step's record lists is missing or is no Parquet file.
    """

    def __init__(self, folder: Path | str, *, damaged: bool = False) -> None:
        self.corpus = Corpus.open(folder)
        self.connection = duckdb.connect()
        store = filesystem(self.corpus.folder)
        if store is not None:
            self.connection.register_filesystem(store)
        for table, statement in view_statements(self.corpus, damaged=damaged).items():
            try:
                self.connection.execute(statement)
            except duckdb.Error as error:
                if not damaged:
                    raise CorruptCorpusError(
                        f"table {table} of {self.corpus.folder} cannot be read: {first_line(error)}; `longreel check` says more"
                    ) from error
                self.connection.execute(_empty_view(table))

    def named(self, name: str, given: Mapping[str, str | int] | None = None) -> duckdb.DuckDBPyRelation:
        """The answer to a question of `manifests.queries.QUESTIONS`.

        Args:
            given: values of its parameters, by name.

        Raises:
            UsageError: no such question, or a parameter is unknown, missing or of the wrong kind.
        """
        question = named(name, QUESTIONS)
        return self.sql(question.sql, values_of(question, given or {}))

    def sql(self, text: str, parameters: Mapping[str, Value] | None = None) -> duckdb.DuckDBPyRelation:
        """The result of one SELECT (DESCRIBE, SUMMARIZE, SHOW and EXPLAIN too) as a DuckDB relation.

        Args:
            parameters: values of ``$name`` in the statement.

        Raises:
            UsageError: the statement is wrong, with DuckDB's own words; there are several; or it would change something.
        """
        try:
            kinds = [statement.type for statement in self.connection.extract_statements(text)]
            if len(kinds) != 1 or kinds[0] not in (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN):
                given = ", ".join(kind.name for kind in kinds) or "nothing"
                raise UsageError(f"a query is one SELECT, and this is {given}: a corpus is only read here")
            relation = self.connection.sql(text, params=dict(parameters)) if parameters else self.connection.sql(text)
        except duckdb.Error as error:
            raise failed(error) from error
        if relation is None:
            raise UsageError("the query returns no rows: give one SELECT")
        return relation

    def rows(self, relation: duckdb.DuckDBPyRelation) -> list[tuple[Any, ...]]:
        """All rows of a relation.

        Raises:
            UsageError: reading them failed, with DuckDB's own words.
        """
        try:
            return relation.fetchall()
        except duckdb.Error as error:
            raise failed(error) from error


def view_statements(corpus: Corpus, *, damaged: bool = False) -> dict[str, str]:
    """For each table the SQL that makes its view, in DuckDB of any client.

    Raises:
        CorruptCorpusError: a file that a step's record lists is missing.
    """
    statements = {}
    for table in schemas.TABLES:
        if table == "runs":
            statements[table] = _runs_view(corpus)
            continue
        selects = []
        for version, paths in sorted(corpus.files_of(table).items()):
            there = _there(paths) if damaged else paths
            if not damaged and isinstance(corpus.folder, Path) and (lost := next((p for p in paths if not p.is_file()), None)):
                raise CorruptCorpusError(f"{lost} is missing: `longreel check` says what else; run its step again")
            if there:
                columns = "*" if version == schemas.VERSION else select_list(table, version, sql_types(table))
                names = ", ".join(quoted(no_pattern(str(path))) for path in there)
                selects.append(f"SELECT {columns} FROM read_parquet([{names}], hive_partitioning=false)")
        body = " UNION ALL BY NAME ".join(selects)
        statements[table] = f"CREATE VIEW {table} AS {body}" if body else _empty_view(table)
    return statements


def _there(paths: list[Path]) -> list[Path]:
    return [path for path in paths if path.is_file()]


def _runs_view(corpus: Corpus) -> str:
    paths = sorted((corpus.folder / "runs").glob("*.json"), key=str)
    if not paths:
        return _empty_view("runs")
    columns = ", ".join(f"{name}: '{kind}'" for name, kind in sql_types("runs").items())
    names = ", ".join(quoted(no_pattern(str(path))) for path in paths)
    return f"CREATE VIEW runs AS SELECT * FROM read_json([{names}], columns={{{columns}}}) ORDER BY started, step"


def _empty_view(table: str) -> str:
    columns = ", ".join(f'CAST(NULL AS {kind}) AS "{name}"' for name, kind in sql_types(table).items())
    return f"CREATE VIEW {table} AS SELECT {columns} WHERE false"


def sql_types(table: str) -> dict[str, str]:
    """DuckDB's type of each column of a table."""
    return {field.name: _sql_type(field.type) for field in schemas.TABLES[table]}


def _sql_type(kind: pa.DataType) -> str:
    if pa.types.is_struct(kind):
        return "STRUCT(" + ", ".join(f'"{field.name}" {_sql_type(field.type)}' for field in kind) + ")"
    if pa.types.is_map(kind):
        return f"MAP({_sql_type(kind.key_type)}, {_sql_type(kind.item_type)})"
    if pa.types.is_list(kind):
        return _sql_type(kind.value_type) + "[]"
    return {"string": "VARCHAR", "double": "DOUBLE", "int32": "INTEGER", "int64": "BIGINT", "bool": "BOOLEAN"}[str(kind)]


def quoted(value: str) -> str:
    """A string as SQL."""
    return "'" + value.replace("'", "''") + "'"


def no_pattern(path: str) -> str:
    """A path in which DuckDB sees no pattern: ``*``, ``?`` and ``[`` may stand in the name of a folder."""
    return re.sub(r"[*?[]", r"[\g<0>]", path)


def failed(error: duckdb.Error) -> LongreelError:
    """An error of DuckDB as one line."""
    return UsageError(f"the query failed: {first_line(error)}")


def first_line(error: Exception) -> str:
    """What an error says first."""
    return (str(error).splitlines() or [type(error).__name__])[0]
