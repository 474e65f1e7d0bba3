"""How a packed row is cut into blocks that never cross a sample, without asking the device how long the samples are.

Decided here: a row of T tokens in N samples has at most T / B + N blocks of B tokens. A table of that many rows is made
on the device from the cumulative lengths; what is left over is empty. So launching a kernel over blocks waits for nothing.

A block's queries that all see `top_k` keys or fewer need no selection: they read every key from their sample's first to
themselves. Such a block is called short. As blocks start at multiples of B from the sample's start, the short ones of a
sample are its first ones.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Columns of a table: the block's first row, how many rows it has (0: an empty block), its sample's first row and end.
COLUMNS = 4


def row_blocks(cu_seqlens: Tensor, tokens: int, size: int) -> Tensor:
    """[blocks, 4] int32 (`COLUMNS`), in the order of the row.

    Args:
        cu_seqlens: [N + 1] int32 on the device. tokens: T, its last entry. size: B, rows of a block.
    """
    samples = len(cu_seqlens) - 1
    first_N, end_N = cu_seqlens[:-1], cu_seqlens[1:]
    blocks_N = (end_N - first_N + size - 1).div(size, rounding_mode="floor")
    until_N = blocks_N.cumsum(0, dtype=torch.int32)
    number = torch.arange(tokens // size + samples, device=cu_seqlens.device, dtype=torch.int32)
    sample = torch.searchsorted(until_N, number, right=True).clamp_(max=samples - 1)
    start = first_N[sample] + (number - until_N[sample] + blocks_N[sample]) * size
    count = (end_N[sample] - start).clamp(0, size).where(number < until_N[-1], 0)
    return torch.stack((start, count, first_N[sample], end_N[sample]), dim=1).to(torch.int32).contiguous()


def short_until(first: int, end: int, top_k: int, size: int) -> int:
    """The row at which a sample's short blocks end; the definition the kernels must equal."""
    return end if end - first <= top_k else first + top_k // size * size
