"""The indexer's dense warm-up over a packed row: full attention and the KL to it, no attention matrix stored.

It is `sparse_attention` with every block short: the same kernels, keys in a row, no lists. Output carries no gradient, and of
the backward pass only the indexer's keys are left to do.
"""

from __future__ import annotations

import dataclasses

from model.dsa_reference import SampleAttention
from model.kernels.dispatch import PackedRow
from model.kernels.sparse_attention import attend, reason_not

__all__ = ["reason_not", "serve"]


def serve(row: PackedRow) -> SampleAttention:
    """`model.dsa_cpu.sparse_attention(top_k=None)` for a whole row."""
    out, kl = attend(dataclasses.replace(row, q=row.q.detach(), k=row.k.detach(), v=row.v.detach()), None)
    return SampleAttention(out, kl)
