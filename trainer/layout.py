"""A parallel plan: how many ranks, what ZeRO divides, and which ranks share sequences and experts.

Decided here: what can be chosen is what `trainer.parallel.require_plan` allows; nothing is estimated that could not be started.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from manifests.errors import UsageError
from manifests.recipe import TrainSpec
from model.config import ModelConfig
from trainer.launch import Launch
from trainer.parallel import require_plan


@dataclass(frozen=True, order=True)
class Layout:
    """W ranks, of which `sequence` neighbours share a packed sequence and `expert` neighbours the experts.

    They sort by what is simplest: fewest ranks that share, then the lowest ZeRO stage.
    """

    ranks: int
    sequence: int = 1
    expert: int = 1
    zero: int = 1

    @property
    def groups(self) -> int:
        """Packed sequences that are worked on at once."""
        return self.ranks // self.sequence

    def passes(self, sequences_per_step: int) -> int:
        """Forward passes of a rank in one optimiser step."""
        return -(-sequences_per_step // self.groups)

    @property
    def options(self) -> str:
        """Of `longreel train`."""
        shared = [("--sequence-parallel", self.sequence), ("--expert-parallel", self.expert)]
        return " ".join([f"--zero {self.zero}", *(f"{option} {ranks}" for option, ranks in shared if ranks > 1)])


def layouts(
    ranks: int, train: TrainSpec, config: ModelConfig, *, zero: int | None, sequence: int | None, expert: int | None
) -> Iterator[Layout]:
    """All plans of so many ranks that can be started; what is not None is fixed. The simplest come first.

    Raises:
        UsageError: what is fixed goes together with nothing; the message is that of the last plan tried.
    """
    shares = [size for size in range(1, ranks + 1) if ranks % size == 0]
    possible = sorted(
        Layout(ranks, sequence=s, expert=e, zero=z)
        for z in (range(4) if zero is None else [zero])
        for s in (shares if sequence is None else [sequence])
        for e in (shares if expert is None else [expert])
    )
    found, refusal = False, UsageError(f"{ranks} ranks cannot be divided")
    for layout in possible:
        launch = Launch(zero_stage=layout.zero, sequence_parallel=layout.sequence, expert_parallel=layout.expert)
        try:
            require_plan(launch, ranks=ranks, zero_stage=layout.zero, precision=train.precision, config=config)
        except UsageError as error:
            refusal = error
            continue
        found = True
        yield layout
    if not found:
        raise refusal
