"""Times of calls on a GPU, and the table they are printed in.

Decided here: a time is the median of many runs, by CUDA events, after warm-up; runs take turns on copies of the inputs which
together are three times the L2 cache. Peak memory is what a call allocates above its inputs.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import dsa_gpu_floors as floors
import torch
from dsa_gpu_floors import Work
from torch.nn.attention import SDPBackend, sdpa_kernel

BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "cuDNN": SDPBackend.CUDNN_ATTENTION}


@dataclass(frozen=True)
class Timed:
    """Median seconds and bytes above the inputs; `note` says why there are none."""

    seconds: float
    peak: int
    note: str = ""


class Clock:
    """Times calls on a device until the time is up."""

    def __init__(self, device: torch.device, budget_s: float) -> None:
        self.device, self.ends = device, time.monotonic() + budget_s
        self.cache = torch.cuda.get_device_properties(device).L2_cache_size

    def time(self, make: Callable[[int], Any], call: Callable[[Any], object], *, peer: bool = False) -> Timed:
        """`make(seed)` gives inputs, `call(inputs)` is timed. A `peer` may refuse a call; an error of ours ends the run."""
        if time.monotonic() > self.ends:
            return Timed(0.0, 0, "the time was up")
        try:
            return self._time(make, call)
        except torch.OutOfMemoryError:
            return Timed(0.0, 0, "out of memory")
        except RuntimeError as error:
            if not peer:
                raise
            return Timed(0.0, 0, str(error).strip().splitlines()[0][:90])
        finally:
            torch.cuda.empty_cache()

    def _time(self, make: Callable[[int], Any], call: Callable[[Any], object]) -> Timed:
        before = torch.cuda.memory_allocated()
        inputs = [make(0)]
        size = max(torch.cuda.memory_allocated() - before, 1)
        inputs += [make(seed) for seed in range(1, min(16, max(2, -(-3 * self.cache // size))))]
        call(inputs[0])
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        call(inputs[-1])
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated() - held
        took: list[float] = []
        begun = time.monotonic()
        for given in itertools.cycle(inputs):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            call(given)
            end.record()
            torch.cuda.synchronize()
            took.append(start.elapsed_time(end) / 1e3)
            if len(took) >= 50 or (len(took) >= 5 and time.monotonic() - begun > 1.0):
                return Timed(median(took), peak)
        raise AssertionError


class Table:
    """Prints a line a measurement; "full" lines set what the others are compared with."""

    def __init__(self, peaks: floors.Device | None) -> None:
        self.peaks, self.best = peaks, 0.0
        print(f"{'':42} {'ms':>9} {'faster by':>9} {'TFLOP/s':>8} {'GB/s':>7} {'of floor':>8} {'peak MiB':>9}")

    def line(self, label: str, timed: Timed, work: Work) -> None:
        if timed.note:
            print(f"{label:42} not measured: {timed.note}", flush=True)
            return
        ratio = f"{self.best / timed.seconds:8.2f}x" if self.best else f"{'':9}"
        share = f"{work.seconds(self.peaks) / timed.seconds:7.1%}" if self.peaks else "unknown"
        print(
            f"{label:42} {timed.seconds * 1e3:9.3f} {ratio:>9} {work.operations / timed.seconds / 1e12:8.1f}"
            f" {work.moved / timed.seconds / 1e9:7.0f} {share:>8} {timed.peak / 2**20:9.0f}",
            flush=True,
        )

    def full(self, label: str, each: dict[str, Timed], work: Work) -> None:
        """The peers of the lines that follow."""
        self.best = 0.0
        for name, timed in each.items():
            self.line(f"{label}, {name}", timed, work)
        done = [timed.seconds for timed in each.values() if not timed.note]
        self.best = min(done, default=0.0)


def by_backends(clock: Clock, make: Callable[[int], Any], call: Callable[[Any], object]) -> dict[str, Timed]:
    """A call of torch's attention, once by each of its routines."""
    times = {}
    for name, backend in BACKENDS.items():
        with sdpa_kernel(backend):
            times[name] = clock.time(make, call, peer=True)
    return times
