"""Packed sequences of a stage from a corpus: rows to tokens, offsets to pixels, ahead of need.

Decided here: the state of the loader is the number of the next step. Step s takes the sequences ``[s * G, (s + 1) * G)`` of the
global order and rank r of W every W-th of them, so the global order knows nothing of world size. A sample must render to the
tokens its row counts, and a picture must have the bytes that were written: anything else stops with the sample's id. One thread
reads ahead: decoding, tokenising and hashing release the interpreter's lock, and a thread never changes an order.
"""

from __future__ import annotations

import io
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from manifests.catalog import Catalog
from manifests.errors import CorruptCorpusError, CostMismatchError
from manifests.recipe import Recipe
from manifests.rendering import Rendered, render
from manifests.sample import Visual, messages_from_rows
from manifests.shards import read_media
from manifests.tokenizer import Tokenizer, load_tokenizer
from trainer.collate import PackedBatch, collate
from trainer.sample_facts import SampleFacts, facts_of


class StageSequences:
    """The packed sequences of one stage and split, by position.

    Args:
        catalog: the corpus.
        recipe: as the stage manifest carries it.
        stage, split: which sequences.

    Raises:
        CorruptCorpusError: the tables do not fit together.
    """

    def __init__(self, catalog: Catalog, recipe: Recipe, *, stage: int, split: str) -> None:
        self.folder = catalog.corpus.folder
        self.visual = recipe.visual
        self.tokenizer: Tokenizer = load_tokenizer(recipe.tokenizer)
        self.where = f"stage {stage}, {split}"
        which = [recipe.name, stage, split]
        of_stage = "recipe = ? AND stage = ? AND split = ?"
        positions = catalog.connection.execute(f"SELECT position FROM sequences WHERE {of_stage} ORDER BY position", which)
        numbers = [position for (position,) in positions.fetchall()]
        if numbers != list(range(len(numbers))):
            raise CorruptCorpusError(f"{self.where}: positions of the sequences table have gaps or repeats: plan again")
        segments = catalog.connection.execute(
            f"SELECT position, sample_id FROM segments WHERE {of_stage} ORDER BY position, segment", which
        )
        self.segments: list[list[str]] = [[] for _ in numbers]
        for position, sample_id in segments.fetchall():
            self.segments[position].append(sample_id)
        columns = "sample_id, messages, total_tokens, visual_tokens, task, modality, context_bucket, duration_bucket"
        samples = catalog.connection.sql(
            f"SELECT {columns} FROM samples WHERE sample_id IN (SELECT sample_id FROM segments WHERE {of_stage}) "
            "ORDER BY sample_id",
            params=which,
        ).to_arrow_table()
        self.samples: pa.Table = samples
        self.row_of = {sample_id: row for row, sample_id in enumerate(self.samples.column("sample_id").to_pylist())}
        places = catalog.connection.execute('SELECT media_id, shard, "offset", length, sha256 FROM media ORDER BY media_id')
        self.places: dict[str, tuple[str, int, int, str]] = {place[0]: tuple(place[1:]) for place in places.fetchall()}

    def __len__(self) -> int:
        return len(self.segments)

    def batch(self, position: int) -> PackedBatch:
        """One sequence, rendered, decoded and collated.

        Raises:
            CostMismatchError: a sample renders to other tokens than counted.
            CorruptCorpusError: a sample or picture is missing or has other bytes.
        """
        rendered = [self.render(sample_id) for sample_id in self.segments[position]]
        pictures = [
            self._picture(slot.visual, sample_id)
            for sample_id, sample in zip(self.segments[position], rendered, strict=True)
            for slot in sample.slots
        ]
        packed = collate(rendered, pictures, patch=self.visual.patch, merge=self.visual.merge)
        return replace(packed, facts=tuple(self.facts(sample_id) for sample_id in self.segments[position]))

    def facts(self, sample_id: str) -> SampleFacts:
        """What the table says of a sample."""
        row = self.row_of[sample_id]
        columns = ("task", "modality", "context_bucket", "duration_bucket")
        return facts_of(sample_id, *(self.samples.column(name)[row].as_py() for name in columns))

    def render(self, sample_id: str) -> Rendered:
        """The tokens of one sample, checked against its row.

        Raises:
            CostMismatchError: they differ from the counted ones.
            CorruptCorpusError: there is no such sample.
        """
        row = self.row_of.get(sample_id)
        if row is None:
            raise CorruptCorpusError(f"{self.where}: sample {sample_id} is packed but not in the samples table: plan again")
        values: dict[str, Any] = self.samples.slice(row, 1).to_pylist()[0]
        rendered = render(messages_from_rows(values["messages"]), self.tokenizer, self.visual)
        cost = rendered.cost
        if (cost.total, cost.visual) != (values["total_tokens"], values["visual_tokens"]):
            raise CostMismatchError(
                f"sample {sample_id} renders to {cost.total} tokens ({cost.visual} of pictures), but its row in {self.folder} "
                f"counts {values['total_tokens']} ({values['visual_tokens']}): the tokenizer or the rendering has changed "
                f"since curation; curate again"
            )
        return rendered

    def _picture(self, visual: Visual, sample_id: str) -> NDArray[np.uint8]:
        place = self.places.get(visual.media_id)
        if place is None:
            raise CorruptCorpusError(f"sample {sample_id}: picture {visual.media_id} is not in the media table: curate again")
        shard, offset, length, sha256 = place
        try:
            data = read_media(self.folder / shard, offset, length, sha256)
            return decode(data, height=visual.height, width=visual.width)
        except CorruptCorpusError as error:
            raise CorruptCorpusError(f"sample {sample_id}, picture {visual.media_id}: {error}") from error
        except OSError as error:
            raise CorruptCorpusError(
                f"sample {sample_id}, picture {visual.media_id} of {shard} cannot be decoded ({error}): curate again"
            ) from error


def decode(data: bytes, *, height: int, width: int) -> NDArray[np.uint8]:
    """An encoded picture as uint8 [height, width, 3], resized bicubically where it is stored at another size.

    Raises:
        OSError: the bytes are no picture.
    """
    with Image.open(io.BytesIO(data)) as stored:
        picture = stored.convert("RGB")
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    return np.array(picture, dtype=np.uint8)


def step_positions(step: int, *, sequences: int, per_step: int) -> range:
    """The sequences of a step (from 0) in the global order."""
    return range(step * per_step, min((step + 1) * per_step, sequences))


def rank_positions(step: range, *, rank: int, world: int) -> list[int | None]:
    """What one rank computes of a step: every W-th sequence; None where it has none left and another rank has.

    All ranks get lists of one length, because collectives need every rank in every pass.
    """
    mine: list[int | None] = list(step[rank::world])
    return mine + [None] * (-(-len(step) // world) - len(mine))


@dataclass(frozen=True, kw_only=True)
class StepBatches:
    """One rank's share of an optimiser step.

    Attributes:
        step: its number in the stage, from 0.
        batches: with weight 1, or 0 for a pass that only keeps this rank in step with the others.
        waited_s: seconds for which training waited for it.
    """

    step: int
    batches: tuple[tuple[PackedBatch, float], ...]
    waited_s: float


class StepLoader:
    """Yields the steps ``[first, last)`` of a stage, read ahead by a thread. A context manager: leaving it stops the thread."""

    def __init__(
        self, sequences: StageSequences, *, per_step: int, first: int, last: int, rank: int, world: int, ahead: int = 3
    ) -> None:
        self.sequences, self.per_step, self.first, self.last = sequences, per_step, first, last
        self.rank, self.world = rank, world
        self._ready: queue.Queue[tuple[tuple[PackedBatch, float], ...] | BaseException] = queue.Queue(maxsize=ahead)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read_ahead, name="longreel-loader", daemon=True)

    def __enter__(self) -> StepLoader:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        while self._thread.is_alive():
            while not self._ready.empty():
                self._ready.get_nowait()
            self._thread.join(timeout=0.05)

    def __iter__(self) -> Iterator[StepBatches]:
        for step in range(self.first, self.last):
            begun = time.perf_counter()
            ready = self._ready.get()
            if isinstance(ready, BaseException):
                raise ready
            yield StepBatches(step=step, batches=ready, waited_s=time.perf_counter() - begun)

    def _read_ahead(self) -> None:
        try:
            for step in range(self.first, self.last):
                positions = step_positions(step, sequences=len(self.sequences), per_step=self.per_step)
                mine = rank_positions(positions, rank=self.rank, world=self.world)
                self._put(
                    tuple(
                        (self.sequences.batch(positions[0] if position is None else position), float(position is not None))
                        for position in mine
                    )
                )
                if self._stop.is_set():
                    return
        except BaseException as error:
            self._put(error)

    def _put(self, ready: tuple[tuple[PackedBatch, float], ...] | BaseException) -> None:
        while not self._stop.is_set():
            try:
                self._ready.put(ready, timeout=0.1)
                return
            except queue.Full:
                continue
