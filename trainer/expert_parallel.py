"""Experts over ranks, under DeepSpeed: what it is told, so that each rank's experts learn from the tokens of all ranks.

Decided here: a rank keeps its part of every layer's experts before DeepSpeed sees the model, and declares them the way
DeepSpeed declares those of its own layers: parameters with ``allreduce = False`` and the name of an expert group, a parameter
group of their own, and a module that says there are experts. ZeRO 1 and 2 then sum their gradients over the ranks that have the
same experts, divide the sum by all ranks as for every other weight, give each of those ranks its part of the optimiser's state,
and count them once in the norm that clips. ZeRO 3 does not know such weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from trainer.optimiser_state import Place
from trainer.ranks import quietly

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

    from model.vlm import VisionLanguageModel


def group_name(size: int) -> str:
    """What DeepSpeed calls the groups of so many ranks that share the experts."""
    return f"ep_size_{size}"


def make_expert_group(size: int) -> ProcessGroup:
    """The neighbours that share the experts with this rank; every rank calls it."""
    with quietly():
        from deepspeed.utils import groups

        if group_name(size) not in groups._get_expert_parallel_group_dict():
            groups._create_expert_and_data_parallel(size)
    found: ProcessGroup = groups._get_expert_parallel_group(group_name(size))
    return found


def divide_experts(model: VisionLanguageModel, group: ProcessGroup) -> None:
    """Keeps this rank's experts of every layer, and marks them for DeepSpeed."""
    import torch.distributed

    from model.expert_shard import ExpertShard
    from model.moe import Experts

    size = torch.distributed.get_world_size(group)
    rank = torch.distributed.get_rank(group)
    shard = ExpertShard(rank=rank, size=size, group=group, experts=model.config.decoder.moe.experts)
    for module in model.modules():
        if isinstance(module, Experts):
            module.divide(shard)
            for parameter in module.parameters():
                vars(parameter).update(allreduce=False, group_name=group_name(size))


def is_divided(parameter: nn.Parameter) -> bool:
    """Whether a rank has a part of it only."""
    return not getattr(parameter, "allreduce", True)


def places_of(model: nn.Module) -> dict[str, Place]:
    """Where this rank's part of each divided parameter stands in the published one: experts are its first axis."""
    return {
        f"{name}.{own}": Place(module.shard.rank * parameter.numel(), module.shard.size * parameter.numel())
        for name, module in model.named_modules()
        if getattr(module, "shard", None) is not None
        for own, parameter in module.named_parameters()
        if is_divided(parameter)
    }


def split_groups(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Parameter groups with divided parameters in groups of their own, as DeepSpeed wants them."""
    found: list[dict[str, Any]] = []
    for group in groups:
        shared = [parameter for parameter in group["params"] if not is_divided(parameter)]
        divided = [parameter for parameter in group["params"] if is_divided(parameter)]
        if shared:
            found.append(group | {"params": shared})
        if divided:
            found.append(group | {"params": divided, "moe": True, "name": vars(divided[0])["group_name"]})
    return found


def declaration(experts: int) -> nn.Module:
    """A module without weights by which DeepSpeed knows that a model has experts."""
    from deepspeed.moe.layer import MoE

    class Declaration(MoE):
        def __init__(self) -> None:
            nn.Module.__init__(self)
            self.num_experts = experts

        def set_deepspeed_parallelism(self, use_data_before_expert_parallel_: bool = False) -> None:
            """The groups are there already."""

    return Declaration()
