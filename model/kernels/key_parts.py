# mypy: allow-untyped-defs
"""What blocks of queries give to keys, written down and added up: the gradients of keys, values and the indexer's keys.

Every number of a gradient is summed by one program, in an order that only the sets decide: two runs give identical bits, and
nothing is atomic. The pass over the queries writes a part for each key of a block's list, and writes it where it will be read:
parts lie range of keys by range of keys, and within a range block after block. So a program that owns a range reads its parts
in a row. A product with a matrix of zeros and ones adds each part to its key's row of the sum, in registers.

Decided here:
- Parts live for a window of blocks, whose lists together have about as many keys as there is room for. Where the parts of each
  block and range go is a running sum over (ranges, blocks) of the lengths that the lists' makers noted.
- How many windows a chunk needs is asked of the device only when the room cannot hold what the lists could be at most.
- Parts have the type of the inputs, sums are float32.

Counted at the published geometry, 128K, a union of 8K for 16 queries, bf16: 8,192 blocks * 8K keys * 2 KB = 137 GB written and
as much read. Not taken:
- adding to float32 rows in memory, range by range, the first version here: 550 GB read and written, tiles of the few keys of a
  list that lie in a range, and the logits a second time;
- parts in the order of the lists, the second version: a program then goes from block to block for 8 keys each, and waits for
  memory each time; 67 million such waits;
- 64-bit fixed-point atomics: 550 GB of atomics, and a scale to guess;
- a list of queries for every key: its queries are no neighbours, so 8 heads of q and dO for each row of k, 4.4 TB.

Shapes: C blocks of a chunk, Z ranges of RANGE keys, X columns of a sum, N parts of a tile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def place_parts(bases, slot, ranges, row_N, n_N, size, RANGE: tl.constexpr):
    """Where the parts of a tile's keys go, [N] int64. `n_N`: the keys' places in the block's list."""
    return tl.load(bases + slot * ranges + row_N // RANGE, mask=n_N < size, other=0) + n_N


@triton.jit
def add_parts(
    parts, part_rows, bounds, into, keys,
    WIDTH: tl.constexpr, X: tl.constexpr, RANGE: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """Adds a window's parts [room, WIDTH], which belong to the keys part_rows [room], to into [keys, WIDTH] float32.

    `bounds` [Z + 1] int64: where each range's parts begin. Grid: (Z, WIDTH / X).
    """
    key0 = tl.program_id(0) * RANGE
    begin, stop = tl.load(bounds + tl.program_id(0)), tl.load(bounds + tl.program_id(0) + 1)
    if begin < stop:
        x_X, n_N, key_R = tl.program_id(1) * X + tl.arange(0, X), tl.arange(0, N), key0 + tl.arange(0, RANGE)
        at_RX = key_R[:, None].to(tl.int64) * WIDTH + x_X[None, :]
        sum_RX = tl.load(into + at_RX, mask=(key_R < keys)[:, None], other=0.0)
        part_rows += begin
        parts += begin * WIDTH
        for n0 in range(0, (stop - begin).to(tl.int32), N):
            there_N = n0 + n_N < stop - begin
            row_N = tl.load(part_rows + n0 + n_N, mask=there_N, other=-1)
            part_NX = tl.load(parts + (n0 + n_N)[:, None] * WIDTH + x_X[None, :], mask=there_N[:, None], other=0.0)
            belongs_RN = tl.where(row_N[None, :] == key_R[:, None], 1.0, 0.0)
            sum_RX = tl.dot(belongs_RN.to(part_NX.dtype), part_NX, sum_RX, input_precision="ieee")
        tl.store(into + at_RX, sum_RX, mask=(key_R < keys)[:, None])


@dataclass(frozen=True)
class Window:
    """`places` [C] int64: the keys of the window's lists before a block's, -1 for blocks that are not in it. `bases` [C, Z]
    int64: added to a key's place in its list, where its part goes. `bounds` [Z + 1] int64: where each range's parts begin."""

    places: Tensor
    bases: Tensor
    bounds: Tensor


class Windows:
    """A chunk of blocks, cut into windows. `room`: parts for which there must be room.

    Args:
        sizes: [C] int32, keys in each block's list. span_from, span_to: [C, Z] int32, the part of it that lies in each range.
        most: what sizes add up to at most, known on the host. longest: the most that one of them can be.
        row_bytes: kept for each key of a list. budget: bytes for a window (one list more is let in).
    """

    def __init__(
        self, sizes: Tensor, span_from: Tensor, span_to: Tensor, *, most: int, longest: int, row_bytes: int, budget: int
    ) -> None:
        self.span_from, self.counts_CZ = span_from, span_to - span_from
        self.size = max(1, budget // row_bytes)
        self.room = min(self.size + longest, most)
        until_C = sizes.cumsum(0, dtype=torch.int64)
        self.places_C = until_C - sizes
        # Waits for the device, and only where lists at their longest would not fit.
        self.number = 1 if most <= self.size else triton.cdiv(int(until_C[-1]), self.size)

    def __iter__(self) -> Iterator[Window]:
        for number in range(self.number):
            places_C = self.places_C - number * self.size
            inside_C = (places_C >= 0) & (places_C < self.size)
            counts_ZC = self.counts_CZ.where(inside_C[:, None], 0).T.contiguous()
            until_ZC = counts_ZC.flatten().cumsum(0, dtype=torch.int64).view(counts_ZC.shape)
            bases_CZ = (until_ZC - counts_ZC).T - self.span_from
            bounds = torch.nn.functional.pad(until_ZC[:, -1], (1, 0))
            yield Window(places_C.where(inside_C, -1), bases_CZ.contiguous(), bounds)
