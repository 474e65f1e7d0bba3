"""Whole samples into sequences of at most ``capacity`` tokens, as few sequences as best-fit-decreasing finds. No sample is cut.

Best fit works on levels: all open sequences with the same room are one level, all samples of the same length are placed into a
level at once. So the work grows with the number of distinct (length, room) pairs that meet, not with the number of samples:
measured on 2 cores, 1 million lognormal lengths at 32K take about half a second, sorting included. Where best fit misses the
lower bound, which it does with few samples, `curriculum.refining` goes on from there.

Two limits (tokens and visual tokens) are reduced to three passes with one limit each, so that they stay that fast:

1. samples whose visual share is above ``visual_capacity / capacity``, by visual tokens: their tokens then fit by themselves;
2. other samples with pictures, into the room left: the smaller of the token room and what the visual room is worth in tokens at
   that ratio; either limit then holds by itself;
3. samples without pictures, by tokens, into whatever token room is left.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from curriculum.bounds import lower_bound
from curriculum.refining import SAMPLES_MAX, refine

Indices = NDArray[np.int64]


def pack(lengths: ArrayLike, capacity: int) -> list[Indices]:
    """Packs by best-fit-decreasing, and a small number of samples once more where that misses the lower bound.

    Args:
        lengths: integer [n], tokens of each sample.
        capacity: tokens a sequence holds.

    Returns:
        One rising array of indices per sequence; every index in exactly one. Equal input gives equal output.

    Raises:
        ValueError: a length is negative or above the capacity; the message names its index.
    """
    sizes = _checked(lengths, capacity, "length")
    found = _best_fit(sizes, np.empty(0, dtype=np.int64), capacity)
    return _collect(refine(found, sizes, capacity, lower_bound(sizes, capacity) if len(sizes) <= SAMPLES_MAX else len(sizes)))


def pack_two(lengths: ArrayLike, visual: ArrayLike, capacity: int, visual_capacity: int) -> list[Indices]:
    """Packs under two limits: tokens, and the visual tokens among them.

    Args:
        lengths: integer [n], tokens of each sample.
        visual: integer [n], visual tokens of each sample, at most its length.
        capacity, visual_capacity: what a sequence holds of each.

    Returns:
        As `pack`.

    Raises:
        ValueError: a sample is over a limit by itself, or the two arrays differ in length; the message names the index.
    """
    return _collect(place(lengths, visual, capacity, visual_capacity, [], []))


def place(
    lengths: ArrayLike, visual: ArrayLike, capacity: int, visual_capacity: int, room: ArrayLike, visual_room: ArrayLike
) -> Indices:
    """As `pack_two`, into sequences that are open already and as many new ones as it takes.

    Args:
        room, visual_room: integer [m], tokens and visual tokens that open sequences 0 to m - 1 still hold.

    Returns:
        The number of its sequence for every sample; new sequences are numbered from m.
    """
    sizes = _checked(lengths, capacity, "length")
    pictures = _checked(visual, visual_capacity, "visual length")
    if sizes.shape != pictures.shape:
        raise ValueError(f"{len(sizes)} lengths and {len(pictures)} visual lengths: give one of each per sample")
    more = np.flatnonzero(pictures > sizes)
    if len(more):
        raise ValueError(f"item {more[0]} has {pictures[more[0]]} visual tokens of {sizes[more[0]]}")
    free, visual_free = np.asarray(room, dtype=np.int64), np.asarray(visual_room, dtype=np.int64)
    dense = pictures * capacity > sizes * visual_capacity
    if not dense.any() and (visual_free * capacity >= free * visual_capacity).all():
        return _best_fit(sizes, free, capacity)  # visual tokens cannot reach their limit before tokens reach theirs
    found = np.empty(len(sizes), dtype=np.int64)
    for chosen, by_pictures in ((dense, True), (~dense & (pictures > 0), False), (pictures == 0, False)):
        if by_pictures:
            usable = np.minimum(visual_free, free * visual_capacity // capacity)
            found[chosen] = _best_fit(pictures[chosen], usable, visual_capacity)
        else:
            usable = np.minimum(free, visual_free * capacity // visual_capacity) if pictures[chosen].any() else free
            found[chosen] = _best_fit(sizes[chosen], usable, capacity)
        new = max(0, int(found[chosen].max(initial=-1)) + 1 - len(free))
        free = np.append(free, np.full(new, capacity))
        visual_free = np.append(visual_free, np.full(new, visual_capacity))
        np.subtract.at(free, found[chosen], sizes[chosen])
        np.subtract.at(visual_free, found[chosen], pictures[chosen])
    return found


def _checked(lengths: ArrayLike, capacity: int, what: str) -> Indices:
    sizes = np.asarray(lengths)
    if sizes.ndim != 1 or not (np.issubdtype(sizes.dtype, np.integer) or sizes.size == 0):
        raise ValueError(f"{what}s must be a one-dimensional array of integers, not {sizes.dtype} {sizes.shape}")
    sizes = sizes.astype(np.int64)
    wrong = np.flatnonzero((sizes > capacity) | (sizes < 0))
    if len(wrong):
        index = int(wrong[0])
        limit = f"above the capacity of {capacity}" if sizes[index] > capacity else "negative"
        raise ValueError(f"item {index} has {what} {sizes[index]}, {limit}")
    return sizes


def _equal(values: Indices) -> Iterator[tuple[int, Indices]]:
    """Every distinct value, rising, with the rising indices at which it stands."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate([np.ones(min(1, len(order)), dtype=bool), ordered[1:] != ordered[:-1]]))
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(order)], strict=False):
        yield int(ordered[start]), order[start:end]


class _Levels:
    """Open sequences by their room; the smallest room that is enough is found by bisection."""

    def __init__(self, room: Indices) -> None:
        groups = list(_equal(room))
        self.rooms = [value for value, _ in groups]
        self.bins = {value: [bins] for value, bins in groups}

    def add(self, room: int, bins: Indices) -> None:
        if room not in self.bins:
            insort(self.rooms, room)
            self.bins[room] = []
        self.bins[room].append(bins)

    def take(self, position: int, most: int) -> Indices:
        """Takes up to ``most`` sequences of the level at ``position``."""
        room = self.rooms[position]
        chunks = self.bins[room]
        chunk = chunks.pop()
        if len(chunk) > most:
            chunks.append(chunk[:-most])
            chunk = chunk[-most:]
        if not chunks:
            del self.bins[room], self.rooms[position]
        return chunk


def _best_fit(sizes: Indices, room: Indices, capacity: int) -> Indices:
    """The sequence of every item; sequences 0 to ``len(room) - 1`` are open already, with that much room."""
    place = np.empty(len(sizes), dtype=np.int64)
    levels, opened = _Levels(room), len(room)
    for negative, items in _equal(-sizes):
        size, done = -negative, 0
        while done < len(items):
            left = len(items) - done
            position = bisect_left(levels.rooms, size)
            if position < len(levels.rooms):
                free = levels.rooms[position]
                each = left if size == 0 else free // size
                bins = levels.take(position, max(1, left // each))
            else:
                free, each = capacity, left if size == 0 else capacity // size
                bins = np.arange(opened, opened + max(1, left // each), dtype=np.int64)
                opened += len(bins)
            each = min(each, left)
            placed = each * len(bins)
            place[items[done : done + placed]] = np.repeat(bins, each)
            done += placed
            levels.add(free - each * size, bins)
    return place


def _collect(place: Indices) -> list[Indices]:
    return [items for _, items in _equal(place)]
