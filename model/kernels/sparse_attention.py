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
- What the KL gives the indexer's queries and gates is formed with its value (`indexer_kl`) and only scaled in backward, as
  in `dsa_cpu`; under activation checkpointing the first run leaves it out. The indexer's keys come with dk and dv.

No number here was measured: no GPU was at hand. Shapes: T tokens, H query heads, G groups, D head dim, J indexer heads, E
indexer head dim, K selected keys of a query, B queries of a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from model.dsa_cpu import is_recomputed_later
from model.dsa_reference import SampleAttention
from model.kernels.attention_keys import selected_keys, short_index_keys, short_keys
from model.kernels.attention_queries import attend_queries, attend_queries_backward
from model.kernels.build import Build
from model.kernels.dispatch import PackedRow, interpreted
from model.kernels.indexer_kl import kl_queries
from model.kernels.neighbours import Unions, UnionShape
from model.kernels.neighbours import builds as union_builds
from model.kernels.row_blocks import row_blocks

_LOG2_E = 1.4426950408889634


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How much a program takes at once. `keys`, `keys_backward`, `keys_kl`: keys of a tile in the forward pass, on both
    sides of the backward pass, and in the KL. `warps`, `stages`: of each launch (the keys' side: `stages_backward`)."""

    rows: int = 128
    queries: int = 16
    keys: int = 64
    keys_backward: int = 64
    keys_kl: int = 64
    warps: int = 8
    stages: int = 2
    stages_backward: int = 1
    union: UnionShape = field(default_factory=UnionShape)

    def block(self, heads_of_group: int) -> int:
        """B: the queries whose heads fill `rows`, at most `queries`."""
        return max(1, min(self.queries, self.rows // heads_of_group))


LAYOUT = Layout()


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
    if row.q.numel() >= 2**31:
        return f"offsets are 32-bit: q must have fewer than 2^31 numbers, got {tuple(row.q.shape)}"
    return None


def serve(row: PackedRow, selected: Tensor) -> SampleAttention:
    """`model.dsa_cpu.sparse_attention` for a whole row; `selected` [T, K] int32 as `PackedRow` describes."""
    out, kl = attend(row, selected)
    return SampleAttention(out, kl, selected)


def attend(row: PackedRow, selected: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Output [T, H, D] and KL, summed over tokens and groups, float32. `selected` None: every key that is seen is read, and
    only the indexer learns (warm-up)."""
    out, kl = _RowAttention.apply(
        row.q, row.k, row.v, row.index_q, row.index_k, row.index_w,
        selected, row.cu_seqlens, row.longest, row.top_k, row.with_kl,
    )  # fmt: skip
    return out, kl if row.with_kl else None


@dataclass(frozen=True)
class _Part:
    """Blocks that one launch works on: `blocks` of them, and what every kernel on the side of the queries is told."""

    blocks: int
    told: dict[str, Any]
    unions: Unions | None = None

    def told_keys(self) -> dict[str, Any]:
        """What `selected_keys` is told."""
        assert self.unions is not None
        shared = {name: self.told[name] for name in ("blocks", "rows", "bits", "first_block", "capacity", "scale")}
        own = {"span_from": self.unions.span_from, "span_to": self.unions.span_to}
        return {**shared, **own, "chunk": self.blocks, "ranges": self.unions.ranges}


@dataclass
class _Row:
    """A row's geometry and its parts: the short blocks, then chunk after chunk of those that need a selection."""

    q: Tensor
    k: Tensor
    index_q: Tensor
    selected: Tensor | None
    cu_seqlens: Tensor
    longest: int
    top_k: int | None
    layout: Layout = field(default_factory=lambda: LAYOUT)

    def __post_init__(self) -> None:
        self.tokens, heads, dim = self.q.shape
        groups, (index_heads, index_dim) = self.k.shape[1], self.index_q.shape[1:]
        self.block = self.layout.block(heads // groups)
        self.limit = self.longest if self.top_k is None else self.top_k
        self.scale = dim**-0.5 * _LOG2_E
        self.shape = {"H": heads, "G": groups, "D": dim, "B": self.block}
        self.indexer = {"J": index_heads, "E": index_dim}
        self.blocks = row_blocks(self.cu_seqlens, self.tokens, self.block)

    def short(self) -> _Part:
        """All blocks; kernels pass over those that are not short."""
        nothing = self.blocks
        return _Part(len(self.blocks), self._told(nothing, nothing, nothing, 0, 0, selected=False))

    def chunks(self) -> Iterator[_Part]:
        """A chunk's lists are there until the next is asked for. Kernels pass over the short blocks."""
        if self.selected is None or self.longest <= self.limit:
            return
        unions = Unions(
            self.selected, self.blocks, longest=self.longest, top_k=self.limit, block=self.block, shape=self.layout.union
        )
        for first in range(0, len(self.blocks), unions.chunk):
            blocks = unions.build(first)
            told = self._told(unions.rows, unions.bits, unions.sizes, first, unions.capacity, selected=True)
            yield _Part(blocks, told, unions)

    def _told(self, rows: Tensor, bits: Tensor, sizes: Tensor, first: int, capacity: int, *, selected: bool) -> dict[str, Any]:
        lists = {"blocks": self.blocks, "rows": rows, "bits": bits, "sizes": sizes}
        numbers = {"first_block": first, "capacity": capacity, "top_k": self.limit, "scale": self.scale}
        return {**lists, **numbers, **self.shape, "SELECTED": selected}


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
        cu_seqlens: Tensor,
        longest: int,
        top_k: int | None,
        with_kl: bool,
    ) -> tuple[Tensor, Tensor]:
        q, k, v, index_q, index_k, index_w = (x.contiguous() for x in (q, k, v, index_q, index_k, index_w))
        row = _Row(q, k, index_q, selected, cu_seqlens, longest, top_k)
        learns = with_kl and any(ctx.needs_input_grad[3:6])
        out, lse = torch.empty_like(q), q.new_empty(q.shape[:2], dtype=torch.float32)
        kl, index_lse = q.new_zeros(row.tokens, dtype=torch.float32), q.new_empty(row.tokens, dtype=torch.float32)
        into_index_q, into_index_w = (torch.empty_like(x if learns else x[:0]) for x in (index_q, index_w))
        size = {"num_warps": row.layout.warps, "num_stages": row.layout.stages}
        with_gradient = learns and not is_recomputed_later()
        for part in chain((row.short(),), row.chunks()):
            attend_queries[(part.blocks, row.shape["G"])](q, k, v, out, lse, **part.told, N=row.layout.keys, **size)
            if with_kl:
                kl_queries[(part.blocks,)](
                    q, k, lse, index_q, index_k, index_w, kl, index_lse, into_index_q, into_index_w,
                    **part.told, **row.indexer, N=row.layout.keys_kl, WITH_GRADIENT=with_gradient, **size,
                )  # fmt: skip
        ctx.longest, ctx.top_k, ctx.learns = longest, top_k, learns
        ctx.set_materialize_grads(False)
        if selected is None:
            ctx.mark_non_differentiable(out)
        # A first run saves as many tensors of the same shapes as the second: checkpointing compares them.
        ctx.save_for_backward(
            q, k, v, out, lse, selected, cu_seqlens, index_q, index_k, index_w, index_lse, into_index_q, into_index_w
        )
        return out, kl.sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        grad_out, grad_kl = gradients
        q, k, v, out, lse, selected, cu_seqlens, index_q, index_k, index_w, index_lse, *into_index = ctx.saved_tensors
        row = _Row(q, k, index_q, selected, cu_seqlens, ctx.longest, ctx.top_k)
        with_kv = grad_out is not None and selected is not None and any(ctx.needs_input_grad[:3])
        with_kl = grad_kl is not None and ctx.learns
        if not (with_kv or with_kl):
            return (None,) * 11
        offset = torch.empty_like(lse)
        into_q = torch.empty_like(q)
        into_k, into_v, into_index_k = (torch.zeros_like(x, dtype=torch.float32) for x in (k, v, index_k))
        grad_out = q if grad_out is None else grad_out.contiguous()
        scale_q = row.shape["D"] ** -0.5
        size = {"N": row.layout.keys_backward, "num_warps": row.layout.warps, "num_stages": row.layout.stages_backward}
        key_blocks = row_blocks(cu_seqlens, row.tokens, row.layout.keys_backward)
        short = {"key_blocks": key_blocks, "top_k": row.limit, "scale": row.scale, **row.shape, **size}
        for part in chain((row.short(),), row.chunks()):
            if with_kv:
                attend_queries_backward[(part.blocks, row.shape["G"])](
                    q, k, v, out, lse, grad_out, into_q, offset, **part.told, scale_q=scale_q, **size
                )
            # The short keys' kernels store, the others add: the short part comes first.
            if part.unions is not None:
                selected_keys[(part.unions.ranges,)](
                    q, k, v, lse, grad_out, offset, index_q, index_k, index_w, index_lse, into_k, into_v, into_index_k,
                    **part.told_keys(), scale_q=scale_q, **row.shape, **row.indexer, **size, WITH_KV=with_kv, WITH_KL=with_kl,
                )  # fmt: skip
                continue
            if with_kv:
                short_keys[(len(key_blocks), row.shape["G"])](
                    q, k, v, lse, grad_out, offset, into_k, into_v, **short, scale_q=scale_q
                )
            if with_kl:
                short_index_keys[(len(key_blocks),)](
                    q, k, lse, index_q, index_k, index_w, index_lse, into_index_k, **short, **row.indexer
                )
        to_qkv = (into_q, into_k.to(k.dtype), into_v.to(v.dtype)) if with_kv else (None,) * 3
        to_indexer: tuple[Tensor | None, ...] = (None,) * 3
        if with_kl:
            into_index_q, into_index_w = into_index
            learnt = zip((into_index_q, into_index_k, into_index_w), (index_q, index_k, index_w), strict=True)
            to_indexer = tuple((x * grad_kl).to(like.dtype) for x, like in learnt)
        return *to_qkv, *to_indexer, *(None,) * 5


def builds() -> list[Build]:
    """Every kernel at the published geometry in bf16: 32 heads, 4 groups of 128 dims, 16 x 64 indexer."""
    shape = {"H": 32, "G": 4, "D": 128, "B": LAYOUT.block(8)}
    indexer = {"J": 16, "E": 64}
    forward, backward = (LAYOUT.warps, LAYOUT.stages), (LAYOUT.warps, LAYOUT.stages_backward)
    made = [*union_builds()]

    def add(name: str, kernel: Any, launch: tuple[int, int], **constants: Any) -> None:
        single = ("lse", "offset", "kl", "index_lse", "into_k", "into_v", "into_index_k")
        whole = ("blocks", "key_blocks", "rows", "bits", "sizes", "span_from", "span_to")
        numbers = ("first_block", "chunk", "capacity", "top_k", "ranges")
        types = {}
        for argument in kernel.arg_names:
            if argument not in constants:
                kind = "*fp32" if argument in single else "*i32" if argument in whole else "*bf16"
                types[argument] = "i32" if argument in numbers else "fp32" if argument.startswith("scale") else kind
        made.append(Build(name=name, kernel=kernel, types=types, constants=constants, warps=launch[0], stages=launch[1]))

    for selected, reads in ((True, "selected"), (False, "short")):
        query_side = {**shape, "SELECTED": selected}
        add(f"attention, {reads}", attend_queries, forward, **query_side, N=LAYOUT.keys)
        kl = {**query_side, **indexer, "N": LAYOUT.keys_kl}
        add(f"KL value, {reads}", kl_queries, forward, **kl, WITH_GRADIENT=False)
        add(f"KL and gradient, {reads}", kl_queries, forward, **kl, WITH_GRADIENT=True)
        add(f"dq, {reads}", attend_queries_backward, backward, **query_side, N=LAYOUT.keys_backward)
    keys = {**shape, "N": LAYOUT.keys_backward}
    for with_kl in (False, True):
        name = "dk, dv, selected" + (" with KL" if with_kl else "")
        add(name, selected_keys, backward, **keys, **indexer, WITH_KV=True, WITH_KL=with_kl)
    add("dk, dv, short", short_keys, backward, **keys)
    add("KL's dk, short", short_index_keys, backward, **keys, **indexer)
    return made
