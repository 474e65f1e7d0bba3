"""What a training run left: the summary of its stages and its losses, step by step. Anything missing or torn is passed over."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

AXES = (("context", "context bucket"), ("duration", "duration bucket"), ("modality", "modality"), ("task", "task"))
"""Axes along which steps tell losses apart, and what the page calls them."""
GROUPS_MAX = 60


@dataclass(frozen=True, kw_only=True)
class Group:
    """Next-token loss of one kind of sample.

    Attributes:
        axis: what the page calls it. name: the group.
        targets: tokens that carried the loss.
        first, last: means over the first and the last fifth of its steps.
        curve: loss of every step that had such samples.
    """

    axis: str
    name: str
    targets: int
    first: float
    last: float
    curve: list[float]


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
        """Stage, phase and value of every step that has a finite ``figure`` and was not skipped."""
        kept = [step for step in self.steps if not step.get("skipped") and _finite(step.get(figure))]
        return [(step["stage"], str(step.get("phase", "")), float(step[figure])) for step in kept]

    def groups(self) -> list[Group]:
        """Losses by group, as far as steps tell them; at most `GROUPS_MAX`, those with the most targets of each axis first."""
        found: list[Group] = []
        for key, axis in AXES:
            seen: dict[str, list[tuple[float, int]]] = {}
            for step in self.steps:
                losses = step.get("losses")
                of = losses.get(key) if isinstance(losses, dict) and not step.get("skipped") else None
                for name, value in of.items() if isinstance(of, dict) else ():
                    if isinstance(value, list) and len(value) == 2 and all(map(_finite, value)) and value[1] > 0:
                        seen.setdefault(str(name), []).append((float(value[0]), int(value[1])))
            rows = [_group(axis, name, points) for name, points in seen.items()]
            found += sorted(rows, key=lambda row: (-row.targets, row.name))
        return found[:GROUPS_MAX]


def _group(axis: str, name: str, points: list[tuple[float, int]]) -> Group:
    part = max(1, len(points) // 5)

    def mean(some: list[tuple[float, int]]) -> float:
        return sum(loss * targets for loss, targets in some) / sum(targets for _, targets in some)

    return Group(
        axis=axis,
        name=name,
        targets=sum(targets for _, targets in points),
        first=mean(points[:part]),
        last=mean(points[-part:]),
        curve=[loss for loss, _ in points],
    )


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
