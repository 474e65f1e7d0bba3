# mypy: allow-untyped-defs
"""What blocks of queries give to keys, written down and added up: the gradients of keys, values and the indexer's keys.

Every number of a gradient is summed by one program, in the order of the queries: two runs give identical bits, and nothing
is atomic. The pass over the queries writes a part for each key of a block's list. As lists are in the order of the keys, what
belongs to a range of keys lies in a row; a program owns a range and adds, block after block, what is there for it. A product
with a matrix of zeros and ones puts each part in its key's row of the sum, in registers.

Decided here:
- Parts live for a window: the blocks whose lists begin within `size` rows of one another, counted over all lists. Which
  blocks these are is found on the device, so nobody waits to learn it; how many windows there can be follows from what the
  lists can hold, and one without blocks costs an empty launch. The room is `size` and one list.
- A sum goes on from window to window as if there were none, so its bits do not depend on `size`.
- Parts have the type of the inputs, sums are float32.

Counted at the published geometry, 128K, a union of 8K for 16 queries, bf16: 8,192 blocks * 8K keys * 2 KB = 137 GB written and
as much read. Not taken: adding to float32 rows in memory range by range, the first version here (550 GB read and written, tiles
of the few keys of a list that lie in a range, and the logits a second time); 64-bit fixed-point atomics (550 GB of atomics, and
a scale to guess); a list of queries for every key (a key's queries are no neighbours: 8 heads of q and dO for each row of k,
4.4 TB).

Shapes: X columns of a part or a sum, N parts of a tile, Z ranges of keys.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit(do_not_specialize=["first_block", "window"])
def add_parts(
    parts, into, blocks, rows, span_from, span_to, places, edges, first_slots,
    first_block, capacity, ranges, keys, top_k, window,
    WIDTH: tl.constexpr, X: tl.constexpr, RANGE: tl.constexpr, N: tl.constexpr, SELECTED: tl.constexpr,
):  # fmt: skip
    """Adds a window's parts [room, WIDTH] to into [keys, WIDTH] float32. Grid: (Z, WIDTH / X)."""
    key0 = tl.program_id(0) * RANGE
    begin, stop = tl.load(first_slots + window), tl.load(first_slots + window + 1)
    if begin < stop:
        x_X, n_N, key_R = tl.program_id(1) * X + tl.arange(0, X), tl.arange(0, N), key0 + tl.arange(0, RANGE)
        at_RX = key_R[:, None].to(tl.int64) * WIDTH + x_X[None, :]
        sum_RX = tl.load(into + at_RX, mask=(key_R < keys)[:, None], other=0.0)
        for slot in range(begin, stop):
            block = blocks + (first_block + slot) * 4
            first = tl.load(block + 2)
            if SELECTED:
                low = tl.load(span_from + slot * ranges + tl.program_id(0))
                high = tl.load(span_to + slot * ranges + tl.program_id(0))
            else:
                count = tl.load(block + 1)
                seen = tl.load(block + 3) + count - first
                low = tl.maximum(key0 - first, 0)
                high = tl.where((count > 0) & (seen <= top_k), tl.minimum(key0 + RANGE - first, seen), 0)
            place = tl.load(places + slot) - tl.load(edges + window)
            for n0 in range(low, high, N):
                there_N = n0 + n_N < high
                key_N = first + n0 + n_N
                if SELECTED:
                    key_N = tl.load(rows + slot * capacity + n0 + n_N, mask=there_N, other=-1)
                at_NX = (place + n0 + n_N)[:, None] * WIDTH + x_X[None, :]
                part_NX = tl.load(parts + at_NX, mask=there_N[:, None], other=0.0)
                belongs_RN = tl.where((key_N[None, :] == key_R[:, None]) & there_N[None, :], 1.0, 0.0)
                sum_RX = tl.dot(belongs_RN.to(part_NX.dtype), part_NX, sum_RX, input_precision="ieee")
        tl.store(into + at_RX, sum_RX, mask=(key_R < keys)[:, None])


class Windows:
    """Where each block's parts begin, and which blocks share a window.

    `places` [C] int64: the number of keys in all lists before a block's. `edges` [windows + 1] int64: at which of these numbers
    windows begin. `first_slots` [windows + 1] int32: with which block. `room`: keys for which there must be room.

    Args:
        sizes: [C] int32, keys in each block's list. most: what they add up to at most, known on the host. longest: the most
            that one can be. row_bytes: kept for each key of a list. budget: bytes for a window (one list more is let in).
    """

    def __init__(self, sizes: Tensor, *, most: int, longest: int, row_bytes: int, budget: int) -> None:
        size = max(1, budget // row_bytes)
        self.number = triton.cdiv(most, size)
        self.room = min(size + longest, most)
        self.places = sizes.cumsum(0, dtype=torch.int64) - sizes
        self.edges = torch.arange(self.number + 1, device=sizes.device) * size
        self.first_slots = torch.searchsorted(self.places, self.edges).to(torch.int32)

    def __iter__(self) -> Iterator[dict[str, Tensor | int]]:
        """What kernels are told of one window after another."""
        for window in range(self.number):
            yield {"places": self.places, "edges": self.edges, "window": window}
