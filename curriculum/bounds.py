"""The least number of sequences that any packing needs: what a plan's fill is measured against.

`lower_bound` is L2 of Martello and Toth (Knapsack Problems, 1990, section 8.3; Discrete Applied Mathematics 28, 1990): for
every threshold t up to half the capacity C, samples longer than C - t need a sequence each and take nothing of at least t
beside them; those above C / 2 need one each too, and what of the rest (at least t long) their sequences cannot hold needs
more. The plain bound, total over capacity, is t = 0. Only lengths that occur need to be tried, so with sorted prefix sums it
takes O(n log n).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def lower_bound(lengths: ArrayLike, capacity: int) -> int:
    """L2: no packing into sequences of ``capacity`` tokens has fewer.

    Args:
        lengths: integer [n], tokens of each sample, none above ``capacity``.
    """
    sizes: NDArray[np.int64] = np.sort(np.asarray(lengths, dtype=np.int64))
    if not len(sizes) or sizes[-1] == 0:
        return min(len(sizes), 1)
    before = np.concatenate([[0], np.cumsum(sizes)])
    thresholds = np.concatenate([[0], np.unique(sizes[sizes * 2 <= capacity])])
    alone = len(sizes) - np.searchsorted(sizes, capacity - thresholds, side="right")
    half = int(np.searchsorted(sizes * 2, capacity, side="right"))
    large_from = len(sizes) - alone
    large, large_tokens = large_from - half, before[large_from] - before[half]
    small = np.minimum(np.searchsorted(sizes, thresholds, side="left"), half)
    small_tokens = before[half] - before[small]
    spilled = small_tokens - (large * capacity - large_tokens)
    return int((alone + large + np.maximum(0, -(-spilled // capacity))).max())


def lower_bound_of_two(lengths: ArrayLike, visual: ArrayLike, capacity: int, visual_capacity: int) -> int:
    """The larger of the two limits' bounds: none of the packings under both has fewer."""
    pictures = lower_bound(visual, visual_capacity) if visual_capacity else 0
    return max(lower_bound(lengths, capacity), pictures)
