"""What a device could compute at most, to say what share of it training reaches; and how much memory this process takes.

Decided here: of a GPU whose data sheet `trainer.gpus.GPUS` knows, the sheet's bf16 peak, when training is in bf16. Of anything
else the fastest of a few matrix products in the precision of training, measured once when training starts. On a processor that
is the product of one thread, in processor time, times the threads that training has: by the clock, a machine that others use
gave half the peak, and utilisations above 100 %. What threads lose together (clock, caches, memory) then counts as not reached.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from trainer.gpus import GPUS

# Side of the square matrices: large enough to be limited by arithmetic, small enough to take milliseconds.
_SIDE_CPU, _SIDE_GPU = 768, 8192
_TRIES = 6


@dataclass(frozen=True, kw_only=True)
class Peak:
    """Operations a second of one rank's device, and where the figure comes from: a GPU's name, or ``measured``."""

    flops: float
    source: str


def peak_of(device: torch.device, dtype: torch.dtype) -> Peak:
    """The peak of a device."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device).lower()
        known = [gpu for gpu in GPUS.values() if gpu.name in name]
        if known and dtype == torch.bfloat16:
            return Peak(flops=known[0].flops, source=known[0].name)
        return Peak(flops=_fastest(device, dtype, _SIDE_GPU, time.perf_counter), source="measured")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        one = _fastest(device, dtype, _SIDE_CPU, time.thread_time)
    finally:
        torch.set_num_threads(threads)
    return Peak(flops=one * threads, source="measured")


def _fastest(device: torch.device, dtype: torch.dtype, side: int, clock: Callable[[], float]) -> float:
    """Operations a second of the fastest of a few products."""
    left = torch.ones(side, side, device=device, dtype=dtype)
    into = torch.empty_like(left)
    best = float("inf")
    for _ in range(_TRIES):
        begun = clock()
        torch.mm(left, left, out=into)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, clock() - begun)
    return 2.0 * side**3 / best


def memory_bytes(device: torch.device) -> int:
    """The most memory this process has had: of the GPU when it trains on one, resident memory elsewhere."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
