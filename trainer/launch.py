"""How one launch uses the machine: what may differ from launch to launch of a run without changing what is trained.

Decided here: a stage manifest says what is learnt, and in which order; a launch says on what. So nothing here enters a plan or
a run's identity, and an unfinished stage may be resumed with other values.
"""

from __future__ import annotations

from dataclasses import dataclass

from manifests.require import require


@dataclass(frozen=True, kw_only=True)
class Launch:
    """The choices of one call of `trainer.train`; the defaults suit any machine.

    Attributes:
        zero_stage: DeepSpeed ZeRO stage, 0 to 3; None takes the recipe's ``train.zero_stage``.
        sequence_parallel: ranks that share one packed sequence, each a part of its tokens.
        expert_parallel: ranks that share one set of experts, each an equal part of every layer's.
        recall_steps: optimiser steps between measurements of the indexer's recall on a training sequence, where an indexer
            trains; 0 for none. A measurement takes a dense pass over one sequence. None: with every checkpoint.
    """

    zero_stage: int | None = None
    sequence_parallel: int = 1
    expert_parallel: int = 1
    recall_steps: int | None = None

    def __post_init__(self) -> None:
        require(self.zero_stage in (None, 0, 1, 2, 3), f"launch: zero_stage={self.zero_stage} must be 0 to 3")
        for name in ("sequence_parallel", "expert_parallel"):
            value = getattr(self, name)
            require(value >= 1, f"launch: {name}={value} must be at least 1")
        sound = self.recall_steps is None or self.recall_steps >= 0
        require(sound, f"launch: recall_steps={self.recall_steps} must be 0 or above")
