"""The experts of every layer over several ranks: each has an equal part of them, and tokens travel to the experts they chose.

Decided here: E experts over N ranks, rank r has experts [r E / N, (r + 1) E / N). A row is one choice of one token. Rows are
sorted by expert before they leave, so what goes to a rank is one run of them; they arrive rank by rank and are sorted again by
expert, and go back the same way. The order is a function of the choices alone. Only how many rows go where has to be known on
the host first: [N, E] counts, one small gather and one wait a layer.

Both ways are all-to-all exchanges, whose gradient is the exchange back. A rank may receive no row at all; it still takes part.
The ranks of a group run the same layers in the same order, in recomputation too.

Shapes: E experts, N ranks, R rows of this rank's tokens, Q rows this rank computes, M hidden size.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed
from torch import Tensor


class ExpertShard:
    """This rank's part of the experts.

    Args:
        rank, size: of this rank in `group`.
        group: the ranks that share the experts.
        experts: E, of a layer.

    Raises:
        ValueError: the experts cannot be divided evenly.
    """

    def __init__(self, *, rank: int, size: int, group: torch.distributed.ProcessGroup, experts: int) -> None:
        if experts % size:
            raise ValueError(f"{experts} experts cannot be divided evenly over {size} ranks")
        self.rank, self.size, self.group, self.experts = rank, size, group, experts
        self.here = experts // size
        self.first = rank * self.here

    def part(self, whole_E: Tensor) -> Tensor:
        """This rank's part of a tensor of all experts: [E, ...] -> [E / N, ...], a copy."""
        return whole_E[self.first : self.first + self.here].clone()

    def whole(self, part_E: Tensor) -> Tensor:
        """The tensor of all experts from every rank's part, without gradient."""
        gathered = part_E.new_empty(self.experts, *part_E.shape[1:])
        torch.distributed.all_gather_into_tensor(gathered, part_E.detach().contiguous(), group=self.group)
        return gathered

    def trip(self, load_E: Tensor) -> Trip:
        """The way of rows sorted by expert, `load_E` of them for each. Waits for the device."""
        counts_NE = load_E.new_empty(self.size, self.experts)
        torch.distributed.all_gather_into_tensor(counts_NE, load_E.unsqueeze(0), group=self.group)
        by_rank_NNE = counts_NE.view(self.size, self.size, self.here)
        rows_NN = by_rank_NNE.sum(-1).tolist()
        mine_NE = by_rank_NNE[:, self.rank]
        expert_Q = torch.arange(self.here, device=load_E.device).repeat(self.size).repeat_interleave(mine_NE.flatten())
        return Trip(leave=rows_NN[self.rank], arrive=[row[self.rank] for row in rows_NN], expert_Q=expert_Q, group=self.group)


class Trip:
    """How many rows go to and come from each rank, and the local expert (from 0) of each row that arrives."""

    def __init__(self, *, leave: list[int], arrive: list[int], expert_Q: Tensor, group: torch.distributed.ProcessGroup) -> None:
        self.leave, self.arrive, self.expert_Q, self.group = leave, arrive, expert_Q, group

    def there(self, x_R: Tensor) -> Tensor:
        """Rows to their experts: [R, ...] -> [Q, ...], differentiably."""
        return _Exchange.apply(x_R, self.leave, self.arrive, self.group)

    def back(self, x_Q: Tensor) -> Tensor:
        """Rows to their tokens' rank: [Q, ...] -> [R, ...], differentiably."""
        return _Exchange.apply(x_Q, self.arrive, self.leave, self.group)


def _exchange(x: Tensor, leave: list[int], arrive: list[int], group: torch.distributed.ProcessGroup) -> Tensor:
    received = x.new_empty(sum(arrive), *x.shape[1:])
    torch.distributed.all_to_all_single(received, x.contiguous(), arrive, leave, group=group)
    return received


class _Exchange(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, leave: list[int], arrive: list[int], group: torch.distributed.ProcessGroup) -> Tensor:
        ctx.leave, ctx.arrive, ctx.group = leave, arrive, group
        return _exchange(x, leave, arrive, group)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return _exchange(gradients[0], ctx.arrive, ctx.leave, ctx.group), None, None, None
