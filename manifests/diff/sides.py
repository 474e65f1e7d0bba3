"""Two corpora in one DuckDB connection, as the schemas ``a`` and ``b``: ``a.samples`` beside ``b.samples``.

Views only: nothing is copied. A table whose step has not run is an empty view with all its columns, as in `manifests.Catalog`.
Joins that outgrow `MEMORY` go to a temporary folder, which is removed with the connection.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import duckdb

from manifests import schemas
from manifests.corpus import Corpus
from manifests.errors import CorruptCorpusError

Side = Literal["a", "b"]
MEMORY = "3GiB"
TABLES = tuple(name for name in schemas.TABLES if name != "runs")


class Sides:
    """Both corpora.

    Args:
        a, b: folders of the corpora; may be the same.

    Raises:
        UsageError: a folder holds no corpus.
    """

    def __init__(self, a: Path, b: Path) -> None:
        self.corpora: dict[Side, Corpus] = {"a": Corpus.open(a), "b": Corpus.open(b)}
        self.spill = tempfile.TemporaryDirectory(prefix="longreel-diff-")
        self.connection = duckdb.connect()
        self.connection.execute("SET preserve_insertion_order = false")
        self.connection.execute(f"SET memory_limit = '{MEMORY}'")
        self.connection.execute("SET temp_directory = ?", [self.spill.name])
        for side, corpus in self.corpora.items():
            self.connection.execute(f"CREATE SCHEMA {side}")
            for table in TABLES:
                self._view(side, corpus, table)

    def _view(self, side: Side, corpus: Corpus, table: str) -> None:
        schema = schemas.TABLES[table]
        if next((corpus.folder / table).rglob("*.parquet"), None) is None:
            self.connection.register(f"_empty_{table}", schema.empty_table())
            select = f"SELECT *, NULL::VARCHAR AS filename FROM _empty_{table}"
        else:
            place = str(corpus.folder / table / "**" / "*.parquet").replace("'", "''")
            files = f"read_parquet('{place}', hive_partitioning=false, union_by_name=true, filename=true)"
            held = {row[0] for row in self.rows(f"DESCRIBE SELECT * FROM {files}")}
            missing = [f"NULL AS {name}" for name in schema.names if name not in held]  # written before the column was added
            select = f"SELECT {', '.join(['*', *missing])} FROM {files}"
        self.connection.execute(f"CREATE VIEW {side}.{table} AS {select}")

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query.

        Raises:
            CorruptCorpusError: a file of either corpus cannot be read.
        """
        try:
            return self.connection.execute(query, list(parameters)).fetchall()
        except duckdb.Error as error:
            folders = " or ".join(dict.fromkeys(str(corpus.folder) for corpus in self.corpora.values()))
            raise CorruptCorpusError(
                f"{folders} cannot be read: {str(error).splitlines()[0]}: run `longreel check` on it"
            ) from error

    def close(self) -> None:
        """Ends the connection and removes what it spilled."""
        self.connection.close()
        self.spill.cleanup()
