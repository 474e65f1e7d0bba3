"""Which samples a stage trains on, and how often: shares of tokens by task, as the stage's mixture says.

Rules:

- An ingredient is a task prefix over dotted names (``video`` holds ``video.caption``, not ``videos``); the longest match
  wins, ``*`` takes the rest, a task that no ingredient names is left out.
- A sample is eligible when the stage's context and visual budget hold it, and its clip is no longer than the stage's: 15 s
  in stages 0 and 1, 15 min in stage 2, 2 h in stage 3. One video so feeds several stages in several forms.
- An ingredient's share of ``stage.tokens`` is what it wants: its weight, with ``temperature`` T times the tokens it has to the
  power 1 / T (T = 1 follows the corpus, a large T the weights alone). Samples repeat, whole epochs first, up to
  ``epochs_max`` times. What is then missing is a shortfall: it is reported, and no other ingredient is given more instead.
- Within a partial epoch clips of the stage's own length come first, then chance decides (`Candidates.keys`).
- ``long_share`` and ``text_share`` part what is wanted into samples above half the context and the others, and into samples
  without pictures and the others. Ingredients that have such samples bear a share in proportion to their weights, none beyond
  its own share (`curriculum.shares`); where a kind runs out, the ingredient's other samples take its place, and ``long`` and
  ``text`` in the report say how many tokens were wanted and found.
- ``source_share_max`` is the largest part of ``stage.tokens`` that one source may give, repeats counted, over all ingredients.
  Samples of a source that has reached it are passed over, and counted in the report.
- What a previous plan holds counts first (`curriculum.replanning`): only what is then missing is chosen anew.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curriculum.candidates import DURATIONS, Candidates
from curriculum.shares import KINDS, targets
from manifests.stage_spec import StageSpec

Rows = NDArray[np.int64]
LONGEST_CLIP = {0: "15s", 1: "15s", 2: "15min", 3: "2h"}


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What a stage was given.

    Attributes:
        rounds: rows of `Candidates` in chance order; a sample that is placed k times is in k rounds, and all rounds have the
            same mixture but for chance.
        heldout: eligible held-out rows, each once, in chance order.
        report: tokens wanted and placed for each ingredient, for long and for text samples, and samples left out by reason.
    """

    rounds: tuple[Rows, ...]
    heldout: Rows
    report: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Eligible:
    """Which samples a stage may hold.

    Attributes:
        ingredient: index [n] into the stage's mixture; -1 when none names the task.
        train, heldout: bool [n].
        kind: index [n] into `curriculum.shares.KINDS`: what the stage's shares tell apart, 0 where it has none.
        left_out: training samples that are not eligible, by the first reason that holds.
    """

    ingredient: NDArray[np.int16]
    train: NDArray[np.bool_]
    heldout: NDArray[np.bool_]
    kind: NDArray[np.int8]
    left_out: dict[str, int]


def ingredient_of(tasks: list[str], prefixes: list[str]) -> NDArray[np.int16]:
    """For each task the index of the longest matching prefix; -1 when none matches."""

    def longest(task: str) -> int:
        found = [index for index, prefix in enumerate(prefixes) if matches(task, prefix)]
        return max(found, key=lambda index: (prefixes[index] != "*", len(prefixes[index])), default=-1)

    return np.array([longest(task) for task in tasks], dtype=np.int16)


def matches(task: str, prefix: str) -> bool:
    """Whether a mixture's prefix names a task."""
    return prefix == "*" or task == prefix or task.startswith(prefix + ".")


def eligible(candidates: Candidates, stage: StageSpec) -> Eligible:
    """What a stage may hold, and why it may not hold the rest."""
    by_task = ingredient_of(candidates.tasks, [entry.task for entry in stage.mixture])
    ingredient = by_task[candidates.task] if len(candidates) else np.empty(0, dtype=np.int16)
    among = ~candidates.heldout
    fits = np.ones(len(candidates), dtype=bool)
    left_out = {}
    for reason, wrong in (
        ("task not in the mixture", ingredient < 0),
        ("longer than the context", candidates.total > stage.context),
        ("more visual tokens than the budget", candidates.visual > stage.visual_budget),
        (f"clip longer than {LONGEST_CLIP[stage.number]}", candidates.duration > DURATIONS.index(LONGEST_CLIP[stage.number])),
    ):
        left_out[reason] = int(np.count_nonzero(wrong & fits & among))
        fits &= ~wrong
    kind = np.zeros(len(candidates), dtype=np.int8)
    if stage.long_share is not None:
        kind += (candidates.total * np.int64(2) > stage.context).astype(np.int8) * np.int8(2)
    if stage.text_share is not None:
        kind += (candidates.visual == 0).astype(np.int8)
    return Eligible(
        ingredient=ingredient, train=fits & among, heldout=fits & candidates.heldout, kind=kind, left_out=left_out
    )  # fmt: skip


@dataclass(kw_only=True)
class _Sources:
    """What each source may still give; without a cap everything."""

    of: NDArray[np.int32] | None
    left: NDArray[np.int64]
    passed_over: set[int] = field(default_factory=set)

    @classmethod
    def of_stage(cls, candidates: Candidates, stage: StageSpec) -> _Sources:
        if stage.source_share_max is None:
            return cls(of=None, left=np.empty(0, dtype=np.int64))
        each = int(stage.tokens * stage.source_share_max)
        return cls(of=candidates.source, left=np.full(len(candidates.sources), each, dtype=np.int64))

    def allowed(self, rows: Rows, total: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Those of ``rows``, in their order, that their source can still give."""
        if self.of is None:
            return np.ones(len(rows), dtype=bool)
        source = self.of[rows]
        order = np.argsort(source, kind="stable")
        running = np.cumsum(total[order])
        first = np.flatnonzero(np.diff(source[order], prepend=-2))
        before = np.repeat((running - total[order])[first], np.diff(np.append(first, len(order))))
        fits = np.empty(len(rows), dtype=bool)
        fits[order] = (running - before <= self.left[source[order]]) | (source[order] < 0)
        self.passed_over.update(rows[~fits].tolist())
        return fits

    def give(self, rows: Rows, total: NDArray[np.int64]) -> None:
        """Takes the tokens of ``rows`` off their sources."""
        if self.of is not None:
            named = self.of[rows] >= 0
            np.subtract.at(self.left, self.of[rows][named], total[named])


def select(candidates: Candidates, stage: StageSpec, kept: Rows | None = None) -> Selection:
    """Chooses the samples of a stage. Depends on the samples and the stage alone, not on the order of files.

    Args:
        kept: rows that a previous plan's sequences hold already, once for each time; they count as placed and are in no round.
    """
    kept = np.empty(0, dtype=np.int64) if kept is None else kept
    may = eligible(candidates, stage)
    clip = DURATIONS.index(LONGEST_CLIP[stage.number])
    pools = _pools(candidates, may, len(stage.mixture))
    available = np.array([[pool.tokens for pool in row] for row in pools], dtype=np.float64)
    weights = np.array([entry.weight for entry in stage.mixture], dtype=np.float64)
    if stage.temperature is not None:
        weights *= available.sum(axis=1) ** (1 / stage.temperature)
    wanted = stage.tokens * weights / (weights.sum() or 1.0)
    goals = targets(stage, wanted, available)
    sources = _Sources.of_stage(candidates, stage)
    total = candidates.total.astype(np.int64)
    sources.give(kept, total[kept])
    times = np.bincount(kept, minlength=len(candidates)) if len(kept) else None
    held = _tokens(candidates, may, kept, len(stage.mixture))
    copies: list[list[Rows]] = []
    for number, row in enumerate(pools):
        left = 0.0
        # Kinds that are scarce come first: what they leave of their goal goes to the next.
        for at in reversed(range(len(KINDS))):
            goal = goals[number, at] + left - held[number, at]
            chosen = row[at].choose(goal, stage, clip, number, sources, times)
            copies.append(chosen)
            left = goal - sum(int(total[rows].sum()) for rows in chosen)
    rounds = _dealt(candidates, stage, copies)
    placed = np.concatenate([kept, *(rows for each in copies for rows in each)])
    tokens = _tokens(candidates, may, placed, len(stage.mixture))
    report = {
        "ingredients": [
            {
                "task": entry.task,
                "wanted": round(float(want)),
                "placed": int(row.sum()),
                "available": int(found.sum()),
                "samples": sum(len(pool.rows) for pool in row_pools),
                "epochs": round(float(row.sum() / found.sum()), 4) if found.sum() else 0.0,
            }
            for entry, want, row, found, row_pools in zip(stage.mixture, wanted, tokens, available, pools, strict=True)
        ],
        "long": None if stage.long_share is None else {
            "above": stage.context // 2,
            "wanted": round(stage.tokens * stage.long_share),
            "placed": int(tokens[:, 2:].sum()),
        },
        "text": None if stage.text_share is None else {
            "wanted": round(stage.tokens * stage.text_share),
            "placed": int(tokens[:, 1::2].sum()),
        },
        "over_source_cap": len(sources.passed_over),
        "left_out": may.left_out,
    }  # fmt: skip
    heldout = _shuffled(candidates, np.flatnonzero(may.heldout), stage, 0)
    return Selection(rounds=rounds, heldout=heldout, report=report)


def _pools(candidates: Candidates, may: Eligible, ingredients: int) -> list[list[_Pool]]:
    """Rows of each ingredient and kind, rising."""
    rows = np.flatnonzero(may.train)
    cell = may.ingredient[rows].astype(np.int16) * np.int16(len(KINDS)) + may.kind[rows]
    order = np.argsort(cell, kind="stable")  # a radix sort for 16-bit numbers
    bounds = np.searchsorted(cell[order], np.arange(ingredients * len(KINDS) + 1))
    parts = [rows[order[start:end]] for start, end in itertools.pairwise(bounds)]
    each = len(KINDS)
    return [[_Pool(candidates, part) for part in parts[at : at + each]] for at in range(0, len(parts), each)]


def _tokens(candidates: Candidates, may: Eligible, rows: Rows, ingredients: int) -> NDArray[np.int64]:
    """Tokens of ``rows`` by ingredient and kind."""
    cell = may.ingredient[rows].astype(np.int64) * len(KINDS) + may.kind[rows]
    sums = np.bincount(cell, weights=candidates.total[rows], minlength=ingredients * len(KINDS))
    return sums.astype(np.int64).reshape(ingredients, len(KINDS))


class _Pool:
    """Samples among which chance decides."""

    def __init__(self, candidates: Candidates, rows: Rows) -> None:
        self.candidates, self.rows = candidates, rows
        self.total = candidates.total[rows].astype(np.int64)
        self.tokens = int(self.total.sum())

    def choose(
        self, wanted: float, stage: StageSpec, clip: int, number: int, sources: _Sources, times: Rows | None
    ) -> list[Rows]:
        """Rows for every epoch: whole epochs, then as much of one more as ``wanted`` and ``epochs_max`` allow.

        Args:
            times: how often each candidate is placed already; None: never. A sample's first copy here is its next epoch.
        """
        chosen: list[Rows] = []
        held = 0 if times is None else int((times[self.rows] * self.total).sum())
        left = int(min(wanted, self.tokens * stage.epochs_max - held))
        epoch = 0 if times is None or not len(self.rows) else int(times[self.rows].min())
        while left > 0 and epoch < stage.epochs_max:
            open_ = np.ones(len(self.rows), dtype=bool) if times is None else times[self.rows] <= epoch
            rows, total = self.rows[open_], self.total[open_]
            enough = int(total.sum()) > left
            if enough or sources.of is not None:
                duration = self.candidates.duration[rows]
                foreign = (duration >= 0) & (duration != clip)
                chance = self.candidates.keys(rows, stage.seed, stage.number, epoch, "choice", number)
                order = np.lexsort((chance, foreign))
                rows, total = rows[order], total[order]
                allowed = sources.allowed(rows, total)
                rows, total = rows[allowed], total[allowed]
                taken = _first_that_fit(total, left)
                enough = not taken.all()
                rows, total = rows[taken], total[taken]
            if not len(rows):
                break
            chosen.append(rows)
            sources.give(rows, total)
            left -= int(total.sum())
            epoch += 1
            if enough:
                break
        return chosen


def _dealt(candidates: Candidates, stage: StageSpec, pools: list[list[Rows]]) -> tuple[Rows, ...]:
    """Deals the copies of every pool over as many rounds as the most repeated sample needs, evenly, no sample twice in one."""
    count = max((len(copies) for copies in pools), default=0)
    dealt: list[list[Rows]] = [[] for _ in range(count)]
    for copies in pools:
        for number, rows in enumerate(copies):
            if count == 1:
                dealt[0].append(rows)
                continue
            first = (candidates.keys(rows, stage.seed, stage.number, "round") >> np.uint64(32)).astype(np.int64) * count >> 32
            turn = (first + number * count // len(copies)) % count
            for each in range(count):
                dealt[each].append(rows[turn == each])
    shuffled = (_shuffled(candidates, np.concatenate(parts), stage, number) for number, parts in enumerate(dealt))
    return tuple(rows for rows in shuffled if len(rows))


def _first_that_fit(lengths: NDArray[np.int64], limit: int) -> NDArray[np.bool_]:
    """Goes through ``lengths`` in order and takes each that still fits within ``limit``."""
    taken = np.zeros(len(lengths), dtype=bool)
    rest = np.arange(len(lengths))
    while len(rest := rest[lengths[rest] <= limit]):
        run = int(np.searchsorted(np.cumsum(lengths[rest]), limit, side="right"))
        taken[rest[:run]] = True
        limit -= int(lengths[rest[:run]].sum())
        rest = rest[run:]
    return taken


def _shuffled(candidates: Candidates, rows: Rows, stage: StageSpec, number: int) -> Rows:
    """In chance order, whatever order they come in: ties of keys (one in 2^64) go by row."""
    keys = candidates.keys(rows, stage.seed, stage.number, number, "order")
    order = np.argsort(keys)
    ordered = keys[order]
    if (ordered[1:] == ordered[:-1]).any():
        order = np.lexsort((rows, keys))
    return rows[order]
