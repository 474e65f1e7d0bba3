"""Where the time of a step goes: forward, backward, optimiser.

Decided here: on a GPU the parts are measured by events on its stream, read once when the step is over, so that nothing waits
for the measurement; elsewhere by the clock.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import torch


class Stopwatch:
    """Sums of seconds by name, over one step."""

    def __init__(self, device: torch.device) -> None:
        self.on_gpu = device.type == "cuda"
        self.spans: dict[str, list[tuple[float, float]]] = {}
        self.events: dict[str, list[tuple[torch.cuda.Event, torch.cuda.Event]]] = {}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Counts the block under a name."""
        if self.on_gpu:
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            yield
            end.record()
            self.events.setdefault(name, []).append((begin, end))
            return
        begun = time.perf_counter()
        yield
        self.spans.setdefault(name, []).append((begun, time.perf_counter()))

    def seconds(self, name: str) -> float:
        """What a name took so far; on a GPU this waits for it."""
        spent = sum(end - begun for begun, end in self.spans.get(name, []))
        for begin, end in self.events.get(name, []):
            end.synchronize()
            spent += begin.elapsed_time(end) / 1000
        return spent
