"""Which samples a stage trains on, and how often: shares of tokens by task, as the stage's mixture says.

Rules:

- An ingredient is a task prefix over dotted names (``video`` holds ``video.caption``, not ``videos``); the longest match
  wins, ``*`` takes the rest, a task that no ingredient names is left out.
- A sample is eligible when the stage's context and visual budget hold it, and its clip is no longer than the stage's: 15 s
  in stages 0 and 1, 15 min in stage 2, 2 h in stage 3. One video so feeds several stages in several forms.
- An ingredient's share of ``stage.tokens`` is what it wants. Samples repeat, whole epochs first, up to ``epochs_max``
  times. What is then missing is a shortfall: it is reported, and no other ingredient is given more instead.
- Within a partial epoch clips of the stage's own length come first, then chance decides (`Candidates.keys`).
- ``long_share`` parts what is wanted into samples above half the context and the others. Ingredients that have long samples
  bear it in proportion to their weights, none beyond its own share; where long samples run out, the ingredient's short ones
  take their place, and ``long`` in the report says how many tokens were wanted and found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curriculum.candidates import DURATIONS, Candidates
from manifests.recipe import StageSpec

Rows = NDArray[np.int64]
LONGEST_CLIP = {0: "15s", 1: "15s", 2: "15min", 3: "2h"}


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What a stage was given.

    Attributes:
        rounds: rows of `Candidates` in chance order; a sample that is placed k times is in k rounds, and all rounds have the
            same mixture but for chance.
        heldout: eligible held-out rows, each once, in chance order.
        report: tokens wanted and placed for each ingredient, for long samples, and samples left out by reason.
    """

    rounds: tuple[Rows, ...]
    heldout: Rows
    report: dict[str, Any]


def ingredient_of(tasks: list[str], prefixes: list[str]) -> NDArray[np.int64]:
    """For each task the index of the longest matching prefix; -1 when none matches."""

    def matches(task: str, prefix: str) -> bool:
        return prefix == "*" or task == prefix or task.startswith(prefix + ".")

    def longest(task: str) -> int:
        found = [index for index, prefix in enumerate(prefixes) if matches(task, prefix)]
        return max(found, key=lambda index: (prefixes[index] != "*", len(prefixes[index])), default=-1)

    return np.array([longest(task) for task in tasks], dtype=np.int64)


def select(candidates: Candidates, stage: StageSpec) -> Selection:
    """Chooses the samples of a stage. Depends on the samples and the stage alone, not on the order of files."""
    ingredient = ingredient_of(candidates.tasks, [entry.task for entry in stage.mixture])[candidates.task]
    clip_limit = DURATIONS.index(LONGEST_CLIP[stage.number])
    reasons = {
        "task not in the mixture": ingredient < 0,
        "longer than the context": candidates.total > stage.context,
        "more visual tokens than the budget": candidates.visual > stage.visual_budget,
        f"clip longer than {LONGEST_CLIP[stage.number]}": candidates.duration > clip_limit,
    }
    eligible = ~np.logical_or.reduce(list(reasons.values()))
    train = eligible & ~candidates.heldout
    is_long = candidates.total * 2 > stage.context
    pools = [[_Pool(candidates, np.flatnonzero(train & (ingredient == index) & (is_long == long))) for long in (False, True)]
             for index in range(len(stage.mixture))]  # fmt: skip
    weights = np.array([entry.weight for entry in stage.mixture], dtype=np.float64)
    wanted = stage.tokens * weights / weights.sum()
    if stage.long_share is None:
        pools = [[_Pool(candidates, np.sort(np.concatenate([short.rows, long.rows])))] for short, long in pools]
        targets = [[want] for want in wanted.tolist()]
    else:
        found = np.array([long.tokens * stage.epochs_max for _, long in pools], dtype=np.float64)
        long_wanted = _shared_out(stage.tokens * stage.long_share, wanted, np.minimum(wanted, found))
        targets = [[want - long, long] for want, long in zip(wanted.tolist(), long_wanted.tolist(), strict=True)]
    copies = [
        _chosen(row, row_targets, stage, clip_limit, number)
        for number, (row, row_targets) in enumerate(zip(pools, targets, strict=True))
    ]
    rounds = _dealt(candidates, stage, [each for ingredient_copies in copies for each in ingredient_copies])
    placed = [_merged([rows for each in ingredient_copies for rows in each]) for ingredient_copies in copies]
    report = {
        "ingredients": [
            _ingredient_report(candidates, entry.task, float(want), row, rows)
            for entry, want, row, rows in zip(stage.mixture, wanted, pools, placed, strict=True)
        ],
        "long": None if stage.long_share is None else {
            "above": stage.context // 2,
            "wanted": round(stage.tokens * stage.long_share),
            "placed": int(sum(candidates.total[rows[is_long[rows]]].sum() for rows in placed)),
        },
        "left_out": _left_out(reasons, ~candidates.heldout),
    }  # fmt: skip
    heldout = _shuffled(candidates, np.flatnonzero(eligible & candidates.heldout), stage, 0)
    return Selection(rounds=rounds, heldout=heldout, report=report)


class _Pool:
    """Samples among which chance decides."""

    def __init__(self, candidates: Candidates, rows: Rows) -> None:
        self.candidates, self.rows = candidates, rows
        self.tokens = int(candidates.total[rows].sum())

    def choose(self, wanted: float, stage: StageSpec, clip_limit: int, number: int) -> list[Rows]:
        """Rows for every epoch: whole epochs, then as much of one more as ``wanted`` and ``epochs_max`` allow."""
        if not self.tokens:
            return []
        allowed = int(min(wanted, self.tokens * stage.epochs_max))
        whole, left = divmod(allowed, self.tokens)
        duration = self.candidates.duration[self.rows]
        foreign = (duration >= 0) & (duration != clip_limit)
        chance = self.candidates.keys(self.rows, stage.seed, stage.number, whole, "choice", number)
        order = self.rows[np.lexsort((chance, foreign))]
        partial = order[_first_that_fit(self.candidates.total[order], left)]
        return [self.rows] * whole + ([partial] if len(partial) else [])


def _chosen(pools: list[_Pool], targets: list[float], stage: StageSpec, clip_limit: int, number: int) -> list[list[Rows]]:
    """The copies of each pool of an ingredient, last pool first: what it leaves of its target goes to the one before."""
    chosen: list[list[Rows]] = []
    left = 0.0
    for pool, target in zip(reversed(pools), reversed(targets), strict=True):
        chosen.append(pool.choose(target + left, stage, clip_limit, number))
        left += target - sum(int(pool.candidates.total[rows].sum()) for rows in chosen[-1])
    return chosen


def _dealt(candidates: Candidates, stage: StageSpec, pools: list[list[Rows]]) -> tuple[Rows, ...]:
    """Deals the copies of every pool over as many rounds as the most repeated sample needs, evenly, no sample twice in one."""
    count = max((len(copies) for copies in pools), default=0)
    dealt: list[list[Rows]] = [[] for _ in range(count)]
    for copies in pools:
        for number, rows in enumerate(copies):
            first = (candidates.keys(rows, stage.seed, stage.number, "round") >> np.uint64(32)).astype(np.int64) * count >> 32
            turn = (first + number * count // len(copies)) % count
            for each in range(count):
                dealt[each].append(rows[turn == each])
    shuffled = (_shuffled(candidates, _merged(parts), stage, number) for number, parts in enumerate(dealt))
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


def _shared_out(amount: float, weights: NDArray[np.float64], limits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shares ``amount`` in proportion to ``weights``, none above its limit: what one cannot bear, the others do."""
    shares = np.zeros(len(weights))
    for _ in range(len(weights)):
        open_ = shares < limits
        left = amount - shares.sum()
        if left <= 0 or not open_.any():
            break
        shares[open_] = np.minimum(limits[open_], shares[open_] + left * weights[open_] / weights[open_].sum())
    return shares


def _merged(parts: list[Rows]) -> Rows:
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


def _shuffled(candidates: Candidates, rows: Rows, stage: StageSpec, number: int) -> Rows:
    rows = np.sort(rows)
    return rows[np.argsort(candidates.keys(rows, stage.seed, stage.number, number, "order"), kind="stable")]


def _ingredient_report(candidates: Candidates, task: str, wanted: float, pools: list[_Pool], rows: Rows) -> dict[str, Any]:
    available = sum(pool.tokens for pool in pools)
    placed = int(candidates.total[rows].sum())
    return {
        "task": task,
        "wanted": round(wanted),
        "placed": placed,
        "available": available,
        "samples": sum(len(pool.rows) for pool in pools),
        "epochs": round(placed / available, 4) if available else 0.0,
    }


def _left_out(reasons: dict[str, NDArray[np.bool_]], among: NDArray[np.bool_]) -> dict[str, int]:
    """Training samples left out, by the first reason that holds."""
    counts = {}
    for reason, holds in reasons.items():
        counts[reason] = int(np.count_nonzero(holds & among))
        among = among & ~holds
    return counts
