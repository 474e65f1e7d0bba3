"""One packed row over several ranks: which tokens each has, and how it reads the keys of the others.

Decided here, for N ranks that share a row of T tokens:

- Two slices a rank. The row is cut into 2N equal slices and rank r has slices r and 2N - 1 - r: its tokens, and so its
  activations, are T / N, and early queries, which see little, come with late ones, which see much. With one slice each, the
  last of 8 ranks would see 1.9 times the mean in a row that is one sample; with two all ranks see the same to a slice. (Slices
  of equal cost instead would give the first of 8 ranks 35% of the tokens.)
- Keys are gathered, heads are not exchanged. Values a token and layer that a rank receives in the published geometry (32 query
  heads, 4 KV groups of 128, an indexer key of 64, top-k 2,048), forward, as a multiple of T (N - 1) / N:

      gather k, v, index_k:         2 * 4 * 128 + 64 = 1,088
      heads (Ulysses) q, k, v, out: (2 * 32 + 2 * 4) * 128 / N = 9,216 / N, for N up to 4 without copies of KV heads,
                                    and 2,048 int32 = 4,096 of the selected sets, which every head needs

  So the sets alone cost almost four times the gathered keys, for any N; in dense attention gathering is the cheaper up to 8
  ranks. It also leaves a query's heads in one place, where the KL needs them. Gathered keys of 262,144 tokens are 0.5 GiB in
  bf16 in the layer at hand.
- A slice's queries are the last of the keys they see, so attention is the same code as with a cache.
- Pictures are encoded whole, each by one rank, which whoever reads them chooses; the features are gathered once a pass.
- Every loss and statistic of a pass is this rank's part: over the ranks they add up to the row's. So are gradients.

Gathering is differentiable: its gradient is the sum over ranks of what each wants of these rows. All ranks of a group must run
the same layers in the same order, in recomputation too; they do, having the same row.

Shapes: T tokens of the row, L of them here, P patches, N pictures.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed
from torch import Tensor

Samples = tuple[tuple[int, int], ...]


class Segment(NamedTuple):
    """Queries [start, end) among this rank's tokens, of one sample, and the keys [first, last) of the row they may see; they
    are the last of those."""

    start: int
    end: int
    first: int
    last: int


def whole(samples: Samples) -> tuple[Segment, ...]:
    """The segments of a row that is on one rank: its samples."""
    return tuple(Segment(start, end, start, end) for start, end in samples)


def shortest_row(ranks: int) -> int:
    """Tokens of the shortest row that so many ranks can share: one a slice."""
    return 2 * ranks


class SequenceShard:
    """This rank's part of a row of `tokens` tokens.

    Args:
        rank, size: of this rank in `group`.
        group: the ranks that share the row.
        owners: of each picture of the row in reading order, the rank that has its pixels.
        device: where the row's tensors are.

    Raises:
        ValueError: fewer tokens than slices.
    """

    def __init__(
        self,
        tokens: int,
        *,
        rank: int,
        size: int,
        group: torch.distributed.ProcessGroup,
        owners: Sequence[int] = (),
        device: torch.device | str = "cpu",
    ) -> None:
        slices = 2 * size
        if tokens < shortest_row(size):
            raise ValueError(f"a row of {tokens} tokens cannot be shared by {size} ranks: each takes two slices of it")
        self.tokens, self.rank, self.size, self.group, self.owners = tokens, rank, size, group, tuple(owners)
        bounds = [tokens * number // slices for number in range(slices + 1)]
        pieces = list(itertools.pairwise(bounds))
        self._pieces = [(pieces[r], pieces[slices - 1 - r]) for r in range(size)]
        rows = [torch.cat([torch.arange(*piece) for piece in own]) for own in self._pieces]
        self._counts = [len(own) for own in rows]
        self.rows_L = rows[rank].to(device)
        self._order_T = torch.cat(rows).argsort().to(device)

    def take(self, x_T: Tensor) -> Tensor:
        """This rank's rows of a tensor of the whole row: [T, ...] -> [L, ...]."""
        return x_T.index_select(0, self.rows_L)

    def gather(self, x_L: Tensor) -> Tensor:
        """The whole row from every rank's part, differentiably: [L, ...] -> [T, ...]."""
        return gather_rows(x_L, self._counts, self.rank, self.group).index_select(0, self._order_T)

    def total(self, x: Tensor) -> Tensor:
        """The sum over the ranks, without gradient."""
        total = x.detach().clone()
        torch.distributed.all_reduce(total, group=self.group)
        return total

    def segments(self, samples: Samples) -> tuple[Segment, ...]:
        """What this rank's tokens read, sample by sample."""
        found: list[Segment] = []
        first, second = self._pieces[self.rank]
        joined = [(first[0], second[1])] if first[1] == second[0] else [first, second]
        offset = 0
        for begin, stop in joined:
            for start, end in samples:
                low, high = max(begin, start), min(stop, end)
                if low < high:
                    found.append(Segment(offset + low - begin, offset + high - begin, start, high))
            offset += stop - begin
        return tuple(found)

    def pictures(self, rank: int | None = None) -> list[int]:
        """The pictures that a rank encodes, in reading order; without one: this rank."""
        wanted = self.rank if rank is None else rank
        return [number for number, owner in enumerate(self.owners) if owner == wanted]

    def gather_pictures(self, mine_VM: Tensor, image_grid_thw: Tensor, merge_size: int) -> Tensor:
        """Visual tokens of this rank's pictures -> those of all pictures in reading order, differentiably.

        Raises:
            ValueError: a picture without an owner.
        """
        tokens = (image_grid_thw.prod(1) // merge_size**2).tolist()
        shares = [self.pictures(rank) for rank in range(self.size)]
        if sum(map(len, shares)) != len(tokens):
            raise ValueError(
                f"a row of {len(tokens)} pictures, of which {len(self.owners)} have an owner among {self.size} ranks"
            )
        gathered_VM = gather_rows(mine_VM, [sum(tokens[n] for n in share) for share in shares], self.rank, self.group)
        starts, place = {}, 0
        for number in itertools.chain(*shares):
            starts[number] = place
            place += tokens[number]
        order_V = torch.cat([torch.arange(starts[n], starts[n] + count) for n, count in enumerate(tokens)])
        return gathered_VM.index_select(0, order_V.to(gathered_VM.device))


def gather_rows(x: Tensor, counts: list[int], rank: int, group: torch.distributed.ProcessGroup) -> Tensor:
    """Every rank's rows, one rank after the other: [counts[rank], ...] -> [sum(counts), ...]; its gradient is the sum over
    ranks, each row sent back where it came from."""
    return _GatherRows.apply(x, counts, rank, group)


class _GatherRows(torch.autograd.Function):
    """All-gather and reduce-scatter of rows, padded to the largest number of them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, counts: list[int], rank: int, group: torch.distributed.ProcessGroup) -> Tensor:
        ctx.counts, ctx.rank, ctx.group = counts, rank, group
        most = max(counts)
        padded = x.contiguous() if len(x) == most else torch.cat((x, x.new_zeros(most - len(x), *x.shape[1:])))
        gathered = x.new_empty(len(counts) * most, *x.shape[1:])
        torch.distributed.all_gather_into_tensor(gathered, padded, group=group)
        if min(counts) == most:
            return gathered
        return torch.cat([part[:count] for part, count in zip(gathered.split(most), counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        counts, most = ctx.counts, max(ctx.counts)
        parts = gradient.split(counts)
        padded = torch.cat([torch.cat((part, part.new_zeros(most - len(part), *part.shape[1:]))) for part in parts])
        mine = gradient.new_empty(most, *gradient.shape[1:])
        torch.distributed.reduce_scatter_tensor(mine, padded, group=ctx.group)
        return mine[: counts[ctx.rank]], None, None, None
