"""What generation remembers: keys, values and indexer keys of every sample, layer by layer.

Decided here: one buffer a sample and layer, doubled when full, so that samples of a batch may have any lengths and
finish at any time; buffers are token-major, so that sparse decoding gathers whole rows.

Shapes: S tokens seen, G KV groups, D head dim, E indexer head dim.
"""

from __future__ import annotations

import torch
from torch import Tensor


class SampleCache:
    """One layer's memory of one sample."""

    def __init__(self) -> None:
        self.length = 0
        self.buffers: list[Tensor] = []

    def append(self, *new: Tensor) -> list[Tensor]:
        """Adds rows [T, ...] to each buffer and returns everything seen, [S, ...]."""
        length = self.length + len(new[0])
        if not self.buffers or length > len(self.buffers[0]):
            capacity = max(64, length, 2 * self.length)
            grown = [torch.empty(capacity, *x.shape[1:], dtype=x.dtype, device=x.device) for x in new]
            for old, buffer in zip(self.buffers, grown, strict=False):
                buffer[: self.length] = old[: self.length]
            self.buffers = grown
        for buffer, x in zip(self.buffers, new, strict=True):
            buffer[self.length : length] = x
        self.length = length
        return [buffer[:length] for buffer in self.buffers]


class LayerCaches:
    """One layer's memory of a batch. `active`: which sample each sample of the current row is."""

    def __init__(self, samples: int) -> None:
        self.samples = [SampleCache() for _ in range(samples)]
        self.active = list(range(samples))

    def append(self, sample: int, k: Tensor, v: Tensor, index_k: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Adds k, v [T, G, D] and indexer keys [T, E] of the row's `sample`-th sample; returns all of its past with them."""
        k_all, v_all, index_k_all = self.samples[self.active[sample]].append(k, v, index_k)
        return k_all, v_all, index_k_all
