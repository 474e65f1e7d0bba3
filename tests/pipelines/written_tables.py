"""What curation wrote, read without any of our code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq


def rows(corpus: Path, table: str) -> list[dict[str, Any]]:
    """All rows of a table."""
    return [row for path in sorted((corpus / table).rglob("*.parquet")) for row in pq.ParquetFile(path).read().to_pylist()]
