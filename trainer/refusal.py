"""Why a phase does not fit on the GPUs it was planned for, part by part, and what would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from manifests.recipe import Recipe
from trainer.estimate import PhaseEstimate, estimate

GIB = 2**30
# A recipe that fits on no cluster of so many GPUs has a part that no plan divides.
MOST_GPUS = 2**14
WORTH_NAMING = 0.05  # of the room


def why(phase: PhaseEstimate) -> list[str]:
    """What is needed and there, and each part that matters beside what a GPU may use. Lines of at most 80 columns."""
    lines = [
        f"stage {phase.stage} ({phase.phase}) does not fit with {phase.layout.options}:",
        f"  {phase.memory.total / GIB:,.1f} GiB a GPU are {phase.memory.total / phase.room:.2f} x the room of "
        f"{phase.room / GIB:,.1f} GiB",
    ]
    for name, size in phase.memory.parts.items():
        if size > phase.room * WORTH_NAMING:
            lines.append(f"    {name:<12} {size / GIB:>10,.1f} GiB  {size / phase.room:>8.2f} x")
    return lines


def remedy(
    recipe: Recipe, figures: Sequence[Mapping[str, Any]], stage: int, *, gpu: str, gpus: int, given: Mapping[str, int | None]
) -> str:
    """One line: the simplest change under which every phase of the stage fits.

    Tried in this order: what was given and could be chosen otherwise on the same GPUs, then more GPUs of the same kind.
    """
    mine = [counted for counted in figures if counted["stage"] == stage]
    size = gpus
    while size <= max(MOST_GPUS, gpus):
        phases = estimate(recipe, mine, gpu=gpu, gpus=size, **(given if size == gpus else {}))  # type: ignore[arg-type]
        if all(phase.fits for phase in phases):
            break
        phases = estimate(recipe, mine, gpu=gpu, gpus=size)
        if all(phase.fits for phase in phases):
            break
        size *= 2
    else:
        return f"no plan of up to {MOST_GPUS:,} {gpu} fits: shorten the context, or use GPUs with more memory"
    on = "" if size == gpus else f"on {size:,} {gpu}, "
    return f"it fits {on}with {phases[0].layout.options}"
