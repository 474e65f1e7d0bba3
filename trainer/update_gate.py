"""A gate before an optimiser's update: closed, everything of a step happens but the update.

Decided here: a bad step is skipped by passing over the inner optimiser's ``step`` and nothing else. DeepSpeed then reduces,
clips, casts, gathers and clears the gradients as in any step, with ZeRO 0 to 3 alike, and weights, moments and step counts stay
as they are to the bit. Clearing gradients from outside would have to know where each ZeRO stage keeps them.
"""

from __future__ import annotations

from typing import Any

import torch


class UpdateGate:
    """Wraps ``optimiser.step``; open when made."""

    def __init__(self, optimiser: torch.optim.Optimizer) -> None:
        self.closed = False
        self._update = optimiser.step
        optimiser.step = self._step  # type: ignore[method-assign]

    def _step(self, *arguments: Any, **words: Any) -> Any:
        return None if self.closed else self._update(*arguments, **words)
