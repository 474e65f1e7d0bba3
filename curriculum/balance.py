"""The order of a stage's sequences, and who works on what: every rank of every step does about the same work.

Two levels, because a vision tower and a decoder wait for different things:

1. Sequences. A step is as slow as its dearest rank. Sequences are ranked by cost (`curriculum.cost`) and cut into *waves*: as
   many neighbours as there are ranks, one sequence for each. Within a wave costs are nearly equal, so no rank waits, neither
   at the end of a step nor, where experts or parameters are exchanged, at each of its passes. Then waves are dealt to steps,
   dearest first, each to the cheapest step with a place left (longest processing time first), and the dearest and cheapest
   steps exchange the waves that level them best: steps cost the same too, as far as they hold more than one wave. The trainer
   gives rank r of W every W-th sequence of a step; a plan for R ranks is as even for every W that divides R.
2. Pictures. Frames and images of a step go to the ranks of the vision tower by visual tokens, `shared_out`, whichever rank
   their sequence is on.

What it costs: with as many ranks as sequences in a step, a step is one wave, and holds sequences of one price. Fewer ranks
mix more prices. Steps come in random order either way.

When the number of sequences is no multiple of a step, nothing is dropped: the last step is smaller, holds a cross-section
of cheap and dear sequences, and stays last.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manifests.fingerprint import unit_hash

EVEN = 1.001
ROUNDS = 50

Integers = NDArray[np.int64]
Costs = NDArray[np.float64]


def balanced_order(costs: ArrayLike, per_step: int, *seed: object, ranks: int = 1) -> Integers:
    """Indices of the sequences in training order: step s holds entries ``[s * per_step, (s + 1) * per_step)``.

    Args:
        costs: [n], cost of each sequence, in any unit.
        per_step: sequences of one optimiser step.
        seed: what the order of the steps depends on.
        ranks: sequences of a wave; divides ``per_step``.

    Raises:
        ValueError: it does not.
    """
    if per_step % ranks:
        raise ValueError(f"{ranks} ranks do not divide {per_step} sequences a step")
    cost = np.asarray(costs, dtype=np.float64)
    ranked = np.argsort(-cost, kind="stable")
    steps, rest = divmod(len(ranked), per_step)
    across = (np.arange(rest) * 2 + 1) * len(ranked) // (2 * max(rest, 1))
    last, ranked = ranked[across], np.delete(ranked, across)
    if not steps:
        return last
    waves = ranked.reshape(-1, ranks)
    price = cost[waves].sum(axis=1)
    dealt = _levelled(_dealt(price, steps), price)
    shuffled = sorted(range(steps), key=lambda step: unit_hash(*seed, "step", step))
    return np.concatenate([_turned(waves[dealt[shuffled]]).reshape(-1), last])


def _dealt(price: Costs, steps: int) -> Integers:
    """Waves [steps, places] of falling price, each to the cheapest step with a place left."""
    places = len(price) // steps
    if places == 1:
        return np.arange(steps, dtype=np.int64)[:, None]
    members: list[list[int]] = [[] for _ in range(steps)]
    cheapest = [(0.0, step) for step in range(steps)]
    for wave, each in enumerate(price.tolist()):
        load, step = heapq.heappop(cheapest)
        members[step].append(wave)
        if len(members[step]) < places:
            heapq.heappush(cheapest, (load + each, step))
    return np.array(members, dtype=np.int64)


def _levelled(dealt: Integers, price: Costs) -> Integers:
    """Exchanges single waves between dear and cheap steps until none is dearer than `EVEN` x the mean or nothing helps."""
    if dealt.shape[1] == 1:
        return dealt
    load = price[dealt].sum(axis=1)
    for _ in range(ROUNDS):
        order = np.argsort(load, kind="stable")
        dear, cheap = order[::-1][: len(order) // 2], order[: len(order) // 2]
        apart = load[dear] - load[cheap] > (EVEN - 1) * load.mean()
        helped = False
        for high, low in zip(dear[apart].tolist(), cheap[apart].tolist(), strict=True):
            half = (load[high] - load[low]) / 2
            gap = np.abs(price[dealt[high]][:, None] - price[dealt[low]][None, :] - half)
            i, j = np.unravel_index(int(gap.argmin()), gap.shape)
            if gap[i, j] < half:
                moved = price[dealt[high, i]] - price[dealt[low, j]]
                dealt[high, i], dealt[low, j] = dealt[low, j], dealt[high, i]
                load[high] -= moved
                load[low] += moved
                helped = True
        if not helped:
            break
    return dealt


def _turned(steps: NDArray[np.int64]) -> NDArray[np.int64]:
    """Waves [steps, waves, ranks], each turned by another offset, so that no rank always gets the dearest of its wave."""
    _, waves, ranks = steps.shape
    shift = np.arange(waves) * ranks // waves
    return np.take_along_axis(steps, (np.arange(ranks)[None, :] + shift[:, None])[None] % ranks, axis=2)


@dataclass(frozen=True, kw_only=True)
class Evenness:
    """How long the dearest takes beside the mean; 1 is perfectly even.

    Attributes:
        steps: dearest step over mean step.
        ranks: sum over steps of the dearest rank's cost, over that of the mean rank: what a synchronous step loses, and
            the throughput that even ranks would gain.
    """

    steps: float
    ranks: float


def evenness(costs: ArrayLike, per_step: int, ranks: int) -> Evenness:
    """Of sequences in this order, whole steps only; rank r works on every ``ranks``-th sequence of a step."""
    cost = np.asarray(costs, dtype=np.float64)
    steps = len(cost) // per_step
    if not steps or not cost.any():
        return Evenness(steps=1.0, ranks=1.0)
    by_rank = cost[: steps * per_step].reshape(steps, per_step // ranks, ranks).sum(axis=1)
    loads = by_rank.sum(axis=1)
    return Evenness(
        steps=float(loads.max() / loads.mean()), ranks=float(by_rank.max(axis=1).sum() / by_rank.mean(axis=1).sum())
    )


def unevenness(costs: ArrayLike, per_step: int) -> float:
    """Dearest step over mean step, whole steps only, for sequences in this order; 1 is perfectly even."""
    return evenness(costs, per_step, 1).steps


def shared_out(weights: ArrayLike, ranks: int) -> Integers:
    """The rank of each picture of a step: heaviest first, each to the rank with the least (longest processing time first).

    Args:
        weights: [n], visual tokens of each picture. Ties go to the lower index and the lower rank.

    Returns:
        int64 [n], 0 to ``ranks - 1``. The fullest rank has at most 4/3 - 1/(3 ranks) times the least possible (Graham 1969).
    """
    weight = np.asarray(weights, dtype=np.int64)
    found = np.empty(len(weight), dtype=np.int64)
    least = [(0, rank) for rank in range(ranks)]
    for at in np.argsort(-weight, kind="stable").tolist():
        load, rank = least[0]
        found[at] = rank
        heapq.heapreplace(least, (load + int(weight[at]), rank))
    return found
