"""How a chunk of queries reads keys: three layouts behind one interface, so that the attention itself is written once.

Decided here: attention is three-dimensional matrix products [B, X, D] x [B, Y, D]. What differs is who shares keys:

- `Slice`: the chunk reads keys 0..end. B = heads' groups, X = the chunk's queries under one another, Y = end.
  Warm-up, short pasts.
- `Union`: the same with the gathered union of the chunk's selected sets; the rest of the union is masked out for each
  query.
- `Own`: each query reads its own gathered set. B = groups x queries, X = the heads of a group, Y = K.

Measured on one CPU core, 64 queries, 8 heads of 32 in 2 groups, forward + backward: `Own` costs 8.5 us a selected
key, `Union` 2.8 us a key of the union. So `Own` is taken when the union is more than `OWN_BELOW` times K: with K = 64
nearly always, with K = 512 and neighbours that agree (a union of 1,000) never.

Shapes: C queries of the chunk, S keys, G groups, R heads a group, H = G * R, D head dim, K selected.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

OWN_BELOW = 3.0


class Reading(Protocol):
    """One chunk's way to its keys. `bias` is 0 where a query reads a key and -inf where it does not, or None."""

    bias: Tensor | None

    def pack(self, x_CHD: Tensor, groups: int) -> Tensor:
        """Queries [C, H, D] -> [B, X, D]."""
        ...

    def unpack(self, x_BXD: Tensor, groups: int) -> Tensor:
        """[B, X, D] -> [C, H, D]."""
        ...

    def take(self, table_GSD: Tensor) -> Tensor:
        """Keys or values [G, S, D] -> [B, Y, D]."""
        ...

    def add(self, into_GSD: Tensor, part_BYD: Tensor) -> None:
        """The transpose of `take`: adds [B, Y, D] to the rows it came from, in a fixed order."""
        ...

    def heads(self, x_BXY: Tensor, groups: int) -> Tensor:
        """Logits or probabilities as a view [G, R, C, Y]."""
        ...


class Slice:
    """Keys 0..end, shared by the chunk, whose queries are the last C of those positions."""

    def __init__(self, queries: int, end: int, like: Tensor) -> None:
        self.queries, self.end = queries, end
        bias = like.new_zeros(queries, end)
        bias[:, end - queries :] = like.new_full((queries, queries), -torch.inf).triu_(1)
        self.bias: Tensor | None = bias

    def pack(self, x_CHD: Tensor, groups: int) -> Tensor:
        dim = x_CHD.shape[-1]
        return x_CHD.reshape(self.queries, groups, -1, dim).permute(1, 2, 0, 3).reshape(groups, -1, dim)

    def unpack(self, x_BXD: Tensor, groups: int) -> Tensor:
        dim = x_BXD.shape[-1]
        return x_BXD.view(groups, -1, self.queries, dim).permute(2, 0, 1, 3).reshape(self.queries, -1, dim)

    def take(self, table_GSD: Tensor) -> Tensor:
        return table_GSD[:, : self.end]

    def add(self, into_GSD: Tensor, part_BYD: Tensor) -> None:
        into_GSD[:, : self.end].add_(part_BYD)

    def heads(self, x_BXY: Tensor, groups: int) -> Tensor:
        return x_BXY.view(groups, -1, self.queries, x_BXY.shape[-1])


class Union(Slice):
    """The union of the chunk's sets `chosen_CK` (ascending, padded with `end`), shared and masked."""

    def __init__(self, chosen_CK: Tensor, rows_U: Tensor, end: int, like: Tensor) -> None:
        self.queries, self.end, self.rows_U = chosen_CK.shape[0], end, rows_U
        place = torch.full((end + 1,), len(rows_U), dtype=torch.int64, device=chosen_CK.device)
        place[rows_U] = torch.arange(len(rows_U), device=chosen_CK.device)
        bias_CX = like.new_full((self.queries, len(rows_U) + 1), -torch.inf)
        self.bias = bias_CX.scatter_(1, place[chosen_CK], 0.0)[:, :-1]

    def take(self, table_GSD: Tensor) -> Tensor:
        return table_GSD.index_select(1, self.rows_U)

    def add(self, into_GSD: Tensor, part_BYD: Tensor) -> None:
        into_GSD[:, self.rows_U] += part_BYD


class Own:
    """Each query's own set."""

    def __init__(self, chosen_CK: Tensor, end: int, like: Tensor) -> None:
        self.queries, self.keys = chosen_CK.shape
        missing_CK = chosen_CK >= end
        self.rows_R = chosen_CK.masked_fill(missing_CK, 0).flatten()
        self.bias = like.new_zeros(chosen_CK.shape).masked_fill_(missing_CK, -torch.inf) if bool(missing_CK.any()) else None

    def pack(self, x_CHD: Tensor, groups: int) -> Tensor:
        dim = x_CHD.shape[-1]
        return x_CHD.reshape(self.queries, groups, -1, dim).transpose(0, 1).reshape(groups * self.queries, -1, dim)

    def unpack(self, x_BXD: Tensor, groups: int) -> Tensor:
        dim = x_BXD.shape[-1]
        return x_BXD.reshape(groups, self.queries, -1, dim).transpose(0, 1).reshape(self.queries, -1, dim)

    def take(self, table_GSD: Tensor) -> Tensor:
        groups, _, dim = table_GSD.shape
        return table_GSD.index_select(1, self.rows_R).view(groups * self.queries, self.keys, dim)

    def add(self, into_GSD: Tensor, part_BYD: Tensor) -> None:
        groups, size, dim = into_GSD.shape
        # One row index over groups and keys: adding along dimension 0 is four times faster than along dimension 1.
        offsets = torch.arange(groups, device=self.rows_R.device)[:, None] * size
        into_GSD.view(groups * size, dim).index_add_(0, (self.rows_R + offsets).flatten(), part_BYD.reshape(-1, dim))

    def heads(self, x_BXY: Tensor, groups: int) -> Tensor:
        return x_BXY.view(groups, self.queries, -1, x_BXY.shape[-1]).transpose(1, 2)


def read_selected(chosen_CK: Tensor, end: int, like: Tensor) -> Reading:
    """The cheaper way to read the sets `chosen_CK` [C, K] (int64, padded with `end`) of queries that see keys 0..end."""
    flags = torch.zeros(end + 1, dtype=torch.bool, device=chosen_CK.device)
    flags[chosen_CK.flatten()] = True
    rows_U = flags[:end].nonzero().squeeze(1)
    if len(rows_U) > OWN_BELOW * chosen_CK.shape[1]:
        return Own(chosen_CK, end, like)
    return Union(chosen_CK, rows_U, end, like)
