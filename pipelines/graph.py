"""The Beam pipeline: read items, decide on all of them together, write the tables and shards.

    places of items -> spread -> read (each in a process of its own; finished ones are reused) -> all read? -> verdict
                                  |                                                             ^               |
                                  +-> requests -> each once -> answer -> by item -> read again -+               |
                                                                            (at most `ROUNDS`)                  |
                                        one Parquet file each <- names of files of tables <---------------------+
                                        one media shard each  <- numbers of shards <----------------------------+
                                                 +-> all written? -> files of `media` -> one Parquet file each

What travels is names: of items, files and shards. What is known of items is in their finished files and, once it is
decided, in the ledger (`pipelines.ledger`); neither the runner nor a worker holds it. Every file is written whole by one worker
from rows it sorts, so bytes depend neither on how many workers there are nor on which came first. Workers share the corpus
folder (a local disk, or one mounted on all machines).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsSingleton, TaggedOutput

from manifests import files
from manifests.corpus import Corpus
from manifests.errors import LongreelError
from manifests.recipe import Recipe
from pipelines.asking import Asker, Question
from pipelines.finished import finished_path, read_finished
from pipelines.isolation import Readers
from pipelines.items import Item
from pipelines.ledger import Summary
from pipelines.listing import listed, listed_item, listing_path
from pipelines.model_work import REMOTE, ROUNDS
from pipelines.reading import Reading
from pipelines.together import put_together
from pipelines.verdict import Verdict, decide
from pipelines.waiting import forget_pictures, pending_path, read_pending
from pipelines.writing import TableFile, ledger_path, table_files, write_media_shard, write_table_file

READ, ASKED = "read", "asked"


class Curation(beam.PTransform):
    """Places of items in the listing to the paths and sizes of everything that was written.

    Guarantees: each file of the result is there whole, with rows in the order of `pipelines.writing.SORTED_BY`; running it
    again over the same items writes the same bytes. Does not guarantee that a file of an earlier run is gone: that is
    `Corpus.commit`.

    Args:
        folder: the corpus; shared by all workers. The listing of its items is there.
        recipe: what is made of the items.
    """

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        super().__init__()
        self.folder, self.recipe = str(folder), recipe

    def expand(self, items: beam.PCollection[int]) -> beam.PCollection[dict[str, Any]]:
        """Read, decide, write."""
        read = self.read(items | "spread" >> beam.Reshuffle())
        verdict = read | "count" >> beam.combiners.Count.Globally() | "decide" >> beam.Map(judge, self.folder, self.recipe)
        tables = (
            verdict
            | "tables" >> beam.FlatMap(table_files, self.recipe, media=False).with_output_types(TableFile)
            | "spread tables" >> beam.Reshuffle()
            | "write rows" >> beam.FlatMap(write_table_file, self.folder)
        )
        shards = (
            verdict
            | "shards" >> beam.FlatMap(lambda verdict: verdict.shards).with_output_types(int)
            | "spread shards" >> beam.Reshuffle()
            | "write shard" >> beam.Map(write_media_shard, self.folder)
        )
        media = (
            shards
            | "gather shards" >> beam.combiners.ToList()
            | "media files" >> beam.FlatMap(media_files, self.recipe, AsSingleton(verdict))
            | "spread media" >> beam.Reshuffle()
            | "write places" >> beam.FlatMap(write_media_file, self.folder, AsSingleton(verdict))
        )
        written = (shards, tables, media) | "all paths" >> beam.Flatten()
        return (
            written
            | "gather paths" >> beam.combiners.ToList()
            | "report" >> beam.Map(report, self.folder, AsSingleton(verdict))
        )

    def read(self, items: beam.PCollection[int]) -> beam.PCollection[str]:
        """The keys of all items once they are finished, those that need models after as many further readings as they need."""
        finished = []
        waiting: Any = items | "look up" >> beam.Map(listed_item, self.folder)
        for turn in range(ROUNDS + 1):
            label = "read" if not turn else f"read again {turn}"
            read = waiting | label >> beam.ParDo(ReadItem(self.folder, self.recipe, turn)).with_outputs(ASKED, main=READ)
            finished.append(read[READ])
            if turn < ROUNDS:
                waiting = (
                    read[ASKED]
                    | f"requests {turn + 1}" >> beam.Map(lambda asked: asked).with_output_types(tuple[str, tuple[str, str]])
                    | f"each once {turn + 1}" >> beam.GroupByKey()
                    | f"answer {turn + 1}"
                    >> beam.ParDo(AnswerRequests(self.folder, self.recipe, turn + 1)).with_output_types(tuple[str, str])
                    | f"by item {turn + 1}" >> beam.GroupByKey()
                )
        return tuple(finished) | "all items" >> beam.Flatten()


class ReadItem(beam.DoFn):
    """Makes sure that an item is finished or waits for models; gives its key, or asks what it asks.

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

    def process(self, element: tuple[str, Any]) -> Iterator[str | TaggedOutput]:
        """One item: key and item on the first reading, key and ids of its answered requests on a further one."""
        key, value = element
        item = Item.from_json(read_pending(pending_path(Path(self.work), key, self.turn)).item) if self.turn else value
        reading = Reading(item=item, work=self.work, key=key, turn=self.turn)
        if not reading.finished.is_file() and not reading.pending.is_file():
            self.readers.read(reading)
        if reading.finished.is_file():
            for turn in range(1, self.turn + 1):
                forget_pictures(pending_path(Path(self.work), key, turn))
            yield key
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


def judge(finished: int, folder: str, recipe: Recipe) -> Verdict:
    """Decides on all items of the listing, which are finished by now.

    Raises:
        LongreelError: not as many were read as there are (a defect, or another run's listing).
    """
    work = Corpus(Path(folder)).work
    expected = sum(1 for _ in listed(listing_path(work)))
    if finished != expected:
        raise LongreelError(f"{finished} of {expected} inputs were read; this is a defect, please report it")
    found = (summarise(key, item, finished_path(work, key)) for key, item in listed(listing_path(work)))
    if not recipe.curate.documents.together:
        return decide(found, recipe, ledger_path(folder))
    return decide(found, recipe, ledger_path(folder), lambda ledger: put_together(ledger, work, recipe))


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


def media_files(shards: list[dict[str, Any]], recipe: Recipe, verdict: Verdict) -> Iterator[TableFile]:
    """The files of `media`, once all shards are written."""
    if len(shards) != len(verdict.shards):
        raise LongreelError(f"{len(shards)} of {len(verdict.shards)} shards were written; this is a defect, please report it")
    return table_files(verdict, recipe, media=True)


def write_media_file(file: TableFile, folder: str, verdict: Verdict) -> list[dict[str, Any]]:
    """Writes one file of `media`."""
    return write_table_file(file, folder, verdict.shards)


def report(written: list[dict[str, Any]], folder: str, verdict: Verdict) -> dict[str, Any]:
    """Leaves what was written, and the figures, where the driver reads them: `curated.json` in the work folder."""
    value = {"written": sorted(written, key=lambda file: file["path"]), "counts": verdict.counts}
    files.write_json(Corpus(Path(folder)).work / "curated.json", value)
    return value
