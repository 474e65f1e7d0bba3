"""Runs read back from their folders, finished or not, to be shown and compared. Loads no torch.

Decided here: runs are compared at the same number of trained tokens, counted over all stages: a loss at a point is the mean
over the steps since the point before, each weighted by its tokens. Steps of a run that older code wrote lack some figures;
these are None, and nothing is guessed. A step that was skipped (see ``skipped.jsonl``) counts for no mean.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from manifests.errors import CorruptCorpusError, UsageError

START = "start"
# First and last loss of a stage are means over this many steps, as in `trainer.metrics`.
WINDOW = 5
AXES = ("task", "modality", "context", "duration")


@dataclass(frozen=True, kw_only=True)
class StageRead:
    """One stage of a run as far as it went; losses in nats, None where nothing tells them.

    Attributes:
        finished: its record is written; otherwise it is unfinished, or was killed.
        skipped: steps whose update was left out.
        waited: share of the time that was spent waiting for data.
        mfu: model FLOP utilisation, weighted by time.
    """

    stage: int
    phases: list[str]
    finished: bool
    steps: int
    skipped: int
    tokens: int
    seconds: float
    first_loss: float | None
    last_loss: float | None
    heldout_before: float | None
    heldout_after: float | None
    indexer_recall: float | None
    tokens_per_s: float | None
    mfu: float | None
    waited: float | None


@dataclass(frozen=True, kw_only=True)
class RunRead:
    """A run.

    Attributes:
        steps: lines of ``metrics.jsonl`` in order of stage and step, each with ``at``: tokens trained up to and with it.
        evaluations: held-out figures by name: ``start``, ``0`` to ``3``.
    """

    folder: Path
    recipe: str | None
    steps: list[dict[str, Any]]
    stages: list[StageRead]
    evaluations: dict[str, dict[str, Any]]

    @property
    def tokens(self) -> int:
        """Trained so far."""
        return int(self.steps[-1]["at"]) if self.steps else 0

    @property
    def seconds(self) -> float:
        """Of optimiser steps."""
        return sum(stage.seconds for stage in self.stages)

    def curve(self, figure: str, *, stage: int | None = None) -> list[tuple[float, float]]:
        """(tokens so far, value) of every step that has a figure.

        Args:
            figure: a key of the lines, or ``AXIS:GROUP``, e.g. ``task:text.plain``.
        """
        found = []
        for line in self.steps:
            value = figure_of(line, figure)
            if value is not None and (stage is None or line["stage"] == stage):
                found.append((float(line["at"]), value))
        return found

    def split(self, axis: str, *, stage: int | None = None) -> dict[str, dict[str, Any]]:
        """Loss of every group along an axis: ``targets``, ``curve``, ``first`` and ``last`` (a fifth of its steps each)."""
        points: dict[str, list[tuple[float, float, int]]] = {}
        for line in self.steps:
            if line.get("skipped") or (stage is not None and line["stage"] != stage):
                continue
            for group, (loss, targets) in (line.get("losses") or {}).get(axis, {}).items():
                if loss is not None:
                    points.setdefault(group, []).append((line["at"], loss, targets))
        table = {}
        for group, seen in sorted(points.items()):
            part = max(1, len(seen) // 5)
            table[group] = {
                "targets": sum(targets for _, _, targets in seen),
                "first": _weighted([(loss, targets) for _, loss, targets in seen[:part]]),
                "last": _weighted([(loss, targets) for _, loss, targets in seen[-part:]]),
                "curve": [(at, loss) for at, loss, _ in seen],
            }
        return table


def read_run(folder: Path) -> RunRead:
    """A run from its folder.

    Raises:
        UsageError: there is no run.
        CorruptCorpusError: one of its files cannot be read; which, and where.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder: name the RUN that `longreel train --out RUN` wrote")
    if not (folder / "metrics.jsonl").is_file() and not (folder / "evaluations.json").is_file():
        inner = folder / "run"
        hint = f"; did you mean {inner}?" if (inner / "metrics.jsonl").is_file() else ""
        raise UsageError(f"{folder} is no run: it has no metrics.jsonl{hint}")
    summary = _json(folder / "summary.json")
    evaluations = _json(folder / "evaluations.json")
    steps = _steps(folder / "metrics.jsonl")
    numbers = sorted({int(line["stage"]) for line in steps} | _stage_folders(folder))
    stages = [_stage(folder, number, steps, evaluations) for number in numbers]
    return RunRead(folder=folder, recipe=summary.get("recipe"), steps=steps, stages=stages, evaluations=evaluations)


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CorruptCorpusError(f"{path} cannot be read ({error})") from error
    if not isinstance(value, dict):
        raise CorruptCorpusError(f"{path} holds no object")
    return value


def _steps(path: Path) -> list[dict[str, Any]]:
    """Every line; what a killed process left in the middle of the last one is passed over."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    found: list[dict[str, Any]] = []
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
            found.append({**line, "stage": int(line["stage"]), "step": int(line["step"]), "tokens": int(line["tokens"])})
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):
                break
            raise CorruptCorpusError(f"{path}, line {number} is no step ({type(error).__name__}: {error})") from error
    found.sort(key=lambda line: (line["stage"], line["step"]))
    at = 0
    for line in found:
        at += line["tokens"]
        line["at"] = at
    return found


def _stage_folders(folder: Path) -> set[int]:
    names = (path.parent.name.removeprefix("stage") for path in folder.glob("stage*/begun.json"))
    return {int(name) for name in names if name.isdecimal()}


def _stage(folder: Path, number: int, steps: list[dict[str, Any]], evaluations: dict[str, dict[str, Any]]) -> StageRead:
    mine = [line for line in steps if line["stage"] == number]
    learned = [line for line in mine if not line.get("skipped")]
    losses = [value for line in learned if (value := figure_of(line, "loss")) is not None]
    seconds = sum(float(line.get("seconds") or 0) for line in mine)
    tokens = sum(line["tokens"] for line in mine)
    after = evaluations.get(str(number), {})
    before = evaluations.get(START if number == 0 else str(number - 1), {})
    timed = [line for line in mine if line.get("seconds")]
    return StageRead(
        stage=number,
        phases=list(dict.fromkeys(str(line.get("phase", "")) for line in mine)),
        finished=(folder / f"stage{number}" / "stage.json").is_file(),
        steps=len(mine),
        skipped=len(mine) - len(learned),
        tokens=tokens,
        seconds=round(seconds, 3),
        first_loss=_mean(losses[:WINDOW]),
        last_loss=_mean(losses[-WINDOW:]),
        heldout_before=before.get("loss"),
        heldout_after=after.get("loss"),
        indexer_recall=after.get("recall"),
        tokens_per_s=round(tokens / seconds, 1) if seconds else None,
        mfu=_weighted([(line["mfu"], line["seconds"]) for line in timed if line.get("mfu") is not None]),
        waited=_weighted([(line["data_wait_s"] / line["seconds"], line["seconds"]) for line in timed if "data_wait_s" in line]),
    )


def figure_of(line: dict[str, Any], figure: str) -> float | None:
    """One number of a line; a list by layer gives its mean; None where it is missing, no number, or the step was skipped."""
    if line.get("skipped"):
        return None
    axis, colon, group = figure.partition(":")
    value = (line.get("losses") or {}).get(axis, {}).get(group, [None])[0] if colon else line.get(figure)
    if isinstance(value, list):
        value = _mean([each for each in value if isinstance(each, int | float)])
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if number and value is not None else None


def at_same_tokens(runs: Sequence[RunRead], *, points: int = 8, figure: str = "loss") -> list[tuple[int, list[float | None]]]:
    """Each run's figure at equal numbers of trained tokens, up to where the shortest run got.

    Returns:
        (tokens, the value of each run): the mean over the steps since the point before, weighted by tokens; None where a run
        has no step there.
    """
    common = min((run.tokens for run in runs), default=0)
    edges = [common * index // points for index in range(points + 1)]
    table = []
    for low, high in pairwise(edges):
        row = []
        for run in runs:
            within = [line for line in run.steps if low < line["at"] <= high]
            seen = [(value, line["tokens"]) for line in within if (value := figure_of(line, figure)) is not None]
            row.append(_weighted(seen))
        table.append((high, row))
    return table


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _weighted(values: Sequence[tuple[float, float]]) -> float | None:
    weight = sum(each for _, each in values)
    return sum(value * each for value, each in values) / weight if weight else None
