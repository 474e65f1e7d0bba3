"""Which ranks share what: data groups, sequences and experts over the ranks of a run, and what does not go together.

Decided here: W ranks are W / N data groups of N neighbours, which share one packed sequence (sequence parallelism), and W / E
expert groups of E neighbours, which share the experts; the two divisions do not depend on each other. ZeRO divides its state
over all W ranks whatever they share, because a parameter's gradient is the sum over all of them; that of divided experts over
the W / E ranks that have the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from manifests.errors import UsageError
from model.config import ModelConfig
from trainer.launch import Launch

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

    from model.sequence_shard import SequenceShard
    from trainer.ranks import Ranks


def require_plan(launch: Launch, *, ranks: int, zero_stage: int, precision: str, config: ModelConfig) -> None:
    """Nothing, when this many ranks can train this model that way.

    Raises:
        UsageError: with the choices that do not go together, and what would.
    """
    sequence, expert = launch.sequence_parallel, launch.expert_parallel
    experts = config.decoder.moe.experts
    for option, value in (("--sequence-parallel", sequence), ("--expert-parallel", expert)):
        if ranks % value:
            raise UsageError(f"{option} {value} does not divide the {ranks} ranks of this run")
    if zero_stage == 0 and precision == "bf16":
        raise UsageError("ZeRO 0 keeps no fp32 copy of bf16 weights, so small updates are lost: give --zero 1, 2 or 3")
    if experts % expert:
        raise UsageError(f"--expert-parallel {expert} does not divide the {experts} experts of a layer")
    if expert > 1 and zero_stage not in (1, 2):
        raise UsageError(
            f"--expert-parallel {expert} goes with ZeRO 1 or 2, not {zero_stage}: ZeRO 3 would divide over all ranks weights "
            "that differ from rank to rank, ZeRO 0 would average them; give --zero 1"
        )


@dataclass(frozen=True, kw_only=True)
class Groups:
    """The ranks that this one shares with; None where it is alone.

    Attributes:
        sequence: the ranks that share this one's packed sequences.
        experts: the ranks that share the experts with this one.
    """

    sequence: ProcessGroup | None = None
    experts: ProcessGroup | None = None

    def shard(self, tokens: int, ranks: Ranks, owners: Sequence[int] = ()) -> SequenceShard | None:
        """This rank's part of a packed sequence whose pictures have these owners; None when it has all of it, as every rank of
        the group has of a sequence too short to be shared."""
        if self.sequence is None:
            return None
        from model.sequence_shard import SequenceShard, shortest_row

        if tokens < shortest_row(ranks.sharing):
            return None
        return SequenceShard(
            tokens,
            rank=ranks.rank % ranks.sharing,
            size=ranks.sharing,
            group=self.sequence,
            owners=owners,
            device=ranks.device,
        )


def make_groups(launch: Launch) -> Groups:
    """Builds the groups; every rank calls it, once."""
    from trainer.expert_parallel import make_expert_group

    experts = make_expert_group(launch.expert_parallel) if launch.expert_parallel > 1 else None
    return Groups(sequence=_neighbours(launch.sequence_parallel), experts=experts)


def _neighbours(size: int) -> ProcessGroup | None:
    """The group of `size` neighbours this rank is in; all ranks make all groups, as torch asks."""
    if size == 1:
        return None
    import torch.distributed

    mine, _ = torch.distributed.new_subgroups(group_size=size)
    return mine
