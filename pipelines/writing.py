"""The files of a corpus, each written whole from what lies on disk: the ledger, the finished items, the places of pictures.

What is to be written travels as a name. A file asks the ledger which items have rows in it, reads those one by one, sorts the
rows on disk and writes them in groups, so that a worker's memory does not depend on how many items there are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from manifests import files, schemas
from manifests.corpus import Corpus
from manifests.fingerprint import sha256_bytes
from manifests.recipe import Recipe
from manifests.shards import MediaItem, write_shard
from pipelines.finished import finished_path, read_finished
from pipelines.kept import Places, pictures_at
from pipelines.ledger import Fate, Ledger
from pipelines.sorting import sorted_rows
from pipelines.verdict import Verdict

SORTED_BY: dict[str, tuple[str, ...]] = {
    "samples": ("sample_id",),
    "lineage": ("sample_id", "message", "part", "frame"),
    "media": ("media_id",),
    "sources": ("source",),
    "quarantine": ("source",),
    "dropped": ("source", "sample_id", "task", "reason", "detail"),
    "annotations": ("source",),
}
_SPLIT_BY = {"samples": "sample_id", "lineage": "sample_id", "media": "media_id"}
_ITEMS_KEPT = 64


@dataclass(frozen=True, kw_only=True)
class TableFile:
    """One Parquet file: a partition of a table, and of that the ``part``-th of ``parts`` ranges of ids."""

    table: str
    context: str | None = None
    duration: str | None = None
    part: int = 0
    parts: int = 1

    def holds(self, row: dict[str, Any]) -> bool:
        """Whether a row of the table belongs into this file."""
        if self.table == "samples" and (row["context_bucket"], row["duration_bucket"]) != (self.context, self.duration):
            return False
        return self.table not in _SPLIT_BY or int(row[_SPLIT_BY[self.table]][:8], 16) * self.parts >> 32 == self.part

    def path(self, corpus: Corpus) -> Path:
        """Where it lies."""
        folder = corpus.table(self.table, origin="curate")
        if self.table == "samples":
            folder = corpus.table(self.table, origin="curate", context_bucket=self.context, duration_bucket=self.duration)
        return folder / f"part-{self.part:05d}.parquet"


def ledger_path(folder: str) -> Path:
    """Where the ledger of an unfinished curation lies."""
    return Corpus(Path(folder)).work / "ledger"


def places_path(folder: str, shard: int) -> Path:
    """Where the rows of `media` for a shard wait to be written."""
    return Corpus(Path(folder)).work / "places" / f"{shard:05d}.parquet"


def table_files(verdict: Verdict, recipe: Recipe, *, media: bool) -> Iterator[TableFile]:
    """The files that the tables consist of: those of `media`, or all others."""
    for (table, context, duration), rows in verdict.rows.items():
        if rows and (table == "media") == media:
            parts = -(-rows // recipe.curate.rows_per_file) if table in _SPLIT_BY else 1
            for part in range(parts):
                yield TableFile(table=table, context=context, duration=duration, part=part, parts=parts)


def write_table_file(file: TableFile, folder: str, shards: Iterable[int] = ()) -> list[dict[str, Any]]:
    """Writes one Parquet file, its rows in the order of `SORTED_BY`; returns what was written: nothing when there is no row.

    Args:
        shards: the shards whose places are known, for `media`.
    """
    with contextlib.closing(Ledger(ledger_path(folder))) as ledger:
        rows = _places(folder, shards) if file.table == "media" else _rows(file, folder, ledger)
        ordered = sorted_rows((row for row in rows if file.holds(row)), SORTED_BY[file.table])
        path = file.path(Corpus(Path(folder)))
        count = files.write_row_stream(path, ordered, schemas.TABLES[file.table])
    return [{"path": path.relative_to(folder).as_posix(), "rows": count}] if count else []


def _places(folder: str, shards: Iterable[int]) -> Iterator[dict[str, Any]]:
    for shard in shards:
        yield from files.read_row_stream(places_path(folder, shard))


def _rows(file: TableFile, folder: str, ledger: Ledger) -> Iterator[dict[str, Any]]:
    """Rows of the items that may have some in the file."""
    work = Corpus(Path(folder)).work
    used = "status = 'used'"
    match file.table:
        case "sources":
            for fate in ledger.fates():
                yield fate.source_row
        case "dropped":
            for fate in ledger.fates("drops OR item IN (SELECT item FROM dropped)"):
                yield from fate.dropped
                if fate.drops:
                    yield from read_finished(finished_path(work, fate.key)).dropped
        case "quarantine":
            for fate in ledger.fates("status = 'quarantined'"):
                row = read_finished(finished_path(work, fate.key)).quarantine
                assert row is not None
                yield row
        case "annotations":
            for fate in ledger.fates(used):
                yield from _annotation(fate, work)
        case "lineage":
            for fate in ledger.fates(used):
                rows = read_finished(finished_path(work, fate.key)).lineage
                yield from (row for row in rows if row["sample_id"] not in fate.lost_samples)
            for key, _ in ledger.together():
                yield from read_finished(finished_path(work, key)).lineage
        case _:
            there = "item IN (SELECT item FROM samples WHERE context = ? AND duration IS ?)"
            for fate in ledger.fates(f"{used} AND {there}", (file.context, file.duration)):
                yield from _samples(fate, work)
            for key, common in ledger.together():
                yield from _with(read_finished(finished_path(work, key)).samples, common)


def _samples(fate: Fate, work: Path) -> Iterator[dict[str, Any]]:
    common = {name: fate.source_row[name] for name in ("split", "duplicate_cluster")}
    rows = read_finished(finished_path(work, fate.key)).samples
    yield from _with((row for row in rows if row["sample_id"] not in fate.lost_samples), common)


def _with(rows: Iterable[dict[str, Any]], common: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for row in rows:
        yield {**row, **common, "quality": [tuple(score) for score in row["quality"]]}


def _annotation(fate: Fate, work: Path) -> Iterator[dict[str, Any]]:
    annotation = read_finished(finished_path(work, fate.key)).annotation
    if annotation is not None:
        names = ("source_id", "source", "licence", "split", "duplicate_cluster")
        yield {**{name: fate.source_row[name] for name in names}, "kind": annotation[0], "payload": annotation[1]}


def write_media_shard(number: int, folder: str) -> dict[str, Any]:
    """Writes one shard, its pictures in order of media_id, and keeps where each lies for the table `media`."""
    work = Corpus(Path(folder)).work
    name = f"media/shard-{number:05d}.tar"
    shown: list[tuple[str, int, int, str]] = []

    @lru_cache(maxsize=_ITEMS_KEPT)
    def places(key: str) -> Places:
        return read_finished(finished_path(work, key)).media

    def items() -> Iterator[MediaItem]:
        for media_id, key, source_id in ledger.pictures(number):
            (item,) = pictures_at(finished_path(work, key), places(key), [media_id])
            if sha256_bytes(item.data)[: len(media_id)] != media_id:
                raise ValueError(
                    f"picture {media_id} of finished item {key} has other bytes: delete {folder}/_work and curate again"
                )
            shown.append((item.extension, item.height, item.width, source_id))
            yield item

    with contextlib.closing(Ledger(ledger_path(folder))) as ledger:
        placed = write_shard(Path(folder) / name, items())
    rows = (
        {
            "media_id": place.media_id,
            "shard": name,
            "offset": place.offset,
            "length": place.length,
            "sha256": place.sha256,
            "extension": extension,
            "height": height,
            "width": width,
            "source_id": source_id,
        }
        for place, (extension, height, width, source_id) in zip(placed, shown, strict=True)
    )
    files.write_row_stream(places_path(folder, number), rows, schemas.TABLES["media"])
    return {"path": name, "rows": len(placed)}
