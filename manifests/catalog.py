"""DuckDB over a corpus in place: one view for each table of `manifests.schemas`, read only, no server.

A table whose step has not run yet is an empty view with all its columns, so that a query fails on a wrong name, never on a step
that is still to come.
"""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa

from manifests import schemas
from manifests.corpus import Corpus
from manifests.errors import UsageError


class Catalog:
    """The tables of a corpus in SQL.

    Args:
        folder: the corpus.

    Raises:
        UsageError: the folder holds no corpus.
    """

    def __init__(self, folder: Path | str) -> None:
        self.corpus = Corpus.open(folder)
        self.connection = duckdb.connect()
        self.connection.execute("SET preserve_insertion_order = true")
        for table, schema in schemas.TABLES.items():
            self._view(table, schema)

    def _view(self, table: str, schema: pa.Schema) -> None:
        pattern = "runs/*.json" if table == "runs" else f"{table}/**/*.parquet"
        if next(self.corpus.folder.glob(pattern), None) is None:
            self.connection.register(f"_empty_{table}", schema.empty_table())
            self.connection.execute(f"CREATE VIEW {table} AS SELECT * FROM _empty_{table}")
            return
        location = _quoted(str(self.corpus.folder / pattern))
        if table == "runs":
            columns = ", ".join(f"{field.name}: '{_sql_type(field.type)}'" for field in schema)
            self.connection.execute(
                f"CREATE VIEW runs AS SELECT * FROM read_json({location}, columns={{{columns}}}) ORDER BY started, step"
            )
        else:
            self.connection.execute(f"CREATE VIEW {table} AS SELECT * FROM read_parquet({location}, hive_partitioning=false)")

    def sql(self, text: str) -> duckdb.DuckDBPyRelation:
        """The result of one SELECT (DESCRIBE, SUMMARIZE, SHOW and EXPLAIN too) as a DuckDB relation.

        Raises:
            UsageError: the statement is wrong, with DuckDB's own words; there are several; or it would change something.
        """
        try:
            kinds = [statement.type for statement in self.connection.extract_statements(text)]
            if len(kinds) != 1 or kinds[0] not in (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN):
                given = ", ".join(kind.name for kind in kinds) or "nothing"
                raise UsageError(f"a query is one SELECT, and this is {given}: a corpus is only read here")
            relation = self.connection.sql(text)
        except duckdb.Error as error:
            raise UsageError(f"the query failed: {str(error).splitlines()[0]}") from error
        if relation is None:
            raise UsageError("the query returns no rows: give one SELECT")
        return relation


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _sql_type(kind: pa.DataType) -> str:
    return "DOUBLE" if pa.types.is_floating(kind) else "VARCHAR"
