"""Two corpora in one DuckDB connection, as the schemas ``a`` and ``b``: ``a.samples`` beside ``b.samples``.

Views only, those of `manifests.catalog`: nothing is copied, finished steps alone are seen, older versions are shown as today's.
Joins that outgrow `MEMORY` go to a temporary folder, which is removed with the connection.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import duckdb

from manifests import schemas
from manifests.catalog import first_line, view_statements
from manifests.corpus import Corpus
from manifests.errors import CorruptCorpusError
from manifests.places import filesystem

Side = Literal["a", "b"]
MEMORY = "3GiB"
TABLES = tuple(name for name in schemas.TABLES if name != "runs")


class Sides:
    """Both corpora.

    Args:
        a, b: folders or addresses of the corpora; may be the same.

    Raises:
        UsageError: a folder holds no corpus.
        CorruptCorpusError: a file that a step's record lists is missing or cannot be read.
    """

    def __init__(self, a: Path, b: Path) -> None:
        self.corpora: dict[Side, Corpus] = {"a": Corpus.open(a), "b": Corpus.open(b)}
        self.spill = tempfile.TemporaryDirectory(prefix="longreel-diff-")
        self.connection = duckdb.connect()
        self.connection.execute("SET preserve_insertion_order = false")
        self.connection.execute(f"SET memory_limit = '{MEMORY}'")
        self.connection.execute("SET temp_directory = ?", [self.spill.name])
        for store in {type(found): found for corpus in self.corpora.values() if (found := filesystem(corpus.folder))}.values():
            self.connection.register_filesystem(store)
        for side, corpus in self.corpora.items():
            self.rows(f"CREATE SCHEMA {side}")
            for table, statement in view_statements(corpus).items():
                if table in TABLES:
                    self.rows(statement.replace(f"CREATE VIEW {table} ", f"CREATE VIEW {side}.{table} ", 1))

    def rows(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query.

        Raises:
            CorruptCorpusError: a file of either corpus cannot be read.
        """
        try:
            return self.connection.execute(query, parameters).fetchall()
        except duckdb.Error as error:
            folders = " or ".join(dict.fromkeys(str(corpus.folder) for corpus in self.corpora.values()))
            raise CorruptCorpusError(f"{folders} cannot be read: {first_line(error)}; `longreel check` says more") from error

    def columns(self, side: Side, table: str) -> set[str]:
        """Names of a table's columns on one side."""
        return {row[0] for row in self.rows(f"DESCRIBE {side}.{table}")}

    def close(self) -> None:
        """Ends the connection and removes what it spilled."""
        self.connection.close()
        self.spill.cleanup()
