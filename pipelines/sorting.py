"""Rows in order, however many there are, in a few megabytes: SQLite sorts them on disk."""

from __future__ import annotations

import contextlib
import pickle
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

_TYPES = (str, int, type(None))


def sorted_rows(rows: Iterable[dict[str, Any]], by: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The same rows, sorted by columns of text or whole numbers: missing values first, text by its code points.

    Raises:
        TypeError: a column to sort by holds something else.
    """
    # No name: a private file that SQLite deletes, and opens only when its pages outgrow two megabytes.
    with contextlib.closing(sqlite3.connect("")) as database:
        keys = ", ".join(f"key{place}" for place in range(len(by)))
        database.execute(f"CREATE TABLE rows ({keys}, packed BLOB)")
        marks = ", ".join("?" * (len(by) + 1))
        database.executemany(f"INSERT INTO rows VALUES ({marks})", ((*_keys(row, by), pickle.dumps(row)) for row in rows))
        for (packed,) in database.execute(f"SELECT packed FROM rows ORDER BY {keys}"):
            yield pickle.loads(packed)


def _keys(row: dict[str, Any], by: tuple[str, ...]) -> tuple[Any, ...]:
    keys = tuple(row[name] for name in by)
    for name, key in zip(by, keys, strict=True):
        if not isinstance(key, _TYPES):
            raise TypeError(f"rows cannot be sorted by {name}={key!r}")
    return keys
