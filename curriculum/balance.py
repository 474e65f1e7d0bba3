"""The order of a stage's sequences, and who works on what: every rank of every step does about the same work.

Two levels, because a vision tower and a decoder wait for different things:

1. Sequences. A step is as slow as its dearest rank. What one rank does in one step is a *share*: as many sequences as a step
   has for each rank. Sequences are dealt to all shares of the stage, dearest first, each to the cheapest share with a place
   left (longest processing time first), and the dearest and cheapest shares exchange the two sequences that level them best.
   Shares then stand in the order of their dearest sequence, and a step takes neighbours: so steps cost the same, ranks cost
   the same, and ranks are at a sequence of about the same price at the same time, which matters where every pass exchanges
   experts or parameters. The trainer gives rank r of W every W-th sequence of a step; a plan for R ranks is as even for every
   W that divides R.
2. Pictures. Frames and images of a step go to the ranks of the vision tower by visual tokens, `shared_out`, whichever rank
   their sequence is on.

With as many ranks as sequences in a step, a share is one sequence: ranks are still even, because neighbours in price share a
step, but steps are not, and each holds sequences of one price. Steps come in random order either way.

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
EXCHANGES = 100_000

Integers = NDArray[np.int64]
Costs = NDArray[np.float64]


def balanced_order(costs: ArrayLike, per_step: int, *seed: object, ranks: int = 1) -> Integers:
    """Indices of the sequences in training order: step s holds entries ``[s * per_step, (s + 1) * per_step)``.

    Args:
        costs: [n], cost of each sequence, in any unit.
        per_step: sequences of one optimiser step.
        seed: what the order of the steps depends on.
        ranks: shares of a step; divides ``per_step``.

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
    dealt = _levelled(_dealt(ranked, cost, steps * ranks), cost)
    dealt = np.take_along_axis(dealt, np.argsort(-cost[dealt], axis=1, kind="stable"), axis=1)
    by_dearest = dealt[np.argsort(-cost[dealt[:, 0]], kind="stable")].reshape(steps, ranks, -1)
    shuffled = sorted(range(steps), key=lambda step: unit_hash(*seed, "step", step))
    # Turned by one place a step, so that no rank always has the dearest share; a step is its passes, one sequence a rank each.
    turn = (np.arange(ranks)[None, :] + np.arange(steps)[:, None]) % ranks
    turned = np.take_along_axis(by_dearest[shuffled], turn[:, :, None], axis=1)
    return np.concatenate([turned.transpose(0, 2, 1).reshape(-1), last])


def _dealt(ranked: Integers, cost: Costs, shares: int) -> Integers:
    """Sequences [shares, places], dearest first each to the cheapest share with a place left."""
    places = len(ranked) // shares
    # The first pass needs no search: every share gets one. Neighbours of one price are then dealt in the same manner.
    members: list[list[int]] = [[sequence] for sequence in ranked[:shares].tolist()]
    if places == 1:
        return np.array(members, dtype=np.int64)
    cheapest = [(load, share) for share, load in enumerate(cost[ranked[:shares]].tolist())]
    heapq.heapify(cheapest)
    rest = ranked[shares:]
    for sequence, price in zip(rest.tolist(), cost[rest].tolist(), strict=True):
        load, share = cheapest[0]
        members[share].append(sequence)
        if len(members[share]) < places:
            heapq.heapreplace(cheapest, (load + price, share))
        else:
            heapq.heappop(cheapest)
    return np.array(members, dtype=np.int64)


def _levelled(dealt: Integers, cost: Costs) -> Integers:
    """Exchanges single sequences between dear and cheap shares until none is dearer than `EVEN` x the mean or nothing helps."""
    if dealt.shape[1] == 1:
        return dealt
    load = cost[dealt].sum(axis=1)
    left = EXCHANGES
    for _ in range(ROUNDS):
        order = np.argsort(load, kind="stable")
        dear, cheap = order[::-1][: len(order) // 2], order[: len(order) // 2]
        apart = np.flatnonzero(load[dear] - load[cheap] > (EVEN - 1) * load.mean())[:left]
        left -= len(apart)
        helped = False
        for high, low in zip(dear[apart].tolist(), cheap[apart].tolist(), strict=True):
            half = (load[high] - load[low]) / 2
            gap = np.abs(cost[dealt[high]][:, None] - cost[dealt[low]][None, :] - half)
            i, j = np.unravel_index(int(gap.argmin()), gap.shape)
            if gap[i, j] < half:
                moved = cost[dealt[high, i]] - cost[dealt[low, j]]
                dealt[high, i], dealt[low, j] = dealt[low, j], dealt[high, i]
                load[high] -= moved
                load[low] += moved
                helped = True
        if not helped or left <= 0:
            break
    return dealt


@dataclass(frozen=True, kw_only=True)
class Evenness:
    """How long the dearest takes beside the mean; 1 is perfectly even.

    Attributes:
        steps: dearest step over mean step.
        ranks: sum over steps of the dearest rank's cost, over that of the mean rank: what a synchronous step loses, and
            the throughput that even ranks would gain.
        passes: the same where ranks also wait for each other after every sequence.
    """

    steps: float
    ranks: float
    passes: float


def evenness(costs: ArrayLike, per_step: int, ranks: int) -> Evenness:
    """Of sequences in this order, whole steps only; rank r works on every ``ranks``-th sequence of a step in turn."""
    cost = np.asarray(costs, dtype=np.float64)
    steps = len(cost) // per_step
    if not steps or not cost.any():
        return Evenness(steps=1.0, ranks=1.0, passes=1.0)
    by_pass = cost[: steps * per_step].reshape(steps, per_step // ranks, ranks)
    by_rank = by_pass.sum(axis=1)
    loads = by_rank.sum(axis=1)
    return Evenness(
        steps=float(loads.max() / loads.mean()),
        ranks=float(by_rank.max(axis=1).sum() / by_rank.mean(axis=1).sum()),
        passes=float(by_pass.max(axis=2).sum() / by_pass.mean(axis=2).sum()),
    )


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
