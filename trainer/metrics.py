"""What a run says about itself: one line a step, one row a stage, and the held-out figures between.

    RUN/metrics.jsonl        a `trainer.step_line.StepLine` a step
    RUN/summary.json         the recipe's name and a row for every finished stage
    RUN/evaluations.json     held-out figures: at the start, and after each stage

Decided here: a stage's row is computed from its lines, so a resumed stage reports all of itself. On resume the lines after the
restored step are cut: each step stands there once.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from manifests import files
from manifests.stage_spec import Attention
from trainer.evaluate import Evaluation
from trainer.stage_manifest import StageManifest
from trainer.step_line import StepLine

# First and last loss are means over this many steps: one step's loss is noise.
WINDOW = 5


@dataclass(frozen=True, kw_only=True)
class StageRow:
    """One stage in figures; losses in nats a token, `fill` and `indexer_recall` as shares, `seconds` of optimiser steps."""

    stage: int
    name: str
    sequences: int
    fill: float
    tokens: int
    steps: int
    first_loss: float
    last_loss: float
    heldout_before: float | None
    heldout_after: float | None
    heldout_attention: Attention
    heldout_sequences: int
    indexer_recall: float | None
    trained_parameters: int
    seconds: float
    tokens_per_s: float


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What `train` did.

    Attributes:
        stages: rows of the stages asked for, as in ``summary.json``.
        unchanged: whether all of them were finished before.
        seconds: wall time of the call.
    """

    stages: list[dict[str, Any]]
    unchanged: bool
    seconds: float

    @property
    def counts(self) -> dict[str, Any]:
        """Figures for the log of runs."""
        return {"stages": self.stages}


class MetricsFile:
    """``metrics.jsonl``; only the leading rank writes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[dict[str, Any]]:
        """Every whole line; a last line that a killed process left in the middle is not one."""
        return files.read_json_lines(self.path)

    def cut(self, stage: int, steps: int) -> None:
        """Keeps the first ``steps`` steps of a stage, and everything of the others."""
        if not self.path.is_file():
            return
        kept = [line for line in self.lines() if line["stage"] != stage or line["step"] <= steps]
        files.write_bytes(self.path, "".join(json.dumps(line) + "\n" for line in kept).encode())

    def append(self, line: StepLine) -> None:
        """Adds the line of one step."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(line.text() + "\n")


def stage_row(
    manifest: StageManifest, lines: list[dict[str, Any]], *, before: Evaluation, after: Evaluation, trained_parameters: int
) -> StageRow:
    """The row of a finished stage from its lines."""
    mine = sorted((line for line in lines if line["stage"] == manifest.spec.number), key=lambda line: int(line["step"]))
    losses = [float(line["loss"]) for line in mine if line.get("skipped") is None]
    window = max(min(WINDOW, len(losses)), 1)
    tokens = sum(int(line["tokens"]) for line in mine)
    seconds = sum(float(line["seconds"]) for line in mine)
    return StageRow(
        stage=manifest.spec.number,
        name=manifest.spec.name,
        sequences=manifest.sequences,
        fill=manifest.fill,
        tokens=tokens,
        steps=len(mine),
        first_loss=sum(losses[:window]) / window,
        last_loss=sum(losses[-window:]) / window,
        heldout_before=before.loss,
        heldout_after=after.loss,
        heldout_attention=after.attention,
        heldout_sequences=after.sequences,
        indexer_recall=after.recall,
        trained_parameters=trained_parameters,
        seconds=round(seconds, 3),
        tokens_per_s=round(tokens / max(seconds, 1e-9), 1),
    )


def write_summary(path: Path, recipe: str, rows: list[StageRow]) -> None:
    """Writes ``summary.json``, whole or not at all."""
    files.write_json(path, {"recipe": recipe, "stages": [asdict(row) for row in sorted(rows, key=lambda row: row.stage)]})
