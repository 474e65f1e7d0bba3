"""What a device could compute at most, to say what share of it training reaches; and how much memory this process takes.

Decided here: of a GPU whose data sheet `trainer.gpus.GPUS` knows, the sheet's bf16 peak, when training is in bf16. Of
anything else, a processor above all, the fastest of a few matrix products in the precision of training, measured once when
training starts, with the threads that training has. A measured peak moves with what else the machine does: the figure says
which it is.
"""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass

import torch

from trainer.gpus import GPUS

# Side of the square matrices: large enough to be limited by arithmetic, small enough to take milliseconds.
_SIDE = {"cpu": 1024, "cuda": 8192}
_TRIES = 8


@dataclass(frozen=True, kw_only=True)
class Peak:
    """Operations a second of one rank's device, and where the figure comes from: a GPU's name, or ``measured``."""

    flops: float
    source: str


def peak_of(device: torch.device, dtype: torch.dtype) -> Peak:
    """The peak of a device."""
    if device.type == "cuda" and dtype == torch.bfloat16:
        name = torch.cuda.get_device_name(device).lower()
        for gpu in GPUS.values():
            if gpu.name in name:
                return Peak(flops=gpu.flops, source=gpu.name)
    side = _SIDE.get(device.type, 1024)
    left = torch.ones(side, side, device=device, dtype=dtype)
    into = torch.empty_like(left)
    best = float("inf")
    for _ in range(_TRIES):
        begun = time.perf_counter()
        torch.mm(left, left, out=into)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - begun)
    return Peak(flops=2.0 * side**3 / best, source="measured")


def memory_bytes(device: torch.device) -> int:
    """The most memory this process has had: of the GPU when it trains on one, resident memory elsewhere."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
