"""What a recipe demands of a corpus, checked before anything is packed; every message names the field to change.

What needs no corpus is checked when the recipe is made (`manifests.stage_spec`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from curriculum.candidates import Candidates
from curriculum.mixture import Selection
from manifests.errors import LongreelError, UsageError
from manifests.recipe import Recipe
from manifests.stage_spec import StageSpec


def require_nothing_too_long(candidates: Candidates, recipe: Recipe) -> None:
    """Every training sample fits the largest context.

    Raises:
        UsageError: one does not, and the recipe does not say to leave it out.
    """
    stage = max(recipe.stages, key=lambda each: (each.context, each.number))
    longer = np.flatnonzero((candidates.total > stage.context) & ~candidates.heldout)
    if len(longer) and not stage.leave_out_longer:
        longest = int(longer[candidates.total[longer].argmax()])
        name = candidates.ids(np.array([longest]))[0].as_py()
        raise UsageError(
            f"stage{stage.number}.context={stage.context} is smaller than {len(longer):,} samples, the longest {name} "
            f"({candidates.tasks[candidates.task[longest]]}, {candidates.total[longest]:,} tokens): no stage could "
            f"hold them. Give a larger context, or --set stage{stage.number}.leave_out_longer=true"
        )


def require_met(candidates: Candidates, stage: StageSpec, selection: Selection, kept: NDArray[np.int64]) -> None:
    """The stage has something to train on, and misses no more of any ingredient than it allows.

    Raises:
        LongreelError: one of these does not hold.
    """
    label = f"stage{stage.number}"
    if not selection.rounds and not len(kept):
        raise LongreelError(_nothing(candidates, stage, selection))
    if stage.shortfall_max is None:
        return
    for entry in selection.report["ingredients"]:
        missing = 1 - entry["placed"] / max(entry["wanted"], 1)
        # A whole sample may be too large for what is left of a share: that is no shortfall.
        if missing > stage.shortfall_max and entry["wanted"] - entry["placed"] > stage.context:
            raise LongreelError(
                f"{label}.mixture.{entry['task']}.weight cannot be met: it wants {entry['wanted']:,} tokens and "
                f"{entry['samples']:,} samples give {entry['placed']:,} in {stage.epochs_max:g} epochs, {missing:.1%} less, "
                f"more than {label}.shortfall_max={stage.shortfall_max:g}. Lower the weight or {label}.tokens, or raise "
                f"{label}.epochs_max"
            )


def _nothing(candidates: Candidates, stage: StageSpec, selection: Selection) -> str:
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in selection.report["left_out"].items() if count)
    eligible = sum(entry["samples"] for entry in selection.report["ingredients"])
    why = (
        f"{eligible:,} samples are eligible, but stage{stage.number}.tokens={stage.tokens} leaves room for none"
        if eligible
        else f"of {np.count_nonzero(~candidates.heldout):,} training samples, {left_out or 'none'}"
    )
    tasks = ", ".join(candidates.tasks[:12]) or "none"
    wanted = ", ".join(entry.task for entry in stage.mixture)
    return (
        f"stage {stage.number} ({stage.name}) has nothing to train on: {why}. "
        f"Its mixture names {wanted}; the corpus has {tasks}"
    )
