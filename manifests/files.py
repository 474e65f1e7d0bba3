"""Files that appear whole or not at all, and byte-identical for equal content.

A file is written beside its final name and renamed over it; the rename is atomic on a local POSIX file system. Parquet is
written with fixed settings and without a creation time, so equal rows give equal bytes.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq


@contextlib.contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Opens a stream whose bytes become ``path`` when the block ends well; nothing appears when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.part")
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Writes ``data`` to ``path``, whole or not at all."""
    with writing(path) as stream:
        stream.write(data)


def write_json(path: Path, value: Any) -> None:
    """Writes ``value`` as indented JSON with sorted keys and a last newline, whole or not at all."""
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        json.JSONDecodeError: the file is not JSON.
    """
    return json.loads(path.read_text(encoding="utf-8"))


def write_rows(path: Path, rows: list[dict[str, Any]] | pa.Table, schema: pa.Schema) -> None:
    """Writes ``rows`` (or columns, for many of them) as one Parquet file in the given order, whole or not at all.

    Raises:
        pa.ArrowInvalid: a row does not fit the schema.
        TypeError: a column has another type than the schema's.
        KeyError: a column is missing.
    """
    if isinstance(rows, pa.Table):
        table = pa.Table.from_arrays(rows.select(schema.names).columns, schema=schema)
    else:
        table = pa.Table.from_pylist(rows, schema=schema)
    with writing(path) as stream:
        pq.write_table(table, stream, compression="zstd", version="2.6", store_schema=True, row_group_size=65_536)


def remove_leftovers(folder: Path) -> int:
    """Removes temporary files that a killed process left under ``folder``; returns how many there were."""
    leftovers = [path for path in folder.rglob(".*.part") if path.is_file()]
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)
