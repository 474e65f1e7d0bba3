"""Which of many things are worth comparing: pairs with hashes a few bits apart, and groups with an equal key.

Two hashes of 64 bits at most b bits apart, cut into b + n bands, agree in at least n whole bands. Every choice of n bands is
therefore tried as a key, and no pair is missed. n grows with the number of hashes, so that a key is shared by few and cost
stays near linear; it would else grow with their square.

What very many share (a placeholder, a title card, a licence header) is compared with a few of them only: components of links
join the rest.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

HASH_BITS = 64
SHARERS_MAX = 8
_EXPANDED_MAX = 4_000_000
_UNEVEN_BITS = 3
_SORTED_COST = 8.0

Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]


def near_pairs(hashes: Hashes, owners: Places, targets: NDArray[np.bool_], bits: int) -> Places:
    """Owners of which a hash of one is at most ``bits`` from a target of the other.

    Args:
        hashes: [n] of all owners together.
        owners: [n] whose each is.
        targets: [n] whether others are compared with it: of two hashes at least one must be a target. Of one that more than
            `SHARERS_MAX` owners have, the first few are compared with all of them.

    Returns:
        [pairs, 2] owners, the smaller first; every pair once, in order.
    """
    hashes, owners, targets = _few_sharers(hashes, owners, targets)
    found: list[Places] = []
    for keys in _keys(hashes, int(targets.sum()), bits):
        order = np.argsort(keys)
        new = np.ones(len(keys), dtype=bool)
        new[1:] = keys[order[1:]] != keys[order[:-1]]
        begins = np.flatnonzero(new)
        counts = np.diff(np.append(begins, len(keys)))
        group = np.cumsum(new) - 1
        ranks = np.flatnonzero(targets[order] & (counts[group] > 1))
        start = begins[group[ranks]]
        for left, others in _expand(order[ranks], start, start + counts[group[ranks]]):
            right = order[others]
            near = (owners[left] != owners[right]) & (np.bitwise_count(hashes[left] ^ hashes[right]) <= bits)
            found.append(_unique_pairs(owners[left[near]], owners[right[near]]))
    return _unique_rows(found)


def _keys(hashes: Hashes, targets: int, bits: int) -> Iterator[Hashes]:
    """Every choice of whole bands, as one key for each hash; as many bands as are cheapest."""

    def cost(whole: int) -> float:
        # Keys to sort, and pairs that share one. Real hashes are not spread evenly: a key has a few bits less than it seems.
        shared = targets * len(hashes) / 2.0 ** (whole * HASH_BITS / (bits + whole) - _UNEVEN_BITS)
        return math.comb(bits + whole, whole) * (len(hashes) * _SORTED_COST + shared)

    whole = min((1, 2, 3), key=cost)
    edges = [HASH_BITS * band // (bits + whole) for band in range(bits + whole + 1)]
    bands = [np.uint64(((1 << (high - low)) - 1) << low) for low, high in itertools.pairwise(edges)]
    for chosen in itertools.combinations(bands, whole):
        yield hashes & np.bitwise_or.reduce(np.array(chosen, dtype=np.uint64))


def _few_sharers(hashes: Hashes, owners: Places, targets: NDArray[np.bool_]) -> tuple[Hashes, Places, NDArray[np.bool_]]:
    """Each hash of an owner once; and of those that ask with one hash only the first few."""
    if not len(hashes):
        return hashes, owners, targets
    order = np.lexsort((~targets, owners, hashes))
    hashes, owners, targets = hashes[order], owners[order], targets[order]
    first = np.ones(len(hashes), dtype=bool)
    first[1:] = (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1])
    hashes, owners, targets = hashes[first], owners[first], targets[first].copy()
    new = np.ones(len(hashes), dtype=bool)
    new[1:] = hashes[1:] != hashes[:-1]
    before: Places = np.cumsum(targets) - targets
    targets &= before - before[new][np.cumsum(new) - 1] < SHARERS_MAX
    return hashes, owners, targets


def _expand(asking: Places, start: Places, stop: Places) -> Iterator[tuple[Places, Places]]:
    """Pairs of each asking place with every rank from its start to its stop, a bounded number at a time."""
    counts = stop - start
    ends = np.cumsum(counts)
    begin = 0
    while begin < len(asking):
        base = ends[begin] - counts[begin]
        end = max(begin + 1, int(np.searchsorted(ends, base + _EXPANDED_MAX, side="right")))
        some = counts[begin:end]
        left = np.repeat(asking[begin:end], some)
        offset = np.arange(int(some.sum())) - np.repeat(np.cumsum(some) - some, some)
        yield left, np.repeat(start[begin:end], some) + offset
        begin = end


def _unique_pairs(left: Places, right: Places) -> Places:
    return np.unique(np.stack([np.minimum(left, right), np.maximum(left, right)], axis=1), axis=0)


def _unique_rows(found: list[Places]) -> Places:
    return np.unique(np.concatenate(found), axis=0) if found else np.empty((0, 2), dtype=np.int64)


def band_pairs(sketches: NDArray[np.uint32], owners: Places, similarity: float) -> Places:
    """Owners whose MinHash sketches agree in a whole band.

    Rows of a band are as many as still find a pair of exactly ``similarity`` with a chance of 99 %
    (1 - (1 - s**rows)**bands, Leskovec et al., Mining of Massive Datasets, 3.4).

    Args:
        sketches: [n, permutations].

    Returns:
        [pairs, 2] owners, the smaller first. Of the owners of one band each is paired with the next `SHARERS_MAX`.
    """
    permutations = sketches.shape[1]
    rows = max(
        (rows for rows in range(1, 17) if 1 - (1 - similarity**rows) ** (permutations // rows) >= 0.99),
        default=1,
    )
    found = []
    for low in range(0, permutations - rows + 1, rows):
        keys = np.ascontiguousarray(sketches[:, low : low + rows]).view(np.dtype((np.void, 4 * rows))).ravel()
        _, group = np.unique(keys, return_inverse=True)
        order = np.lexsort((owners, group))
        for step in range(1, SHARERS_MAX + 1):
            same = group[order[step:]] == group[order[:-step]]
            found.append(np.stack([owners[order[:-step][same]], owners[order[step:][same]]], axis=1))
    pairs = _unique_rows(found)
    pairs = np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1)
    return np.unique(pairs, axis=0)
