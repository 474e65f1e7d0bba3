"""Rounds of chosen samples to packed sequences: which rows of `Candidates` stand in which sequence.

Decided here: everything is one array of rows and one of starts, never a Python object a sequence (10 million samples make two
million sequences). All sequences stay open for the samples of the next round; one that would meet itself goes to a
sequence that is new in that round, so no sequence holds a sample twice and a round wastes no tail.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curriculum.bounds import lower_bound_of_two
from curriculum.candidates import Candidates
from curriculum.packing import place
from curriculum.refining import SAMPLES_MAX, refine
from manifests.fingerprint import ID_DIGITS
from manifests.stage_spec import StageSpec

Rows = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """Packed sequences of one split in their order.

    Attributes:
        rows: rows of `Candidates`, int64 [segments], sequence after sequence.
        starts: where in ``rows`` each sequence begins, int64 [sequences].
    """

    rows: Rows
    starts: Rows

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def counts(self) -> Rows:
        """Samples of each sequence."""
        return np.diff(np.append(self.starts, len(self.rows)))

    @property
    def numbers(self) -> Rows:
        """The sequence of each segment."""
        return np.repeat(np.arange(len(self.starts)), self.counts)

    @property
    def epochs(self) -> Rows:
        """How often the sample of each segment stood in an earlier one."""
        order = np.argsort(self.rows, kind="stable")
        first = np.flatnonzero(np.diff(self.rows[order], prepend=-1))
        since = np.arange(len(order)) - np.repeat(first, np.diff(np.append(first, len(order))))
        epochs = np.empty(len(order), dtype=np.int64)
        epochs[order] = since
        return epochs

    def summed(self, values: NDArray[np.integer]) -> Rows:
        """The sum of ``values`` [segments] over each sequence."""
        return np.add.reduceat(values.astype(np.int64), self.starts) if len(self.starts) else self.starts

    def chosen(self, order: Rows) -> Sequences:
        """The sequences of these numbers, in this order."""
        counts = self.counts[order]
        starts = np.cumsum(counts) - counts
        index = np.repeat(self.starts[order] - starts, counts) + np.arange(int(counts.sum()))
        return Sequences(rows=self.rows[index], starts=starts)

    def joined(self, other: Sequences) -> Sequences:
        """These sequences, then the others."""
        return Sequences(
            rows=np.concatenate([self.rows, other.rows]), starts=np.concatenate([self.starts, other.starts + len(self.rows)])
        )

    def ids(self, candidates: Candidates, stage: int) -> list[str]:
        """An id a sequence: hash of the stage and its samples in order, and for one that comes again of how often it did.

        It does not depend on what else is planned, so that a sequence keeps its id when a corpus grows.
        """
        halves = np.ascontiguousarray(candidates.halves[self.rows].astype(">u8")).view(np.uint8).reshape(-1)
        data = memoryview(halves.tobytes())
        bounds = (np.append(self.starts, len(self.rows)) * (ID_DIGITS // 2)).tolist()
        first = hashlib.sha256(b"stage%d:" % stage)
        ids, seen = [], dict[str, int]()
        for start, end in itertools.pairwise(bounds):
            digest = first.copy()
            digest.update(data[start:end])
            name = digest.hexdigest()[:ID_DIGITS]
            times = seen[name] = seen.get(name, 0) + 1
            if times > 1:
                digest.update(b"#%d" % times)
                name = digest.hexdigest()[:ID_DIGITS]
            ids.append(name)
        return ids


def pack_rounds(candidates: Candidates, stage: StageSpec, rounds: tuple[Rows, ...]) -> Sequences:
    """Packs round after round under the stage's two limits."""
    rows, numbers, count = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), 0
    for chosen in rounds:
        places = _placed(candidates, stage, chosen, rows, numbers, count)
        rows, numbers = np.concatenate([rows, chosen]), np.concatenate([numbers, places])
        count = max(count, int(places.max(initial=-1)) + 1)
    if len(rows) <= SAMPLES_MAX:
        total, visual = candidates.total[rows].astype(np.int64), candidates.visual[rows].astype(np.int64)
        bound = lower_bound_of_two(total, visual, stage.context, stage.visual_budget)
        names = rows if len(rounds) > 1 else None
        numbers = refine(
            numbers, total, stage.context, bound, visual=visual, visual_capacity=stage.visual_budget, names=names
        )  # fmt: skip
        count = int(numbers.max(initial=-1)) + 1
    order = np.argsort(numbers, kind="stable")
    counts = np.bincount(numbers, minlength=count)
    return Sequences(rows=rows[order], starts=np.cumsum(counts) - counts)


def _placed(candidates: Candidates, stage: StageSpec, chosen: Rows, rows: Rows, numbers: Rows, count: int) -> Rows:
    """The sequence of each of ``chosen``, none of which may meet itself: first best fit, then those that do once more into
    sequences that are new in this round, which hold none of them."""
    total, visual = candidates.total[chosen], candidates.visual[chosen]
    room, visual_room = _room(candidates, stage, rows, numbers, count)
    places = place(total, visual, stage.context, stage.visual_budget, room, visual_room)
    if not count:
        return places
    width = len(candidates)
    twice = np.isin(places * width + chosen, numbers * width + rows)
    if twice.any():
        held, first = chosen[~twice], places[~twice]
        new = max(0, int(first.max(initial=-1)) + 1 - count)
        fresh = first >= count
        room, visual_room = _room(candidates, stage, held[fresh], first[fresh] - count, new)
        places[twice] = count + place(total[twice], visual[twice], stage.context, stage.visual_budget, room, visual_room)
    return places


def _room(candidates: Candidates, stage: StageSpec, rows: Rows, numbers: Rows, count: int) -> tuple[Rows, Rows]:
    """Tokens and visual tokens that each of ``count`` sequences still holds."""
    tokens, visual = (
        np.bincount(numbers, weights=values[rows], minlength=count).astype(np.int64)
        for values in (candidates.total, candidates.visual)
    )
    return stage.context - tokens, stage.visual_budget - visual
