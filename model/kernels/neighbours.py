# mypy: allow-untyped-defs
"""What neighbouring queries read together: the union of their selected sets, each key once, with who selected it.

Neighbours select nearly the same keys, so a block of B queries loads the union once and masks. A union is a list of rows
in ascending order and, beside it, a word whose bit i says whether the block's query i selected that row.

Decided here:
- Built by marking and scanning, not by sorting: a program owns a strip of words, one for each position of the longest
  sample; it marks its block's sets (one query after another, so no two threads ever write a word at once), scans the strip
  in order into the list and clears it. The order of the list is that of the keys, whatever the timing: deterministic
  without an atomic. Work per block is B * K marks and one scan of its sample; sorting B * K keys is five passes or more
  over twice the bytes.
- Lists live for a chunk of blocks at a time and are made anew for backward. Their room is chunk * min(B * K, longest)
  words twice: a constant of the chunk, not of the row. All blocks at once would take up to twice the bytes of the sets.
- The scan also notes where in the list each range of RANGE rows begins and ends: a kernel that owns a range of keys
  finds its part of every block's list without a search.

Bytes and operations for choosing this against a gather per query are counted in `sparse_attention`.

Shapes: T queries, K selected, B queries of a block, C blocks of a chunk, Z ranges of the row.
"""

from __future__ import annotations

from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor

from model.kernels.build import Build


@dataclass(frozen=True, kw_only=True)
class UnionShape:
    """Sizes of the building kernel. `programs` bounds the strips' memory: programs * (longest + 2 * scan) words.

    On a GPU `scan` and `step` must be at least the threads of a program, 256: with fewer words than threads two threads hold
    the same word, and one would read what the other has cleared.
    """

    chunk: int = 1024
    range: int = 64
    scan: int = 4096
    step: int = 1024
    programs: int = 256


@triton.jit(do_not_specialize=["first_block", "chunk"])
def _unite(
    selected, blocks, strips, rows, bits, sizes, span_from, span_to, first_block, chunk, top_k, K, capacity, ranges, width,
    SCAN: tl.constexpr, RANGE: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    strip = strips + tl.program_id(0).to(tl.int64) * width
    for slot in range(tl.program_id(0), chunk, tl.num_programs(0)):
        block = blocks + (first_block + slot) * 4
        start, count, first = tl.load(block), tl.load(block + 1), tl.load(block + 2)
        end = tl.load(block + 3) + count
        size = 0
        if (count > 0) & (end - first > top_k):
            origin = first // SCAN * SCAN
            for query in range(count):
                for k0 in range(0, K, STEP):
                    place = k0 + tl.arange(0, STEP)
                    row = tl.load(selected + (start + query).to(tl.int64) * K + place, mask=place < K, other=-1)
                    word = tl.load(strip + row - origin, mask=row >= 0, other=0)
                    tl.store(strip + row - origin, word | (1 << query), mask=row >= 0)
                # The next query's threads read words that this one's wrote.
                tl.debug_barrier()
            for w0 in range(origin, end, SCAN):
                row = w0 + tl.arange(0, SCAN)
                word = tl.load(strip + row - origin)
                tl.store(strip + row - origin, tl.zeros_like(word))
                taken = (word != 0).to(tl.int32)
                place = slot * capacity + size + tl.cumsum(taken, 0) - taken
                tl.store(rows + place, row, mask=taken != 0)
                tl.store(bits + place, word, mask=taken != 0)
                in_range = tl.sum(tl.reshape(taken, (SCAN // RANGE, RANGE)), 1)
                until = size + tl.cumsum(in_range, 0)
                span = w0 // RANGE + tl.arange(0, SCAN // RANGE)
                tl.store(span_from + slot * ranges + span, until - in_range, mask=span < ranges)
                tl.store(span_to + slot * ranges + span, until, mask=span < ranges)
                size += tl.sum(taken, 0)
            # The strip is clear before the next block marks it.
            tl.debug_barrier()
        tl.store(sizes + slot, size)


class Unions:
    """Room for the unions of a chunk of blocks, filled by `build` for one chunk after another.

    `rows`, `bits` [C, capacity] int32; `sizes` [C] int32, 0 for short and empty blocks. `span_from`, `span_to` [C, Z]
    int32: the part of a list that lies in each range of keys; both are 0 where the list does not reach.
    """

    def __init__(
        self, selected_TK: Tensor, blocks: Tensor, *, keys: int, longest: int, top_k: int, block: int, shape: UnionShape
    ) -> None:
        self.selected, self.blocks, self.top_k, self.shape = selected_TK, blocks, top_k, shape
        self.chunk = min(shape.chunk, len(blocks))
        self.capacity = min(block * selected_TK.shape[1], longest)
        self.ranges = triton.cdiv(keys, shape.range)
        new = selected_TK.new_empty
        self.rows, self.bits = new(self.chunk, self.capacity), new(self.chunk, self.capacity)
        self.sizes = new(self.chunk)
        self.span_from, self.span_to = new(self.chunk, self.ranges), new(self.chunk, self.ranges)
        self._programs = min(shape.programs, self.chunk)
        self._strips = selected_TK.new_zeros(self._programs, longest + 2 * shape.scan)

    def build(self, first_block: int) -> int:
        """Fills the lists of the chunk that begins at a block; returns how many blocks it has."""
        chunk = min(self.chunk, len(self.blocks) - first_block)
        self.span_from.zero_()
        self.span_to.zero_()
        _unite[(self._programs,)](
            self.selected, self.blocks, self._strips, self.rows, self.bits, self.sizes, self.span_from, self.span_to,
            first_block, chunk, self.top_k, self.selected.shape[1], self.capacity, self.ranges, self._strips.shape[1],
            SCAN=self.shape.scan, RANGE=self.shape.range, STEP=min(self.shape.step, self.shape.scan), num_warps=8,
        )  # fmt: skip
        return chunk


def builds() -> list[Build]:
    """The variant of the published geometry."""
    shape = UnionShape()
    pointers = ("selected", "blocks", "strips", "rows", "bits", "sizes", "span_from", "span_to")
    numbers = ("first_block", "chunk", "top_k", "K", "capacity", "ranges", "width")
    return [
        Build(
            name="union of 16 queries' sets",
            kernel=_unite,
            types={**dict.fromkeys(pointers, "*i32"), **dict.fromkeys(numbers, "i32")},
            constants={"SCAN": shape.scan, "RANGE": shape.range, "STEP": shape.step},
            warps=8,
        )
    ]
