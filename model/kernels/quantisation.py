"""The indexer's queries and keys in 8 bits (e4m3), and what that changes.

Decided here:
- Queries and keys are turned by a Hadamard matrix first: it is orthogonal, so products stay, and it spreads a large value
  over all dims, which then need less range. Each query head and each key has a scale of its own, its largest magnitude over
  448. A query's scale is positive, so it passes the ReLU and goes into the gate; a key's multiplies its score at the end.
- Products of e4m3 numbers are exact in float32. Here they are formed that way; Hopper's tensor cores sum 8-bit products
  with fewer bits than float32 has, which is not emulated.
- Only selection is quantised. The KL that trains the indexer scores in the row's own type.

Shapes: T queries, S keys, J indexer heads, E indexer head dim, a power of two.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.indexer import index_scores

# The largest finite e4m3 number.
LARGEST = 448.0


def hadamard(dim: int, device: torch.device | None = None) -> Tensor:
    """The orthogonal matrix of Sylvester's construction: [E, E] float32. Raises ValueError unless E is a power of two."""
    if dim < 1 or dim & (dim - 1):
        raise ValueError(f"a Hadamard matrix of Sylvester's construction has a power of two of rows, got {dim}")
    matrix = torch.ones(1, 1, device=device)
    while len(matrix) < dim:
        matrix = torch.cat((torch.cat((matrix, matrix), 1), torch.cat((matrix, -matrix), 1)))
    return matrix * dim**-0.5


def quantised(x_XE: Tensor, *, turn: bool = True) -> tuple[Tensor, Tensor]:
    """Rows of any leading shape -> e4m3 rows of the same shape and the float32 scale of each: row = scale * e4m3.

    `turn`: by the Hadamard matrix first (the rows then stand for the turned ones).
    """
    wide = x_XE.float()
    if turn:
        wide = wide @ hadamard(wide.shape[-1], wide.device)
    scale = wide.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny) / LARGEST
    return (wide / scale).to(torch.float8_e4m3fn), scale.squeeze(-1)


def quantised_indexer(q_TJE: Tensor, k_SE: Tensor, w_TJ: Tensor, *, turn: bool = True) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """e4m3 queries and keys, gates [T, J] float32 that hold the queries' scales, and the keys' scales [S] float32."""
    q8_TJE, q_scale_TJ = quantised(q_TJE, turn=turn)
    k8_SE, k_scale_S = quantised(k_SE, turn=turn)
    return q8_TJE, k8_SE, w_TJ.float() * q_scale_TJ, k_scale_S


def quantised_scores(q_TJE: Tensor, k_SE: Tensor, w_TJ: Tensor, *, turn: bool = True) -> Tensor:
    """`index_scores` of the quantised tensors with float32 sums: [T, S]. To measure and to check with; not fast."""
    q8_TJE, k8_SE, gates_TJ, k_scale_S = quantised_indexer(q_TJE, k_SE, w_TJ, turn=turn)
    return index_scores(q8_TJE.float(), k8_SE.float(), gates_TJ) * k_scale_S
