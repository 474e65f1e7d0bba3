"""Fewer sequences than best fit found, for the small corpora on which best fit misses the bound.

Decided here: a local search in the manner of minimum bin slack (Fleszar and Hindi, Computers & Operations Research 29, 2002)
with threshold accepting (Dueck and Scheuer, Journal of Computational Physics 90, 1990). A few sequences, mostly ones with
room, are taken apart and packed anew, each new sequence around its longest sample with those others that fill it best: an
exact subset sum over bits. What comes out replaces the old when it has no more sequences and the sum of squared fills falls
by no more than a threshold that shrinks to nothing. It ends at the lower bound, or when its turns or its work are used up.
Chance is `random.Random` of a fixed seed, whose ``random()`` gives the same numbers in every version of Python, so equal
input gives equal output.

On the demo's 4,856 lengths at a context of 1,024: best fit 1,501 sequences; without the threshold 1,492; with it 1,490, the
bound, in about two seconds (`benchmarks/packing.py`). Above `SAMPLES_MAX` samples best fit is at the bound anyway and this
would be slow.
"""

from __future__ import annotations

from random import Random

import numpy as np
from numpy.typing import NDArray

SAMPLES_MAX = 20_000
TAKEN = 8
TURNS_MAX = 15_000
WORK_MAX = 500_000
THRESHOLD = 0.1
"""Of the squared capacity: what a turn may lose at the start."""

Integers = NDArray[np.int64]


def refine(
    numbers: Integers,
    lengths: Integers,
    capacity: int,
    bound: int,
    *,
    visual: Integers | None = None,
    visual_capacity: int = 0,
    names: Integers | None = None,
) -> Integers:
    """Packs again what has room.

    Args:
        numbers: the sequence of each sample, from 0, [n].
        lengths: tokens of each sample, [n].
        bound: sequences that no packing goes below (`curriculum.bounds`).
        visual, visual_capacity: a second limit, that of visual tokens.
        names: samples of one name are never put into one sequence.

    Returns:
        The sequence of each sample anew: never more sequences than before.
    """
    count = int(numbers.max(initial=-1)) + 1
    if not bound < count or len(numbers) > SAMPLES_MAX:
        return numbers
    unit = int(np.gcd.reduce(np.append(lengths, capacity)))
    sizes, most = (lengths // unit).tolist(), capacity // unit
    sequences: list[list[int]] = [[] for _ in range(count)]
    for sample, number in enumerate(numbers.tolist()):
        sequences[number].append(sample)
    fills = [sum(sizes[sample] for sample in held) for held in sequences]
    chance, turns, work = Random(17), min(TURNS_MAX, 100 + 10 * len(numbers)), 0
    for turn in range(turns):
        left = 1 - max(turn / turns, work / WORK_MAX)
        taken = _taken(fills, most, chance)
        if len(sequences) <= bound or left <= 0 or len(taken) < 2:
            break
        samples = [sample for number in taken for sample in sequences[number]]
        work += len(samples) * (1 + most // 16_384)
        new = _packed(samples, sizes, most, chance)
        filled = [sum(sizes[sample] for sample in held) for held in new]
        loss = sum(fills[number] ** 2 for number in taken) - sum(fill * fill for fill in filled)
        good = len(new) < len(taken) or (len(new) == len(taken) and loss <= left * THRESHOLD * most * most * chance.random())
        if good and _allowed(new, visual, visual_capacity, names):
            for number in reversed(taken):
                del sequences[number], fills[number]
            sequences += new
            fills += filled
    found = np.empty(len(numbers), dtype=np.int64)
    for number, held in enumerate(sequences):
        found[held] = number
    return found


def _taken(fills: list[int], capacity: int, chance: Random) -> list[int]:
    """Up to `TAKEN` sequences, rising: every other time the emptiest, then by chance ones with room, three times in ten any."""
    roomy = [number for number, fill in enumerate(fills) if fill < capacity]
    if not roomy or len(fills) <= TAKEN:
        return list(range(len(fills))) if roomy else []
    chosen = {min(roomy, key=lambda number: fills[number])} if chance.random() < 0.5 else set[int]()
    while len(chosen) < TAKEN:
        with_room = len(roomy) > TAKEN and chance.random() < 0.7
        pool = roomy if with_room else range(len(fills))
        chosen.add(pool[int(chance.random() * len(pool))])
    return sorted(chosen)


def _packed(samples: list[int], sizes: list[int], capacity: int, chance: Random) -> list[list[int]]:
    """Sequences, each around the longest sample left, filled as far as its others allow; chance says which of equals."""
    rest = sorted(samples, key=lambda sample: (-sizes[sample], sample))
    packed = []
    while rest:
        first = rest.pop(0)
        room = capacity - sizes[first]
        fitting = [at for at, sample in enumerate(rest) if sizes[sample] <= room]
        fitting.sort(key=lambda _: chance.random())
        chosen = [fitting[at] for at in fullest([sizes[rest[at]] for at in fitting], room)]
        packed.append([first, *(rest[at] for at in chosen)])
        for at in sorted(chosen, reverse=True):
            del rest[at]
    return packed


def fullest(sizes: list[int], room: int) -> list[int]:
    """Indices of those ``sizes`` whose sum is the largest that ``room`` holds; the first ones that do."""
    reachable, within = [1], (1 << (room + 1)) - 1
    for size in sizes:
        reachable.append((reachable[-1] | (reachable[-1] << size)) & within)
        if reachable[-1] >> room & 1:
            break
    left = reachable[-1].bit_length() - 1
    chosen = []
    for at in range(len(reachable) - 2, -1, -1):
        if not reachable[at] >> left & 1:
            chosen.append(at)
            left -= sizes[at]
    return chosen


def _allowed(sequences: list[list[int]], visual: Integers | None, limit: int, names: Integers | None) -> bool:
    """Whether the new sequences keep the second limit and hold no name twice."""
    for held in sequences:
        if visual is not None and int(visual[held].sum()) > limit:
            return False
        if names is not None and len(set(names[held].tolist())) < len(held):
            return False
    return True
