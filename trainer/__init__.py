"""The trainer: stage manifests -> batches -> trained checkpoints, stage by stage.

`train` is the entry point; importing the package loads neither torch nor DeepSpeed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from manifests.progress import Progress, silent

if TYPE_CHECKING:
    from manifests.recipe import Recipe
    from trainer.launch import Launch
    from trainer.metrics import TrainResult
    from trainer.watching import Watch

__all__ = ["train"]


def train(
    corpus_folder: Path,
    recipe: Recipe,
    *,
    stages: Sequence[int],
    out: Path,
    resume: bool = False,
    launch: Launch | None = None,
    progress: Progress = silent,
    watch: Watch | None = None,
) -> TrainResult:
    """Trains the given stages of a planned corpus; see `trainer.road.train`.

    Args:
        corpus_folder: a corpus that `longreel plan` has planned for this recipe.
        recipe: names the plan; what is trained is what the stage manifests specify.
        stages: stage numbers, in any order.
        out: the run's folder.
        resume: continue an unfinished stage from its newest whole checkpoint.
        launch: how this call uses the machine; None: the defaults of `trainer.launch.Launch`.
        progress: told after every step.
        watch: told more of it: see `trainer.watching`.

    Raises:
        UsageError: no plan, a stage without its predecessor, or an unfinished run without `resume`.
        CostMismatchError: a sample does not render to the tokens its manifest row counts.
        CorruptCorpusError: media or rows are missing or are not what was written.
    """
    from trainer.ranks import rest_while_waiting

    rest_while_waiting()
    from trainer.launch import Launch
    from trainer.road import train as run
    from trainer.watching import Nobody

    return run(
        corpus_folder,
        recipe,
        stages=stages,
        out=out,
        resume=resume,
        launch=launch or Launch(),
        progress=progress,
        watch=watch or Nobody(),
    )
