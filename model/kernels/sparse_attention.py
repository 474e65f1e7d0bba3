"""Sparse GQA attention over a packed row with the KL on the selected sets: the kernels put together, and their gradients.

Decided here, by counting (published geometry, bf16, T tokens, group of R = 8 heads, D = 128, k = 2048):

    bytes read for keys and values, a query and a group             operations (logits and values), a query
    gather per query      k * 2 * 2D = 1.05 MB                      4 H k D * 2   (8 heads fill half of a 16-row product)
    union of B            (U / B) * 2 * 2D, U distinct keys         4 H U D       (B * 8 = 128 rows, wgmma)
      B = 16, U = 8K      0.26 MB: a quarter                        4 x useful
      B = 16, random      0.93 MB at 128K (U = 29.2K): 0.89         14 x useful

At 128K, four groups: the gather moves 550 GB, 164 ms at 3.35 TB/s; the union 137 GB, 41 ms, and 1.8e13 operations, 18 ms at
989 TFLOP/s. On random sets both move about 500 GB and the union's 6.3e13 operations take 64 ms at that peak, under the
146 ms that its bytes take. So by this arithmetic the union is never behind by more than what a real rate falls short of the
peak, and there is no switch: one path. B is the number of queries that fills 128 rows, at most 16.

- Short blocks (all queries see k keys or fewer) take another variant of the same kernels: keys in a row, no list.
- Forward keeps out, an LSE for each head and the selected sets; unions are made again in backward, chunk by chunk.
- The KL's gradient is formed with its value (`indexer_kl`) and only scaled in backward, as in `dsa_cpu`; under activation
  checkpointing the first run leaves it out.
- Gradients of keys are written as parts by the pass over the queries and added up in order (`key_parts`): no atomics.

No number here was measured: no GPU was at hand. Shapes: T queries, S keys, H query heads, G groups, D head dim, J indexer
heads, E indexer head dim, K selected keys of a query, B queries of a block.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from model.dsa_cpu import is_recomputed_later
from model.dsa_reference import SampleAttention
from model.kernels.attention_queries import attend_queries, attend_queries_backward
from model.kernels.build import Build
from model.kernels.dispatch import PackedRow, interpreted
from model.kernels.indexer_kl import kl_queries
from model.kernels.key_parts import add_parts
from model.kernels.neighbours import builds as union_builds
from model.kernels.row_blocks import whole_samples
from model.kernels.row_chunks import LAYOUT, Chunk, RowChunks


def reason_not(row: PackedRow) -> str | None:
    """Why the kernels cannot serve this call, or None."""
    heads, dim = row.q.shape[1:]
    groups = row.k.shape[1]
    index_heads, index_dim = row.index_q.shape[1:]
    types = {row.q.dtype, row.k.dtype, row.v.dtype}
    allowed = {torch.bfloat16, torch.float16, torch.float32} if interpreted() else {torch.bfloat16, torch.float16}
    if len(types) > 1 or not types <= allowed:
        return f"q, k and v must share one type of {sorted(map(str, allowed))}, got {sorted(map(str, types))}"
    if row.index_q.dtype != row.index_k.dtype or row.index_q.dtype not in allowed:
        return f"the indexer's q and k must share one type of {sorted(map(str, allowed))}, got {row.index_q.dtype}"
    for name, size in (("head dim", dim), ("indexer head dim", index_dim)):
        if size not in (16, 32, 64, 128):
            return f"the {name} must be 16, 32, 64 or 128, got {size}"
    if heads // groups not in (1, 2, 4, 8, 16):
        return f"1, 2, 4, 8 or 16 query heads must share a group, got {heads} over {groups}"
    if index_heads not in (1, 2, 4, 8, 16):
        return f"the indexer must have 1, 2, 4, 8 or 16 heads, got {index_heads}"
    for name, tensor in (("q", row.q), ("k", row.k), ("the indexer's q", row.index_q)):
        if tensor.numel() >= 2**31:
            return f"offsets are 32-bit: {name} must have fewer than 2^31 numbers, got {tuple(tensor.shape)}"
    return None


def serve(row: PackedRow, selected: Tensor) -> SampleAttention:
    """`model.dsa_cpu.sparse_attention` for a whole row; `selected` [T, K] int32 as `PackedRow` describes."""
    out, kl = attend(row, selected)
    return SampleAttention(out, kl, selected)


def attend(row: PackedRow, selected: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Output [T, H, D] and KL, summed over tokens and groups, float32. `selected` None: every key that is seen is read, and
    only the indexer learns (warm-up)."""
    segments = whole_samples(row.cu_seqlens) if row.segments is None else row.segments
    out, kl = _RowAttention.apply(
        row.q, row.k, row.v, row.index_q, row.index_k, row.index_w,
        selected, segments, row.longest, row.top_k, row.with_kl,
    )  # fmt: skip
    return out, kl if row.with_kl else None


class _RowAttention(torch.autograd.Function):
    """(q, k, v, indexer's q, k, w; selected or None) -> (out, KL)."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        index_q: Tensor,
        index_k: Tensor,
        index_w: Tensor,
        selected: Tensor | None,
        segments: Tensor,
        longest: int,
        top_k: int | None,
        with_kl: bool,
    ) -> tuple[Tensor, Tensor]:
        q, k, v, index_q, index_k, index_w = (x.contiguous() for x in (q, k, v, index_q, index_k, index_w))
        row = RowChunks(q, k, selected, segments, longest, top_k)
        learns = with_kl and any(ctx.needs_input_grad[3:6])
        out, lse = torch.empty_like(q), q.new_empty(q.shape[:2], dtype=torch.float32)
        loss = _IndexerLoss(row, lse, index_q, index_k, index_w, with_gradient=learns and not is_recomputed_later())
        layout = row.layout
        for chunk in row:
            attend_queries[(row.shape["G"], chunk.blocks)](
                q, k, v, out, lse, **chunk.told, N=layout.keys, num_warps=layout.warps, num_stages=layout.stages
            )
            if with_kl:
                loss.add(chunk)
        ctx.longest, ctx.top_k, ctx.learns = longest, top_k, learns
        ctx.set_materialize_grads(False)
        if selected is None:
            ctx.mark_non_differentiable(out)
        # A first run saves as many tensors of the same shapes as the second: checkpointing compares them.
        ctx.save_for_backward(q, k, v, out, lse, selected, segments, *(loss.learnt if learns else ()))
        return out, loss.kl.sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        grad_out, grad_kl = gradients
        q, k, v, out, lse, selected, segments, *learnt = ctx.saved_tensors
        to_indexer: tuple[Tensor | None, ...] = (None,) * 3
        if ctx.learns and grad_kl is not None:
            to_indexer = tuple(x * grad_kl for x in learnt)
        to_qkv: tuple[Tensor | None, ...] = (None,) * 3
        if grad_out is not None and any(ctx.needs_input_grad[:3]):
            row = RowChunks(q, k, selected, segments, ctx.longest, ctx.top_k)
            to_qkv = _backward(grad_out.contiguous(), row, q, k, v, out, lse)
        return *to_qkv, *to_indexer, *(None,) * 5


def _backward(
    grad_out: Tensor, row: RowChunks, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    layout, (keys, groups, dim) = row.layout, k.shape
    into_q, into_kv = torch.empty_like(q), k.new_zeros(keys, 2, groups, dim, dtype=torch.float32)
    for chunk in row:
        windows = chunk.windows(2 * groups * dim * k.element_size())
        parts = k.new_empty(windows.room, 2, groups, dim)
        part_rows = k.new_empty(windows.room, dtype=torch.int32)
        for window in windows:
            attend_queries_backward[(groups, chunk.blocks)](
                q, k, v, out, lse, grad_out, into_q, parts, part_rows, **chunk.told_writers(window), scale_q=dim**-0.5,
                N=layout.keys_backward, num_warps=layout.warps, num_stages=layout.stages_backward,
            )  # fmt: skip
            row.add_parts(parts, part_rows, window, into_kv)
    return into_q, into_kv[:, 0].to(k.dtype), into_kv[:, 1].to(v.dtype)


class _IndexerLoss:
    """The KL of each query, `kl` [T], and, if asked, what the indexer's q, k and w learn from their sum."""

    def __init__(
        self, row: RowChunks, lse: Tensor, index_q: Tensor, index_k: Tensor, index_w: Tensor, *, with_gradient: bool
    ) -> None:
        self.row, self.with_gradient = row, with_gradient
        self.given = (row.q, row.k, lse, index_q, index_k, index_w)
        self.kl = lse.new_zeros(len(lse))
        self.into_q, self.into_w = torch.empty_like(index_q), torch.empty_like(index_w)
        self.into_k = torch.zeros_like(index_k, dtype=torch.float32)

    @property
    def learnt(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.into_q, self.into_k.to(self.into_q.dtype), self.into_w

    def add(self, chunk: Chunk) -> None:
        """The KL of a chunk's queries, whose LSE is there."""
        row, layout, (index_q, index_k, _) = self.row, self.row.layout, self.given[3:]
        heads, dim = index_q.shape[1:]
        windows = chunk.windows(dim * index_k.element_size() + 4 * row.block)
        parts = index_k.new_empty(windows.room if self.with_gradient else 1, dim)
        part_rows = index_k.new_empty(len(parts), dtype=torch.int32)
        targets = index_k.new_empty(windows.room * row.block, dtype=torch.float32)
        for window in windows:
            kl_queries[(chunk.blocks,)](
                *self.given, self.kl, self.into_q, self.into_w, parts, part_rows, targets,
                **chunk.told_writers(window), J=heads, E=dim, N=layout.keys_kl, LAST=layout.keys_kl_last,
                WITH_GRADIENT=self.with_gradient, num_warps=layout.warps, num_stages=layout.stages,
            )  # fmt: skip
            if self.with_gradient:
                row.add_parts(parts, part_rows, window, self.into_k)


def builds() -> list[Build]:
    """Every kernel at the published geometry in bf16: 32 heads, 4 groups of 128 dims, 16 x 64 indexer."""
    shape = {"H": 32, "G": 4, "D": 128, "B": LAYOUT.block(8)}
    made = [*union_builds()]

    def add(name: str, kernel: Any, warps: int, stages: int, **constants: Any) -> None:
        types = {}
        for argument in kernel.arg_names:
            if argument not in constants:
                types[argument] = _TYPES.get(argument, "*bf16")
        made.append(Build(name=name, kernel=kernel, types=types, constants=constants, warps=warps, stages=stages))

    for selected, reads in ((True, "selected"), (False, "short, warm-up")):
        told, ranges = {**shape, "SELECTED": selected}, {"RANGE": LAYOUT.union.range}
        add(f"attention, {reads}", attend_queries, LAYOUT.warps, LAYOUT.stages, **told, N=LAYOUT.keys)
        backward = {**told, **ranges, "N": LAYOUT.keys_backward}
        add(f"attention backward, {reads}", attend_queries_backward, LAYOUT.warps, LAYOUT.stages_backward, **backward)
        for gradient in (False, True):
            name = f"KL{' and its gradient' if gradient else ''}, {reads}"
            constants = {
                **told,
                **ranges,
                "J": 16,
                "E": 64,
                "N": LAYOUT.keys_kl,
                "LAST": LAYOUT.keys_kl_last,
                "WITH_GRADIENT": gradient,
            }
            add(name, kl_queries, LAYOUT.warps, LAYOUT.stages, **constants)
    for name, width in (("dk and dv", 1024), ("the indexer's dk", 64)):
        columns = {"WIDTH": width, "X": min(width, LAYOUT.columns), "N": LAYOUT.keys_parts}
        add(f"sum of parts, {name}", add_parts, LAYOUT.warps_parts, LAYOUT.stages, **columns, **ranges)
    return made


_TYPES = {
    **dict.fromkeys(("lse", "kl", "into", "targets"), "*fp32"),
    **dict.fromkeys(("blocks", "rows", "bits", "sizes", "part_rows"), "*i32"),
    **dict.fromkeys(("places", "bases", "bounds"), "*i64"),
    **dict.fromkeys(("first_block", "capacity", "top_k", "ranges", "keys"), "i32"),
    **dict.fromkeys(("scale", "scale_q"), "fp32"),
}
