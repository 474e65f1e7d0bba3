"""How a packed row's queries are cut into blocks that never cross a sample, without asking the device how long samples are.

Decided here: T queries in N segments make at most T / B + N blocks of B queries. A table of that many rows is made on the
device from the segments' bounds; what is left over is empty. So launching a kernel over blocks waits for nothing.

A segment is queries [start, end) that are the last of the keys [first, last) they may see: a whole sample, or a part of it
(`sequence_shard`).

A block whose queries all see `top_k` keys or fewer needs no selection: its queries read every key from the segment's first to
themselves. Such a block is called short. As blocks start at multiples of B from the segment's start, a segment's short ones are
its first.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Columns of a table: the block's first query, how many it has (0: an empty block), the first key they may see, and the key
# up to which the first of them sees; each next one sees one more.
COLUMNS = 4


def whole_samples(cu_seqlens: Tensor) -> Tensor:
    """Segments [N, 4] int32 (start, end, first, last) of a row without a past, from its cumulative lengths [N + 1]."""
    first, end = cu_seqlens[:-1], cu_seqlens[1:]
    return torch.stack((first, end, first, end), dim=1)


def row_blocks(segments: Tensor, queries: int, size: int) -> Tensor:
    """[blocks, 4] int32 (`COLUMNS`), in the order of the row.

    Args:
        segments: [N, 4] int32 (start, end, first, last), contiguous in the queries. queries: T. size: B.
    """
    start_N, end_N, first_N, last_N = segments.unbind(1)
    blocks_N = (end_N - start_N + size - 1).div(size, rounding_mode="floor")
    until_N = blocks_N.cumsum(0, dtype=torch.int32)
    number = torch.arange(queries // size + len(segments), device=segments.device, dtype=torch.int32)
    own = torch.searchsorted(until_N, number, right=True).clamp_(max=len(segments) - 1)
    start = start_N[own] + (number - until_N[own] + blocks_N[own]) * size
    count = (end_N[own] - start).clamp(0, size).where(number < until_N[-1], 0)
    return torch.stack((start, count, first_N[own], last_N[own] - end_N[own] + start), dim=1).to(torch.int32).contiguous()


def visible(blocks: Tensor) -> Tensor:
    """Keys that a block's last query sees, [blocks] int32; 0 for an empty block."""
    return (blocks[:, 3] + blocks[:, 1] - blocks[:, 2]).where(blocks[:, 1] > 0, 0)
