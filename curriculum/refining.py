"""Fewer sequences than best fit found, for the small corpora on which best fit misses the bound.

Decided here: a local search in the manner of minimum bin slack (Fleszar and Hindi, Computers & Operations Research 29, 2002).
The emptiest sequence and a few others with room are taken apart and packed anew, each new sequence around its longest sample
with those others that fill it best: an exact subset sum over bits. What comes out replaces the old when it has fewer
sequences, or as many and a fuller distribution (a larger sum of squared fills). It ends at the lower bound, when nothing has
helped for a while, or when `HANDLED_MAX` samples have been moved: sequences of hundreds of samples make dear turns. Which
sequences are taken is a hash of the turn, so equal input gives equal output.

On the demo's 3,306 lengths at a context of 1,024: best fit 952 sequences, bound 942, this 942 in a quarter of a second
(`benchmarks/packing.py`). Above `SAMPLES_MAX` samples best fit is at the bound anyway and this would be slow.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from manifests.fingerprint import unit_hash

SAMPLES_MAX = 20_000
TAKEN = 10
TURNS = 3_000
PATIENCE = 300
HANDLED_MAX = 100_000

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
    sizes = lengths.tolist()
    sequences: list[list[int]] = [[] for _ in range(count)]
    for sample, number in enumerate(numbers.tolist()):
        sequences[number].append(sample)
    fills = [sum(sizes[sample] for sample in held) for held in sequences]
    idle = handled = 0
    for turn in range(TURNS):
        if len(sequences) <= bound or idle >= PATIENCE or handled >= HANDLED_MAX:
            break
        idle += 1
        taken = _taken(fills, capacity, turn)
        if len(taken) < 2:
            break
        samples = [sample for number in taken for sample in sequences[number]]
        handled += len(samples)
        new = _packed(samples, sizes, capacity)
        if not _allowed(new, visual, visual_capacity, names):
            continue
        filled = [sum(sizes[sample] for sample in held) for held in new]
        gain = sum(fill * fill for fill in filled) - sum(fills[number] ** 2 for number in taken)
        if len(new) < len(taken) or (len(new) == len(taken) and gain >= 0):
            # As good is taken too: another mixture of samples may lead on. Only better ends the idling.
            idle = 0 if len(new) < len(taken) or gain > 0 else idle
            for number in reversed(taken):
                del sequences[number], fills[number]
            sequences += new
            fills += filled
    found = np.empty(len(numbers), dtype=np.int64)
    for number, held in enumerate(sequences):
        found[held] = number
    return found


def _taken(fills: list[int], capacity: int, turn: int) -> list[int]:
    """The emptiest sequence and up to `TAKEN` - 1 others by chance, rising: of those that have room, or, when these are few, of
    all, because full sequences then hold the samples that would fit."""
    roomy = [number for number, fill in enumerate(fills) if fill < capacity]
    pool = roomy if len(roomy) > TAKEN else list(range(len(fills)))
    if len(pool) <= TAKEN:
        return pool if roomy else []
    chosen = {min(pool, key=lambda number: fills[number])}
    draw = 0
    while len(chosen) < TAKEN:
        chosen.add(pool[int(unit_hash("refine", turn, draw) * len(pool))])
        draw += 1
    return sorted(chosen)


def _packed(samples: list[int], sizes: list[int], capacity: int) -> list[list[int]]:
    """Sequences, each around the longest sample that is left, filled as far as its others allow."""
    rest = sorted(samples, key=lambda sample: (-sizes[sample], sample))
    packed = []
    while rest:
        first = rest.pop(0)
        room = capacity - sizes[first]
        fitting = [at for at, sample in enumerate(rest) if sizes[sample] <= room]
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
