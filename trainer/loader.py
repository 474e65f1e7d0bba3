"""Packed sequences ahead of need: which ones, in which order, by whom.

Decided here: the state of the loader is the number of the next step. Step s takes the sequences ``[s * G, (s + 1) * G)`` of the
global order and rank r of W every W-th of them, so the global order knows nothing of world size, and nothing of who reads: a
thread of this process, or reader processes that are kept for the whole run. Another stage is another list of orders for the
same processes. A thread always stands between: it makes tensors of what was read, and pins them where there is a GPU.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from manifests.catalog import Catalog
from manifests.recipe import Recipe
from trainer.collate import PackedBatch
from trainer.launch import Launch
from trainer.media import MediaIndex
from trainer.packed_arrays import PackedArrays
from trainer.reader_pool import ReaderPool
from trainer.replaced import ReplacedFile
from trainer.sequences import StageSequences, media_index, reader_settings
from trainer.token_store import PART

__all__ = ["Loader", "StageSequences", "StepBatches", "StepLoader", "rank_positions", "step_positions"]

AHEAD_STEPS = 3
AHEAD_BYTES = 2**30
"""Steps that are ready stay below this, as far as it can be known before; but one always is."""

Passes = tuple[tuple[PackedBatch, float], ...]


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
    batches: Passes
    waited_s: float


class StepLoader:
    """Yields the steps ``[first, last)`` of a stage, read ahead. A context manager: leaving it stops the reading.

    Args:
        sequences: of the stage.
        per_step: sequences of an optimiser step, over all ranks.
        first, last: steps.
        rank, world: whose share.
        ahead: steps that are ready at most; None: `AHEAD_STEPS`, fewer where they are large.
        pool: reader processes; None: the thread reads itself.
        pinned: make batches for a GPU.
        sharing: (this rank, ranks) of those that share each sequence.
    """

    def __init__(
        self,
        sequences: StageSequences,
        *,
        per_step: int,
        first: int,
        last: int,
        rank: int,
        world: int,
        sharing: tuple[int, int] = (0, 1),
        ahead: int | None = None,
        pool: ReaderPool | None = None,
        pinned: bool = False,
    ) -> None:
        self.sequences, self.per_step, self.first, self.last = sequences, per_step, first, last
        self.rank, self.world = rank, world
        self.pool, self.pinned, self.sharing = pool, pinned, sharing
        # Pinning from a thread that was told no device would open a context on the first one.
        self._device = torch.cuda.current_device() if pinned else None
        self._ready: queue.Queue[Passes | BaseException] = queue.Queue(maxsize=ahead or self._ahead())
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

    def _ahead(self) -> int:
        """Steps to keep ready: as many of the dearest as `AHEAD_BYTES` holds."""
        visual = self.sequences.settings.visual
        costs = (
            np.add.reduceat(self.sequences.placed["visual"].astype(np.int64), self.sequences.starts[:-1])
            if len(self.sequences)
            else np.zeros(1, dtype=np.int64)
        )
        dearest = int(costs.max()) * visual.merge**2 * 3 * visual.patch**2 * (1 if self.pinned else 4)
        passes = -(-self.per_step // self.world)
        return max(1, min(AHEAD_STEPS, AHEAD_BYTES // max(1, dearest * passes)))

    def _positions(self) -> Iterator[tuple[list[int], list[float]]]:
        """For each step, the sequences of this rank's passes and their weights."""
        for step in range(self.first, self.last):
            positions = step_positions(step, sequences=len(self.sequences), per_step=self.per_step)
            mine = rank_positions(positions, rank=self.rank, world=self.world)
            yield [positions[0] if one is None else one for one in mine], [float(one is not None) for one in mine]

    def _arrays(self) -> Iterator[PackedArrays]:
        orders = (self.sequences.order(position, self.sharing) for positions, _ in self._positions() for position in positions)
        if self.pool is None:
            return (self.sequences.reader.read(order) for order in orders)
        return self.pool.read(orders, stopped=self._stop.is_set)

    def _read_ahead(self) -> None:
        try:
            if self._device is not None:
                torch.cuda.set_device(self._device)
            arrays = self._arrays()
            for positions, weights in self._positions():
                batches = []
                for position in positions:
                    read = next(arrays, None)
                    if self._stop.is_set():
                        return
                    if read is None:
                        raise RuntimeError(f"{self.sequences.where}: reading ended before sequence {position}")
                    batches.append(self.sequences.collated(position, read, pinned=self.pinned))
                self._put(tuple(zip(batches, weights, strict=True)))
        except BaseException as error:
            self._put(error)

    def _put(self, ready: Passes | BaseException) -> None:
        while not self._stop.is_set():
            try:
                self._ready.put(ready, timeout=0.1)
                return
            except queue.Full:
                continue


class Loader:
    """What a run loads with: reader processes, the index of pictures. A context manager; leaving it ends the processes.

    Args:
        catalog: the corpus.
        recipe: as the stage manifests carry it.
        launch: how many processes, and what to do about bad media.
        on_gpu: whether batches go to a GPU.
        neighbours: ranks that share this machine's cores.
        rank, ranks: who of how many keeps tokens; the work is shared.
        replaced: the file for pictures with a stand-in; None: nowhere.
    """

    def __init__(
        self,
        catalog: Catalog,
        recipe: Recipe,
        *,
        launch: Launch = Launch(),  # noqa: B008, frozen
        on_gpu: bool = False,
        neighbours: int = 1,
        rank: int = 0,
        ranks: int = 1,
        replaced: Path | None = None,
    ) -> None:
        self.catalog, self.recipe, self.launch, self.on_gpu = catalog, recipe, launch, on_gpu
        self.rank, self.ranks = rank, ranks
        self.workers = launch.workers_for(on_gpu=on_gpu, neighbours=neighbours)
        self.replaced = None if replaced is None else ReplacedFile(replaced)
        self._pool: ReaderPool | None = None

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    @cached_property
    def media(self) -> MediaIndex:
        """Where the pictures of the corpus lie."""
        return media_index(self.catalog)

    def sequences(self, *, stage: int, split: str) -> StageSequences:
        """The sequences of a stage; where the launch keeps tokens, those that are missing are made now."""
        if split == "train":
            self._processes()  # they start while the model is loaded
        sequences = StageSequences(
            self.catalog,
            self.recipe,
            stage=stage,
            split=split,
            launch=self.launch,
            media=self.media,
            replaced=self.replaced,
        )
        if self.launch.tokens is not None:
            parts = sequences.keep_in(Path(self.launch.tokens), first=self.rank * len(sequences) // (self.ranks * PART))
            if pool := self._processes():
                for _ in pool.keep(parts):
                    pass
            else:
                for part in parts:
                    sequences.reader.keep(part)
        return sequences

    def _processes(self) -> ReaderPool | None:
        if self.workers and self._pool is None:
            self._pool = ReaderPool(self.workers, reader_settings(self.catalog, self.recipe, self.launch), self.media)
        return self._pool

    def steps(
        self,
        sequences: StageSequences,
        *,
        per_step: int,
        first: int,
        last: int,
        rank: int = 0,
        world: int = 1,
        sharing: tuple[int, int] = (0, 1),
    ) -> StepLoader:
        """The steps ``[first, last)`` of a stage; one such loader is open at a time."""
        return StepLoader(
            sequences,
            per_step=per_step,
            first=first,
            last=last,
            rank=rank,
            world=world,
            pool=self._processes(),
            pinned=self.on_gpu,
            sharing=sharing,
        )
