"""What a training run left: the summary of its stages and its losses, step by step. Anything missing or torn is passed over."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Training:
    """A run.

    Attributes:
        stages: rows of ``summary.json``.
        steps: lines of ``metrics.jsonl`` that have a stage and a finite loss, in order.
    """

    stages: list[dict[str, Any]]
    steps: list[dict[str, Any]]

    def curve(self, figure: str) -> list[tuple[int, str, float]]:
        """Stage, phase and value of every step that has a finite ``figure``."""
        return [(s["stage"], str(s.get("phase", "")), float(s[figure])) for s in self.steps if _finite(s.get(figure))]


def read_training(run: Path | None) -> Training | None:
    """The run in a folder; None when there is none, or nothing in it yet."""
    if run is None:
        return None
    stages: list[dict[str, Any]] = []
    try:
        summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
        stages = [row for row in summary.get("stages", []) if isinstance(row, dict)]
    except (OSError, ValueError, AttributeError, TypeError):
        pass
    steps: list[dict[str, Any]] = []
    try:
        lines = (run / "metrics.jsonl").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        try:
            step = json.loads(line)
        except ValueError:
            continue  # a killed run may leave half a line
        if isinstance(step, dict) and isinstance(step.get("stage"), int) and _finite(step.get("loss")):
            steps.append(step)
    return Training(stages=stages, steps=steps) if stages or steps else None


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
