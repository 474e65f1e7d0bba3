"""What a stage trains, when, and how fast it learns.

Decided here: the phases of a stage share its steps in proportion, none is empty. In dense attention the indexers do not run, so
"everything" leaves them out there: without gradient, weight decay alone would shrink them. Each phase starts its optimiser
afresh, because what is trained changes with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from manifests.errors import UsageError
from manifests.stage_spec import PhaseSpec, StageSpec
from model.vlm import PARTS, Part, VisionLanguageModel


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A phase with its place: steps ``[first, last)`` of the stage, counted from 0."""

    index: int
    spec: PhaseSpec
    first: int
    last: int

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step of the stage."""
        return learning_rate(
            step - self.first, self.last - self.first, peak=self.spec.learning_rate, warmup_share=self.spec.warmup_share
        )


def phases_of(stage: StageSpec, steps: int) -> tuple[Phase, ...]:
    """Divides a stage's steps among its phases.

    Raises:
        UsageError: there are fewer steps than phases.
    """
    count = len(stage.phases)
    if steps < count:
        raise UsageError(
            f"stage {stage.number} has {steps} step{'' if steps == 1 else 's'} for its {count} phases: "
            f"curate more input, or lower stage{stage.number}.sequences_per_step, and plan again"
        )
    phases: list[Phase] = []
    first, share = 0, 0.0
    for index, spec in enumerate(stage.phases):
        share += spec.share
        last = min(max(round(steps * share), first + 1), steps - (count - 1 - index))
        phases.append(Phase(index=index, spec=spec, first=first, last=last))
        first = last
    return tuple(phases)


def learning_rate(step: int, steps: int, *, peak: float, warmup_share: float) -> float:
    """Linear from peak / w to the peak over the first w = ceil(share * steps) steps, then a cosine down to a tenth of it."""
    warmup = math.ceil(warmup_share * steps)
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup + 1) / max(steps - warmup, 1)
    return peak * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress)))


def trained_parts(phase: PhaseSpec) -> tuple[Part, ...]:
    """The parts of the model that a phase trains."""
    if phase.trains == "projector":
        return ("projector",)
    if phase.trains == "indexer":
        return ("indexer",)
    return tuple(part for part in PARTS if part != "indexer" or phase.attention == "sparse")


def trained_parameters(model: VisionLanguageModel, phases: tuple[Phase, ...]) -> int:
    """Parameters that at least one of the phases trains."""
    trained = {part for phase in phases for part in trained_parts(phase.spec)}
    return sum(parameter.numel() for part, named in model.parts().items() if part in trained for parameter in named.values())
