"""The Beam pipeline: read items, decide on all of them together, write the tables and shards.

    items -> spread -> read (each in a process of its own; finished ones are reused) -> summaries -> verdict
                         |                                                             ^  |             |
                         +-> requests -> each once -> answer -> by item -> read again -+  |             |
                                                                   (at most `ROUNDS`)     |             |
                                       rows and pictures of kept items, by file <---------+- side input +
                                            |-> one Parquet file each
                                            |-> one media shard each -> its rows of `media` -> Parquet

Every file is written whole by one worker from rows it sorts, so bytes depend neither on how many workers there are nor on
which came first. Items travel as paths, pictures never: workers share the corpus folder (a local disk, or one mounted on all
machines).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsSingleton, TaggedOutput

from manifests import files, schemas
from manifests.corpus import Corpus
from manifests.fingerprint import sha256_bytes, unit_hash
from manifests.recipe import Recipe
from manifests.shards import MediaItem, write_shard
from pipelines.asking import Asker, Question
from pipelines.finished import finished_path, read_finished
from pipelines.isolation import Readers
from pipelines.items import Item
from pipelines.kept import Places, pictures_at
from pipelines.model_work import REMOTE, ROUNDS
from pipelines.reading import Reading
from pipelines.verdict import Summary, Verdict, decide
from pipelines.waiting import forget_pictures, pending_path, read_pending

FileKey = tuple[str, str, str, int]
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
_NONE = ""
READ, ASKED = "read", "asked"


class Curation(beam.PTransform):
    """Items and their keys to the paths and sizes of everything that was written.

    Guarantees: each file of the result is there whole, with rows in the order of `SORTED_BY`; running it again over the
    same items writes the same bytes. Does not guarantee that a file of an earlier run is gone: that is `Corpus.commit`.

    Args:
        folder: the corpus; shared by all workers.
        recipe: what is made of the items.
    """

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        super().__init__()
        self.folder, self.recipe = str(folder), recipe

    def expand(self, items: beam.PCollection[tuple[str, Item]]) -> beam.PCollection[dict[str, Any]]:
        """Read, decide, write."""
        summaries = self.read(items | "spread" >> beam.Reshuffle())
        verdict = summaries | "gather" >> beam.combiners.ToList() | "decide" >> beam.Map(decide, self.recipe)
        fates = AsSingleton(verdict)
        tables = (
            summaries
            | "files" >> beam.FlatMap(files_of, self.folder, self.recipe, fates).with_output_types(tuple[FileKey, str])
            | "by file" >> beam.GroupByKey()
            | "write rows" >> beam.Map(write_items_rows, self.folder, self.recipe, fates)
        )
        shards = (
            summaries
            | "pictures" >> beam.FlatMap(pictures_of, fates).with_output_types(tuple[int, tuple[str, str, str]])
            | "by shard" >> beam.GroupByKey()
            | "write shard" >> beam.Map(write_media_shard, self.folder)
        )
        media = (
            shards
            | "places" >> beam.FlatMap(places_of, self.recipe, fates).with_output_types(tuple[FileKey, dict[str, Any]])
            | "by media file" >> beam.GroupByKey()
            | "write places" >> beam.Map(write_rows_of_file, self.folder)
        )
        written = (shards | "shard paths" >> beam.Map(lambda shard: shard[0]), tables, media) | "all paths" >> beam.Flatten()
        return written | "gather paths" >> beam.combiners.ToList() | "report" >> beam.Map(report, self.folder, fates)

    def read(self, items: beam.PCollection[tuple[str, Item]]) -> beam.PCollection[Summary]:
        """The summaries of all items, those that need models after as many further readings as they need."""
        summaries = []
        waiting: Any = items
        for turn in range(ROUNDS + 1):
            label = "read" if not turn else f"read again {turn}"
            read = waiting | label >> beam.ParDo(ReadItem(self.folder, self.recipe, turn)).with_outputs(ASKED, main=READ)
            summaries.append(read[READ])
            if turn < ROUNDS:
                waiting = (
                    read[ASKED]
                    | f"requests {turn + 1}" >> beam.Map(lambda asked: asked).with_output_types(tuple[str, tuple[str, str]])
                    | f"each once {turn + 1}" >> beam.GroupByKey()
                    | f"answer {turn + 1}"
                    >> beam.ParDo(AnswerRequests(self.folder, self.recipe, turn + 1)).with_output_types(tuple[str, str])
                    | f"by item {turn + 1}" >> beam.GroupByKey()
                )
        return tuple(summaries) | "all items" >> beam.Flatten()


class ReadItem(beam.DoFn):
    """Makes sure that an item is finished or waits for models; summarises it, or asks what it asks.

    A finished item is not read again, one that waits neither. Requests to remote models are asked already here, in threads that
    wait for a network while the next item is read. That is a head start and no promise: `AnswerRequests` asks what is left.

    Args:
        turn: how often the items have waited: 0 for the first reading, whose elements carry the items themselves.
    """

    def __init__(self, folder: str, recipe: Recipe, turn: int) -> None:
        self.work, self.recipe, self.turn = str(Corpus(Path(folder)).work), recipe, turn

    def setup(self) -> None:
        """Once per worker."""
        self.readers = Readers(self.recipe)
        self.asker = Asker(Path(self.work), self.recipe)

    def process(self, element: tuple[str, Any]) -> Iterator[Summary | TaggedOutput]:
        """One item: key and item on the first reading, key and ids of its answered requests on a further one."""
        key, value = element
        item = Item.from_json(read_pending(pending_path(Path(self.work), key, self.turn)).item) if self.turn else value
        reading = Reading(item=item, work=self.work, key=key, turn=self.turn)
        if not reading.finished.is_file() and not reading.pending.is_file():
            self.readers.read(reading)
        if reading.finished.is_file():
            for turn in range(1, self.turn + 1):
                forget_pictures(pending_path(Path(self.work), key, turn))
            yield summarise(key, item, reading.finished)
            return
        for request_id, request in read_pending(reading.pending).requests.items():
            if request.kind in REMOTE:
                question = Question(kind=request.kind, request_id=request_id, pending=reading.pending)
                self.asker.ask(question, block=False)
            yield TaggedOutput(ASKED, (request_id, (request.kind, key)))

    def teardown(self) -> None:
        """Once per worker."""
        self.readers.close()
        self.asker.stop()


class AnswerRequests(beam.DoFn):
    """Asks models what items ask, each request once; hands on which item asked which, when the answers are kept.

    Args:
        turn: how often the items have waited, this time included.
    """

    def __init__(self, folder: str, recipe: Recipe, turn: int) -> None:
        self.work, self.recipe, self.turn = str(Corpus(Path(folder)).work), recipe, turn

    def setup(self) -> None:
        """Once per worker."""
        self.asker = Asker(Path(self.work), self.recipe)

    def process(self, element: tuple[str, Iterable[tuple[str, str]]]) -> Iterator[tuple[str, str]]:
        """One request, and everyone who asks it."""
        request_id, askers = element
        asking = sorted(askers)
        kind, key = asking[0]
        question = Question(kind=kind, request_id=request_id, pending=pending_path(Path(self.work), key, self.turn))
        self.asker.ask(question, block=True)
        for _, key in asking:
            yield key, request_id

    def finish_bundle(self) -> None:
        """Once per bundle: what was handed on counts only when this returns."""
        self.asker.finish()


def summarise(key: str, item: Item, path: Path) -> Summary:
    """What the verdict needs to know of a finished item."""
    finished = read_finished(path)
    lineage: dict[str, int] = {}
    for row in finished.lineage:
        lineage[row["sample_id"]] = lineage.get(row["sample_id"], 0) + 1
    return Summary(
        key=key,
        source=item.source,
        source_id=item.source_id,
        sha256=item.sha256,
        bytes=item.bytes,
        attached=tuple(sorted(file.source for file in item.attached)),
        licence=item.licence,
        origin=item.origin,
        status=finished.status,
        modality=finished.modality,
        signature=finished.signature,
        samples=tuple(
            (
                row["sample_id"],
                row["task"],
                row["context_bucket"],
                row["duration_bucket"],
                lineage[row["sample_id"]],
                row["total_tokens"],
            )
            for row in finished.samples
        ),
        media=tuple((media_id, place[4]) for media_id, place in sorted(finished.media.items())),
        dropped=len(finished.dropped),
        work=finished.work,
    )


def _file_key(table: str, row: dict[str, Any], verdict: Verdict, rows_per_file: int) -> FileKey:
    """The file a row belongs to: its partition, and there its range of ids."""
    context, duration = (row["context_bucket"], row["duration_bucket"]) if table == "samples" else (None, None)
    part = 0
    if table in _SPLIT_BY:
        parts = -(-verdict.rows[table, context, duration] // rows_per_file)
        part = int(row[_SPLIT_BY[table]][:8], 16) * parts >> 32
    return table, context or _NONE, duration or _NONE, part


def rows_of(key: str, folder: str, recipe: Recipe, verdict: Verdict) -> Iterator[tuple[FileKey, dict[str, Any]]]:
    """Every row that an item puts into a table, with the file it belongs to."""
    fate = verdict.fates[key]
    finished = read_finished(finished_path(Corpus(Path(folder)).work, key))
    source = fate.source_row
    tables: dict[str, list[dict[str, Any]]] = {"sources": [source], "dropped": [*finished.dropped, *fate.dropped]}
    if finished.quarantine is not None:
        tables["quarantine"] = [finished.quarantine]
    if fate.used:
        common = {"split": source["split"], "duplicate_cluster": source["duplicate_cluster"]}
        tables["samples"] = [
            {**row, **common, "quality": [tuple(score) for score in row["quality"]]}
            for row in finished.samples
            if row["sample_id"] not in fate.lost_samples
        ]
        tables["lineage"] = [row for row in finished.lineage if row["sample_id"] not in fate.lost_samples]
        if finished.annotation is not None:
            kind, payload = finished.annotation
            named = {name: source[name] for name in ("source_id", "source", "licence")}
            tables["annotations"] = [{**named, "kind": kind, "payload": payload, **common}]
    for table, rows in tables.items():
        for row in rows:
            yield _file_key(table, row, verdict, recipe.curate.rows_per_file), row


def files_of(summary: Summary, folder: str, recipe: Recipe, verdict: Verdict) -> Iterator[tuple[FileKey, str]]:
    """The files that an item has rows in, with its key: rows themselves are not shuffled, they lie in the finished item."""
    for file in dict.fromkeys(file for file, _ in rows_of(summary.key, folder, recipe, verdict)):
        yield file, summary.key


def pictures_of(summary: Summary, verdict: Verdict) -> Iterator[tuple[int, tuple[str, str, str]]]:
    """The pictures that an item stores: shard number, then media_id, key of the item, source_id."""
    fate = verdict.fates[summary.key]
    if fate.used:
        shard = int(unit_hash("shard", summary.source_id) * verdict.shards)
        for media_id, _ in summary.media:
            if media_id not in fate.lost_media:
                yield shard, (media_id, summary.key, summary.source_id)


def write_media_shard(
    shard: tuple[int, Iterable[tuple[str, str, str]]], folder: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Writes one shard, its pictures in order of media_id; returns what was written and where each picture lies."""
    number, pictures = shard
    members = sorted(pictures)
    name = f"media/shard-{number:05d}.tar"
    shown: list[MediaItem] = []
    kept: dict[str, Places] = {}

    def items() -> Iterator[MediaItem]:
        for media_id, key, _ in members:
            path = finished_path(Corpus(Path(folder)).work, key)
            if key not in kept:
                kept[key] = read_finished(path).media
            (item,) = pictures_at(path, kept[key], [media_id])
            if sha256_bytes(item.data)[: len(media_id)] != media_id:
                raise ValueError(
                    f"picture {media_id} of finished item {key} has other bytes: delete {folder}/_work and curate again"
                )
            shown.append(MediaItem(media_id=media_id, extension=item.extension, height=item.height, width=item.width, data=b""))
            yield item

    placed = write_shard(Path(folder) / name, items())
    rows = [
        {
            "media_id": place.media_id,
            "shard": name,
            "offset": place.offset,
            "length": place.length,
            "sha256": place.sha256,
            "extension": item.extension,
            "height": item.height,
            "width": item.width,
            "source_id": source_id,
        }
        for place, item, (_, _, source_id) in zip(placed, shown, members, strict=True)
    ]
    return {"path": name, "rows": len(rows)}, rows


def places_of(
    shard: tuple[dict[str, Any], list[dict[str, Any]]], recipe: Recipe, verdict: Verdict
) -> Iterator[tuple[FileKey, dict[str, Any]]]:
    """The rows of `media` for one shard."""
    for row in shard[1]:
        yield _file_key("media", row, verdict, recipe.curate.rows_per_file), row


def write_items_rows(file: tuple[FileKey, Iterable[str]], folder: str, recipe: Recipe, verdict: Verdict) -> dict[str, Any]:
    """Writes one Parquet file from the finished items that have rows in it."""
    wanted, keys = file
    return write_rows_of_file(
        (wanted, (row for key in keys for at, row in rows_of(key, folder, recipe, verdict) if at == wanted)), folder
    )


def write_rows_of_file(file: tuple[FileKey, Iterable[dict[str, Any]]], folder: str) -> dict[str, Any]:
    """Writes one Parquet file, its rows in order."""
    (table, context, duration, part), rows = file
    ordered = sorted(rows, key=lambda row: tuple((row[name] is not None, row[name] or 0) for name in SORTED_BY[table]))
    path = table_folder(Corpus(folder), table, context, duration) / f"part-{part:05d}.parquet"
    files.write_rows(path, ordered, schemas.TABLES[table])
    return {"path": path.relative_to(folder).as_posix(), "rows": len(ordered)}


def table_folder(corpus: Corpus, table: str, context: str = _NONE, duration: str = _NONE) -> Path:
    """The folder of a partition of this step."""
    if table == "samples":
        return corpus.table(table, origin="curate", context_bucket=context or None, duration_bucket=duration or None)
    return corpus.table(table, origin="curate")


def report(written: list[dict[str, Any]], folder: str, verdict: Verdict) -> dict[str, Any]:
    """Leaves what was written, and the figures, where the driver reads them: `curated.json` in the work folder."""
    value = {"written": sorted(written, key=lambda file: file["path"]), "counts": verdict.counts}
    files.write_json(Corpus(folder).work / "curated.json", value)
    return value
