"""Scores as integers of the same order, and the k-th largest of them: shared by the kernels that select.

The image of a float32 is an unsigned integer whose order is the float's; -0.0 has that of 0.0, so that equal scores have
equal images. The k-th largest is found bit by bit, from the highest: 32 counts over values that stay in registers, no
sorting, no atomics, the same answer every time. 0 stands for "no value": no float that is a number has it.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def image(x):
    """float32 -> uint32 of the same order, never 0 for a number."""
    bits = tl.where(x == 0.0, 0.0, x).to(tl.uint32, bitcast=True)
    flip = tl.where((bits >> 31) == 1, 0xFFFFFFFF, 0x80000000).to(tl.uint32)
    return bits ^ flip


@triton.jit
def from_image(u):
    """The float32 of an image; NaN for images that no number has."""
    flip = tl.where((u >> 31) == 1, 0x80000000, 0xFFFFFFFF).to(tl.uint32)
    return (u ^ flip).to(tl.float32, bitcast=True)


@triton.jit
def ones_in(word):
    """How many bits of each uint32 are set, int32. Written as LLVM knows it, so that it becomes one instruction."""
    word = word - ((word >> 1) & 0x55555555)
    word = (word & 0x33333333) + ((word >> 2) & 0x33333333)
    word = (word + (word >> 4)) & 0x0F0F0F0F
    return ((word * 0x01010101) >> 24).to(tl.int32)


@triton.jit
def kth_largest(u_RN, rank_R):
    """Of each row the largest image v with at least `rank_R` of `u_RN` [R, N] uint32 at or above it; 0 when there are
    fewer."""
    found_R = tl.zeros_like(rank_R).to(tl.uint32)
    one = tl.full((1,), 1, dtype=tl.uint32)
    for step in range(32):
        trial_R = found_R | (one << (31 - step))
        enough_R = tl.sum((u_RN >= trial_R[:, None]).to(tl.int32), axis=1) >= rank_R
        found_R = tl.where(enough_R, trial_R, found_R)
    return found_R


@triton.jit
def best_places(u_RN, kth_R, top_k):
    """Which values are among the k best of their row, the first among equals, and the place of each in order: [R, N]."""
    above_RN = u_RN > kth_R[:, None]
    level_RN = (u_RN == kth_R[:, None]) & (u_RN > 0)
    room_R = top_k - tl.sum(above_RN.to(tl.int32), axis=1)
    # One running sum for both: above in the low half, level in the high half (a row is shorter than 2^15).
    running_RN = tl.cumsum(above_RN.to(tl.int32) + (level_RN.to(tl.int32) << 16), axis=1)
    rank_RN = running_RN >> 16
    take_RN = above_RN | (level_RN & (rank_RN <= room_R[:, None]))
    return take_RN, (running_RN & 0xFFFF) + tl.minimum(rank_RN, room_R[:, None]) - 1
