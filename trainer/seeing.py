"""What a run shows while it trains: a line of ``metrics.jsonl`` a step, event files for TensorBoard, and who looks on.

    RUN/metrics.jsonl       what the run IS: each step once (`trainer.step_line.StepLine`)
    RUN/tensorboard/        the same for looking

Decided here: files are written by the leading rank alone, and nothing here is needed to go on: a run resumes from its
checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from trainer.engine import StepFigures
from trainer.metrics import MetricsFile
from trainer.peak import Peak, memory_bytes, peak_of
from trainer.ranks import Ranks
from trainer.stage_manifest import StageManifest
from trainer.stages import Phase
from trainer.step_line import step_line
from trainer.tensorboard import TensorBoard
from trainer.watching import PhaseView, Watch


class Seeing:
    """What one process of a run shows; only the leading rank's shows anything.

    Args:
        run: the run's folder.
        manifests: of every stage, for the number of a step over all stages.
        precision: in which the model computes, for its peak.
    """

    def __init__(
        self,
        run: Path,
        metrics: MetricsFile,
        manifests: Mapping[int, StageManifest],
        *,
        ranks: Ranks,
        watch: Watch,
        precision: torch.dtype,
    ) -> None:
        self.run, self.metrics, self.manifests, self.ranks, self.watch = run, metrics, manifests, ranks, watch
        self.peak: Peak | None = peak_of(ranks.device, precision) if ranks.leads else None
        self.events: TensorBoard | None = None
        self.at: tuple[int, str] = (0, "")

    def phase(self, manifest: StageManifest, phase: Phase, *, first: int) -> None:
        """A phase begins, or goes on, with step ``first`` of its stage, from 0."""
        if not self.ranks.leads or self.peak is None:
            return
        spec = manifest.spec
        self.at = (spec.number, phase.spec.name)
        if self.events is None:
            self.events = TensorBoard(self.run / "tensorboard", self._over_all(spec.number, first + 1))
        before = (line for line in self.metrics.lines() if line["stage"] == spec.number and line["step"] <= first)
        earlier = [line["loss"] for line in before if not line.get("skipped")]
        view = PhaseView(
            stage=spec.number,
            name=spec.name,
            phase=phase.spec.name,
            attention=phase.spec.attention,
            trains=phase.spec.trains,
            first=phase.first,
            last=phase.last,
            steps=manifest.steps,
            peak_source=self.peak.source,
        )
        self.watch.phase(view, [float(loss) for loss in earlier if loss is not None])

    def step(
        self,
        figures: StepFigures,
        *,
        step: int,
        sequences: range,
        learning_rate: float,
        seconds: float,
        data_wait_s: float,
        recall: float | None,
    ) -> None:
        """Step ``step`` of the stage, from 1, is done; see `trainer.step_line.step_line`."""
        if not self.ranks.leads or self.peak is None:
            return
        stage, phase = self.at
        line = step_line(
            figures,
            stage=stage,
            phase=phase,
            step=step,
            sequences=sequences,
            learning_rate=learning_rate,
            seconds=seconds,
            data_wait_s=data_wait_s,
            peak_flops=self.peak.flops * self.ranks.world,
            memory_bytes=memory_bytes(self.ranks.device),
            recall=recall,
        )
        self.metrics.append(line)
        if self.events is not None:
            self.events.step(line, self._over_all(stage, step))
        self.watch.step(line)

    def checkpoint(self, steps: int | None) -> None:
        """A checkpoint was due; the newest whole one stands after so many steps of the stage, or none does."""
        if self.events is not None:
            self.events.flush()
        if self.ranks.leads and steps is not None:
            self.watch.checkpoint(self.at[0], steps)

    def close(self) -> None:
        """Ends the event files."""
        if self.events is not None:
            self.events.close()
            self.events = None

    def _over_all(self, stage: int, step: int) -> int:
        """A step's number over all stages."""
        return step + sum(manifest.steps for number, manifest in self.manifests.items() if number < stage)
