"""Steps whose update is left out: a loss or gradient that is no number, and a loss far above those before it.

    RUN/skipped.jsonl        stage, phase, step, reason, loss, grad_norm, samples (ids, in order)

A step's loss x, summed over all ranks, is a spike when

    x > m + k * 1.4826 * median(|y - m|)        m the median of the last `spike_window` losses y that were not skipped

with k = ``train.spike_mads``; 1.4826 makes the right side k standard deviations for normal losses (Rousseeuw and Croux 1993).
It is asked once a quarter of the window is known, and starts afresh in every phase. What is watched is what the phase
minimises: the KL in a warm-up, the next-token loss elsewhere. Decided here: on by default at k = 10, because one bad batch can
undo days and none of the demo's 433 steps, one mixed sequence each, comes near (none passes k = 6 either). A mixture with a
rare and much harder ingredient could be cut by such a rule without anyone noticing: so too many skipped steps within a window
end the run, with the file's name. The state is a function of the losses and is kept in the checkpoints.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manifests.errors import LongreelError
from manifests.recipe import TrainSpec
from manifests.stage_spec import PhaseSpec
from trainer.engine import StepFigures
from trainer.metrics import MetricsFile

NORMAL = 1.4826


class TooManySkippedError(LongreelError):
    """The updates of too many steps were left out."""


class StepRule:
    """Decides on the steps of one phase, on every rank alike, because it sees what all ranks see.

    Args:
        train: ``spike_mads``, ``spike_window`` and ``skipped_max``.
    """

    def __init__(self, train: TrainSpec, phase: PhaseSpec) -> None:
        self.train = train
        self.watches_indexer = phase.trains == "indexer"
        self._recent: deque[float] = deque(maxlen=train.spike_window)
        self._skipped: deque[bool] = deque(maxlen=train.spike_window)

    def judge(self, loss: float, indexer_loss: float, balance_loss: float) -> str | None:
        """Why a step with these losses must not change the weights; None when it may."""
        for name, value in (("loss", loss), ("indexer's loss", indexer_loss), ("balancing loss", balance_loss)):
            if not math.isfinite(value):
                return f"the {name} is {value}"
        watched = indexer_loss if self.watches_indexer else loss
        if not self.train.spike_mads or len(self._recent) < max(self.train.spike_window // 4, 1):
            return None
        middle = statistics.median(self._recent)
        spread = NORMAL * statistics.median(abs(value - middle) for value in self._recent)
        limit = middle + self.train.spike_mads * spread
        if watched <= limit:
            return None
        return (
            f"{'the indexer loss' if self.watches_indexer else 'the loss'} {watched:.4g} is above {limit:.4g}: the median "
            f"{middle:.4g} of the last {len(self._recent)} steps + {self.train.spike_mads:g} x {spread:.3g}"
        )

    def note(self, figures: StepFigures) -> None:
        """Takes a step into account, skipped or not."""
        self._skipped.append(figures.skipped is not None)
        watched = figures.indexer_loss if self.watches_indexer else figures.loss
        if figures.skipped is None and watched is not None:
            self._recent.append(watched)

    def require_sound(self, where: str, file: Path) -> None:
        """Ends the run when too many of the latest steps were skipped.

        Args:
            where: what the message calls the step. file: where the steps are listed.

        Raises:
            TooManySkippedError: ``skipped_max`` of the last ``spike_window`` steps were skipped.
        """
        count = sum(self._skipped)
        if count >= self.train.skipped_max:
            raise TooManySkippedError(
                f"{where}: {count} of the last {len(self._skipped)} steps were skipped; {file} lists them with their samples. "
                f"Lower the learning rate, leave the samples out, or raise train.spike_mads if these losses are in order"
            )

    @staticmethod
    def require_learnt(where: str, updates: int, file: Path) -> None:
        """Ends the run when a phase, however short, changed nothing at all.

        Raises:
            TooManySkippedError: there were no updates.
        """
        if not updates:
            raise TooManySkippedError(f"{where}: every step was skipped; {file} lists them with their samples")

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"recent": list(self._recent), "skipped": list(self._skipped)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes back what `state` gave."""
        self._recent.extend(state["recent"])
        self._skipped.extend(state["skipped"])


class SkippedFile:
    """``skipped.jsonl``; only the leading rank writes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def cut(self, stage: int, steps: int) -> None:
        """Keeps what the first ``steps`` steps of a stage left, and everything of the others."""
        MetricsFile(self.path).cut(stage, steps)

    def append(self, *, stage: int, phase: str, step: int, figures: StepFigures, samples: list[str]) -> None:
        """Adds a skipped step, counted from 1 in its stage."""
        line = {
            "stage": stage,
            "phase": phase,
            "step": step,
            "reason": figures.skipped,
            "loss": figures.loss if math.isfinite(figures.loss) else None,
            "grad_norm": figures.grad_norm if math.isfinite(figures.grad_norm) else None,
            "samples": samples,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
