"""Files that appear whole or not at all, and byte-identical for equal content.

A file is written beside its final name under a name of its own, forced to disk, and renamed over it; the rename is atomic on a
local POSIX file system, so that of several writers each leaves a whole file and the last one stands. The folder is forced to
disk too: a file that was there before a power cut is there after it (0.1 ms a file here; the bytes themselves take 0.3 ms).
Parquet is written with fixed settings and without a creation time, so equal rows give equal bytes.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

ROW_GROUP = 65_536
GROUP_BYTES = 8 * 2**20
BATCH_ROWS = 512
ID_COLUMNS = frozenset({"sample_id", "source_id", "sequence_id", "media_id", "duplicate_cluster"})
"""Columns of content hashes: whoever asks for one value of these must not read the whole table."""
UNREPEATED = {
    "samples": "sample_id",
    "segments": "sample_id",
    "media": "media_id",
    "sources": "source_id",
    "sequences": "sequence_id",
}
"""By table, the id that nearly every row has another of."""
FALSE_POSITIVES = 0.01


@contextlib.contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Opens a stream whose bytes become ``path`` when the block ends well; nothing appears when it does not."""
    _make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.part")
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        settle(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _make_folder(folder: Path) -> None:
    """Makes a folder that stays after a power cut: every folder above it that was missing is forced to disk as well."""
    missing = [folder]
    while not missing[-1].exists() and missing[-1] != missing[-1].parent:
        missing.append(missing[-1].parent)
    folder.mkdir(parents=True, exist_ok=True)
    for above in missing[1:]:
        settle(above)


def settle(folder: Path) -> None:
    """Forces the names in a folder to disk, where the file system can do that."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # some network file systems have no such call
            raise
    finally:
        os.close(descriptor)


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


def read_json_lines(path: Path) -> list[Any]:
    """The whole lines of a file that is appended to; none without it. What a killed process left of one is left out."""
    if not path.is_file():
        return []
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        with contextlib.suppress(json.JSONDecodeError):
            found.append(json.loads(line))
    return found


def remove(path: Path) -> None:
    """Removes a file, so that it is also gone after a power cut."""
    path.unlink(missing_ok=True)
    settle(path.parent)


def parquet_options(schema: pa.Schema, rows: int) -> dict[str, Any]:
    """How every Parquet file of a corpus is written: keyword arguments of `pyarrow.parquet.write_table` and ``ParquetWriter``.

    Ids are what point look-ups read, so they are written for reading: Bloom filters let a reader skip row groups without the id
    (1.5 bytes a row; among 10 million samples a look-up reads one or two row groups instead of hundreds), and their pages are
    not compressed (a hash shrinks to 16 of its 32 bytes, and unpacking takes half the time of a scan). Where every row has
    another id, a dictionary of them would only cost.

    Args:
        rows: rows of the file, or of its row groups where they are fewer than `ROW_GROUP`; what the filters are sized for.
    """
    ids = {field.name for field in schema if field.name in ID_COLUMNS and pa.types.is_string(field.type)}
    leaves = [leaf for field in schema for leaf in _leaves(field.name, field.type)]
    table = (schema.metadata or {}).get(b"longreel.table", b"").decode()
    options: dict[str, Any] = {
        "compression": {leaf: "none" if leaf in ids else "zstd" for leaf in leaves},
        "use_dictionary": [leaf for leaf in leaves if leaf != UNREPEATED.get(table)],
        "version": "2.6",
        "store_schema": True,
    }
    if ids and rows:
        distinct = min(rows, ROW_GROUP)
        options["bloom_filter_options"] = {name: {"ndv": distinct, "fpp": FALSE_POSITIVES} for name in sorted(ids)}
    return options


def _leaves(path: str, kind: pa.DataType) -> list[str]:
    """The paths of a column's values in Parquet, e.g. ``messages.list.element.role``."""
    if pa.types.is_struct(kind):
        return [leaf for field in kind for leaf in _leaves(f"{path}.{field.name}", field.type)]
    if pa.types.is_map(kind):
        pair = f"{path}.key_value"
        return _leaves(f"{pair}.key", kind.key_type) + _leaves(f"{pair}.value", kind.item_type)
    if pa.types.is_list(kind):
        return _leaves(f"{path}.list.element", kind.value_type)
    return [path]


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
        pq.write_table(table, stream, row_group_size=ROW_GROUP, **parquet_options(schema, len(table)))


def write_row_stream(path: Path, rows: Iterable[dict[str, Any]], schema: pa.Schema) -> int:
    """Writes rows as they come as one Parquet file, whole or not at all; returns how many there were, and writes none for none.

    The bytes are those of `write_rows` as long as the rows fill one group. A group ends at `ROW_GROUP` rows or `GROUP_BYTES` of
    columns, so that memory does not grow with the file.

    Raises:
        pa.ArrowInvalid: a row does not fit the schema.
    """
    groups = _groups(rows, schema)
    first = next(groups, None)
    if first is None:
        return 0
    second = next(groups, None)
    # Groups after the first may hold more rows: shorter ones.
    distinct = len(first) if second is None else 2 * len(first)
    count = 0
    with writing(path) as stream, pq.ParquetWriter(stream, schema, **parquet_options(schema, distinct)) as writer:
        for group in itertools.chain([first], [] if second is None else [second], groups):
            writer.write_table(group, row_group_size=ROW_GROUP)
            count += len(group)
    return count


def _groups(rows: Iterable[dict[str, Any]], schema: pa.Schema) -> Iterator[pa.Table]:
    group: list[pa.Table] = []
    count = size = 0
    ahead = iter(rows)
    while batch := list(itertools.islice(ahead, BATCH_ROWS)):
        group.append(pa.Table.from_pylist(batch, schema=schema))
        count, size = count + len(batch), size + group[-1].nbytes
        if count + BATCH_ROWS > ROW_GROUP or size >= GROUP_BYTES:
            yield pa.concat_tables(group).combine_chunks()
            group, count, size = [], 0, 0
    if group:
        yield pa.concat_tables(group).combine_chunks()


def read_row_stream(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, a few at a time."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=BATCH_ROWS):
            yield from batch.to_pylist()


def remove_leftovers(folder: Path) -> int:
    """Removes temporary files that a killed process left under ``folder``; returns how many there were."""
    leftovers = [path for path in folder.rglob(".*.part") if path.is_file()]
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)
