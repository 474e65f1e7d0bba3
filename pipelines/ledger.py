"""The ledger: what is known of every finished item, and what becomes of it, in one SQLite file of the work folder.

Summaries of a hundred thousand items do not belong into a process's memory, and copies of them not into every worker's. The
verdict (`pipelines.verdict`) streams them into this file, decides there, and whoever writes a file of the corpus asks it for
the rows of that file alone. SQLite holds a few megabytes of pages whatever the size; it is in Python's standard library, sorts
on disk, and a finished ledger is opened read-only without locks, so that workers on other machines can share it.

A ledger appears whole or not at all and lives as long as the curation is unfinished. Its bytes are nobody's promise: what is
read from it is always in a stated order.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

from pipelines.duplicates import Signature

_SCHEMA = """
CREATE TABLE items (
    item INTEGER PRIMARY KEY, key TEXT NOT NULL, source TEXT NOT NULL, source_id TEXT NOT NULL, sha256 TEXT,
    bytes INTEGER NOT NULL, attached TEXT NOT NULL, licence TEXT NOT NULL, origin TEXT, status TEXT NOT NULL,
    modality TEXT NOT NULL, drops INTEGER NOT NULL, work TEXT NOT NULL, size REAL NOT NULL, described INTEGER NOT NULL,
    samples INTEGER NOT NULL DEFAULT 0, tokens INTEGER NOT NULL DEFAULT 0, cluster TEXT, split TEXT, shard INTEGER
);
CREATE TABLE signatures (
    item INTEGER PRIMARY KEY, kind TEXT NOT NULL, looks BLOB NOT NULL, windows BLOB NOT NULL, small BLOB NOT NULL,
    minhash BLOB NOT NULL, embedding BLOB NOT NULL, pictures TEXT NOT NULL
);
CREATE TABLE samples (
    item INTEGER NOT NULL, sample_id TEXT NOT NULL, task TEXT NOT NULL, context TEXT NOT NULL, duration TEXT,
    lineage INTEGER NOT NULL, tokens INTEGER NOT NULL, lost INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE media (
    item INTEGER NOT NULL, media_id TEXT NOT NULL, bytes INTEGER NOT NULL, lost INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE together (
    key TEXT NOT NULL, sample_id TEXT NOT NULL, task TEXT NOT NULL, context TEXT NOT NULL, lineage INTEGER NOT NULL,
    split TEXT NOT NULL, cluster TEXT NOT NULL
);
CREATE VIEW kept AS
SELECT task, context, duration, lineage, split FROM samples JOIN items USING (item) WHERE status = 'used' AND NOT lost
UNION ALL SELECT task, context, NULL, lineage, split FROM together;
CREATE TABLE dropped (
    item INTEGER NOT NULL, sample_id TEXT, task TEXT, stage TEXT NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL
);
"""
_INDEXES = """
CREATE UNIQUE INDEX items_key ON items (key);
CREATE UNIQUE INDEX items_source ON items (source);
CREATE INDEX samples_item ON samples (item);
CREATE INDEX media_item ON media (item);
"""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What the verdict needs to know of an item.

    Attributes:
        key: name of its finished file.
        samples: sample_id, task, context bucket, duration bucket, rows of lineage and total tokens of each sample.
        media: media_id and bytes of each picture.
        dropped: samples that were dropped when it was read.
        work: what models did for it, as `pipelines.finished.Finished.work`.
    """

    key: str
    source: str
    source_id: str
    sha256: str | None
    bytes: int
    attached: tuple[str, ...]
    licence: str
    origin: str | None
    status: str
    modality: str
    signature: Signature | None
    samples: tuple[tuple[str, str, str, str | None, int, int], ...]
    media: tuple[tuple[str, int], ...]
    dropped: int
    work: dict[str, dict[str, int]] = field(default_factory=dict)


@contextlib.contextmanager
def writing_ledger(path: Path, summaries: Iterable[Summary]) -> Iterator[sqlite3.Connection]:
    """A new ledger with these summaries, to be decided on in the block; it becomes ``path`` when the block ends well.

    Raises:
        sqlite3.IntegrityError: two summaries have one key or one source.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.part")
    try:
        with contextlib.closing(sqlite3.connect(temporary)) as ledger:
            # Durability comes from the renaming: what a killed process left is thrown away, never opened.
            ledger.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA temp_store = FILE;" + _SCHEMA)
            for item, summary in enumerate(summaries, start=1):
                _insert(ledger, item, summary)
            ledger.executescript(_INDEXES)
            yield ledger
            ledger.commit()
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _insert(ledger: sqlite3.Connection, item: int, summary: Summary) -> None:
    signature = summary.signature or Signature(kind="exact")
    values = (
        item, summary.key, summary.source, summary.source_id, summary.sha256, summary.bytes,
        json.dumps(summary.attached), summary.licence, summary.origin, summary.status, summary.modality, summary.dropped,
        json.dumps(summary.work), signature.size, signature.described,
    )  # fmt: skip
    ledger.execute(
        "INSERT INTO items (item, key, source, source_id, sha256, bytes, attached, licence, origin, status, modality, drops,"
        " work, size, described) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        values,
    )
    packed = (signature.looks, signature.windows, signature.small, signature.minhash, signature.embedding)
    ledger.execute(
        "INSERT INTO signatures VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (item, signature.kind, *packed, json.dumps(signature.pictures)),
    )
    ledger.executemany(
        "INSERT INTO samples (item, sample_id, task, context, duration, lineage, tokens) VALUES (?, ?, ?, ?, ?, ?, ?)",
        ((item, *sample) for sample in summary.samples),
    )
    ledger.executemany(
        "INSERT INTO media (item, media_id, bytes) VALUES (?, ?, ?)", ((item, *picture) for picture in summary.media)
    )


class Signatures(Sequence[Signature]):
    """The signatures of some items, each read when it is asked for.

    Args:
        items: numbers of the items, in the order in which they are compared.
    """

    def __init__(self, ledger: sqlite3.Connection, items: Sequence[int]) -> None:
        self.ledger, self.items = ledger, items

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, place: int) -> Signature: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Signature]: ...

    def __getitem__(self, place: int | slice) -> Signature | Sequence[Signature]:
        if isinstance(place, slice):
            return Signatures(self.ledger, self.items[place])
        kind, looks, windows, small, minhash, embedding, pictures, size, described = self.ledger.execute(
            "SELECT kind, looks, windows, small, minhash, embedding, pictures, size, described"
            " FROM signatures JOIN items USING (item) WHERE item = ?",
            (int(self.items[place]),),
        ).fetchone()
        return Signature(
            kind=kind,
            looks=looks,
            windows=windows,
            small=small,
            minhash=minhash,
            embedding=embedding,
            size=size,
            described=bool(described),
            pictures=tuple(json.loads(pictures)),
        )


@dataclass(kw_only=True)
class Fate:
    """What becomes of one item.

    Attributes:
        key: name of its finished file.
        drops: rows of `manifests.schemas.DROPPED` in its finished file.
        source_row: its row of `manifests.schemas.SOURCES`.
        lost_samples: ids of its samples that another source gives.
        lost_media: ids of its pictures that another source's shard holds.
        dropped: further rows of `manifests.schemas.DROPPED`.
    """

    key: str
    drops: int
    source_row: dict[str, Any]
    lost_samples: frozenset[str] = frozenset()
    lost_media: frozenset[str] = frozenset()
    dropped: list[dict[str, Any]] = field(default_factory=list)

    @property
    def used(self) -> bool:
        """Whether its samples are in the corpus."""
        return bool(self.source_row["status"] == "used")


class Ledger:
    """A finished ledger, to be read from.

    Args:
        path: what `writing_ledger` left.
    """

    def __init__(self, path: Path) -> None:
        self.ledger = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False)

    def close(self) -> None:
        """Closes the file."""
        self.ledger.close()

    def fates(self, chosen: str = "1", values: Sequence[Any] = ()) -> Iterator[Fate]:
        """The fates of items in order of their sources.

        Args:
            chosen, values: an SQL condition on ``items``, and the values of its parameters.
        """
        found = self.ledger.execute(
            "SELECT item, key, drops, source_id, source, modality, bytes, sha256, attached, licence, origin, status, samples,"
            f" tokens, cluster, split FROM items WHERE {chosen} ORDER BY source",
            values,
        )
        for item, key, drops, *row in found:
            names = (
                "source_id",
                "source",
                "modality",
                "bytes",
                "sha256",
                "attached",
                "licence",
                "came_from",
                "status",
                "samples",
            )
            source_row = dict(zip((*names, "tokens", "duplicate_cluster", "split"), row, strict=True))
            source_row["attached"] = json.loads(source_row["attached"])
            yield Fate(
                key=key,
                drops=drops,
                source_row=source_row,
                lost_samples=self._lost("sample_id", "samples", item),
                lost_media=self._lost("media_id", "media", item),
                dropped=[
                    {
                        "source": source_row["source"],
                        "source_id": source_row["source_id"],
                        "sample_id": sample_id,
                        "task": task,
                        "stage": stage,
                        "reason": reason,
                        "detail": detail,
                    }
                    for sample_id, task, stage, reason, detail in self.ledger.execute(
                        "SELECT sample_id, task, stage, reason, detail FROM dropped WHERE item = ? ORDER BY rowid", (item,)
                    )
                ],
            )

    def together(self) -> Iterator[tuple[str, dict[str, str]]]:
        """The samples of several sources: key of the finished file, and split and cluster, in order of the keys."""
        for key, split, cluster in self.ledger.execute("SELECT key, split, cluster FROM together ORDER BY key"):
            yield key, {"split": split, "duplicate_cluster": cluster}

    def _lost(self, name: str, table: str, item: int) -> frozenset[str]:
        return frozenset(
            lost for (lost,) in self.ledger.execute(f"SELECT {name} FROM {table} WHERE item = ? AND lost", (item,))
        )

    def pictures(self, shard: int) -> Iterator[tuple[str, str, str]]:
        """media_id, key of the item and source_id of each picture of a shard, in order of media_id."""
        yield from self.ledger.execute(
            "SELECT media_id, key, source_id FROM items JOIN media USING (item) WHERE shard = ? AND NOT lost ORDER BY media_id",
            (shard,),
        )
