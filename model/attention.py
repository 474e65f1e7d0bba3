"""The one attention module: grouped queries, QK-norm, M-RoPE, and three ways to read the past.

- `dense`: every visible key; the indexer does not run.
- `warmup`: every visible key, and a KL teaches the indexer where the attention goes. Only the indexer carries gradient.
- `sparse`: each token reads the set its indexer selects; the KL on that set trains the indexer, the next-token loss
  the rest.

Decided here: a packed row is a list of samples and attention is computed sample by sample, so that nothing ever
crosses a boundary and no mask has to say so; rows cut into equal samples attend densely as one batch. The indexer's
input is detached, its KL target is a constant, and its selection has no gradient: so the KL trains only the indexer
and nothing else does. A cache makes the keys longer than the queries, and so does a row that several ranks share
(`model.sequence_shard`); the rest is the same code. On a GPU the whole row, or the new tokens of all cached samples, go to one
kernel where `kernels.dispatch` finds one that serves.

Shapes: T tokens of the row, M hidden size, H query heads, G KV groups, D head dim, J indexer heads, E indexer head dim.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from model.config import AttentionMode, DecoderConfig
from model.dsa_cpu import covered_mass, decode_attention, sparse_attention
from model.dsa_reference import SampleAttention, reference_attention
from model.indexer import Indexer
from model.kernels import dispatch
from model.kernels.packed_dense import packed_dense
from model.norms import RMSNorm
from model.rope import rotate
from model.sequence_shard import Segment, SequenceShard, whole


class LayerCache(Protocol):
    """Keeps one layer's keys, values and indexer keys of each sample; returns everything seen so far."""

    def append(self, sample: int, k: Tensor, v: Tensor, index_k: Tensor) -> tuple[Tensor, Tensor, Tensor]: ...


@dataclass(frozen=True, kw_only=True)
class AttentionContext:
    """What every layer of one forward pass shares.

    `samples`: (start, end) of each sample in the row; `cu_seqlens`: the same as [samples + 1] int32 on the device.
    `tables`, `index_tables`: cos and sin, [T, D / 2] and [T, E / 2].
    `shard`: this rank's part of a row that several ranks share; then T counts its tokens, and `samples` the whole row's.
    `trains_indexer`: build the graph of the indexer in warm-up (the rest of the pass runs without one).
    `reference`: use `dsa_reference` instead of the fast path.
    """

    mode: AttentionMode
    samples: tuple[tuple[int, int], ...]
    cu_seqlens: Tensor
    tables: tuple[Tensor, Tensor]
    index_tables: tuple[Tensor, Tensor]
    top_k: int
    with_kl: bool = True
    trains_indexer: bool = False
    measure_recall: bool = False
    keep_selected: bool = False
    reference: bool = False
    shard: SequenceShard | None = None

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """What the tokens here read."""
        return whole(self.samples) if self.shard is None else self.shard.segments(self.samples)

    @cached_property
    def shared_segments(self) -> Tensor | None:
        """`segments` as [N, 4] int32 on the device; None where the row is on one rank."""
        return None if self.shard is None else torch.tensor(self.segments, dtype=torch.int32, device=self.cu_seqlens.device)


@dataclass
class LayerAttention:
    """`kl`: summed over tokens and groups, None in dense mode. `covered`: dense mass a token that is covered,
    and that could be, [2, T], when measured. `selected`: a [T, K] set list for each sample, when kept."""

    kl: Tensor | None = None
    covered: Tensor | None = None
    selected: list[Tensor] | None = None


class Attention(nn.Module):
    """`self_attn` of the checkpoint."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = config.heads, config.kv_heads, config.head_dim
        self.chunk = config.indexer.query_chunk
        self.q_proj = nn.Linear(config.hidden_size, config.heads * config.head_dim, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, config.kv_heads * config.head_dim, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, config.kv_heads * config.head_dim, bias=False)
        self.o_proj = nn.Linear(config.heads * config.head_dim, config.hidden_size, bias=False)
        self.q_norm = RMSNorm(config.head_dim, config.norm_eps)
        self.k_norm = RMSNorm(config.head_dim, config.norm_eps)
        self.sa_indexer = Indexer(config)

    def forward(
        self, x_TM: Tensor, context: AttentionContext, cache: LayerCache | None = None
    ) -> tuple[Tensor, LayerAttention]:
        """[T, M] -> [T, M] and what the indexer learns and did."""
        tokens = x_TM.shape[0]
        q_THD = rotate(self.q_norm(self.q_proj(x_TM).view(tokens, self.heads, self.head_dim)), *context.tables)
        k_TGD = rotate(self.k_norm(self.k_proj(x_TM).view(tokens, self.kv_heads, self.head_dim)), *context.tables)
        v_TGD = self.v_proj(x_TM).view(tokens, self.kv_heads, self.head_dim)
        if context.shard is not None:
            k_TGD, v_TGD = context.shard.gather(torch.stack((k_TGD, v_TGD), dim=1)).unbind(1)
        statistics = LayerAttention()
        if context.mode == "dense" and not context.measure_recall and cache is None:
            return self.o_proj(_dense_row(q_THD, k_TGD, v_TGD, context).reshape(tokens, -1)), statistics

        # In warm-up the stream carries no graph; what the indexer computes, slices of it included, needs one.
        with torch.set_grad_enabled(context.trains_indexer or torch.is_grad_enabled()):
            outs = self._read_samples(q_THD, k_TGD, v_TGD, x_TM.detach(), context, cache, statistics)
        mixed_THD = torch.cat(outs) if outs else _dense_row(q_THD, k_TGD, v_TGD, context)
        return self.o_proj(mixed_THD.reshape(tokens, -1)), statistics

    def _read_samples(
        self,
        q_THD: Tensor,
        k_TGD: Tensor,
        v_TGD: Tensor,
        x_TM: Tensor,
        context: AttentionContext,
        cache: LayerCache | None,
        statistics: LayerAttention,
    ) -> list[Tensor]:
        """Each sample's output [T, H, D], the indexer running; fills `statistics`. Dense without a cache gives none."""
        index_q, index_k, index_w = self.sa_indexer(x_TM, context.index_tables)
        if context.shard is not None:
            index_k = context.shard.gather(index_k)
        pasts = [(k_TGD[first:last], v_TGD[first:last], index_k[first:last]) for _, _, first, last in context.segments]
        if cache is not None:
            pasts = [cache.append(number, *new) for number, new in enumerate(pasts)]
        served = _served(q_THD, k_TGD, v_TGD, (index_q, index_k, index_w), context, pasts if cache is not None else None)
        if served is not None:
            statistics.kl = served.kl
            if context.keep_selected and served.selected is not None:
                statistics.selected = _by_sample(served.selected, context, from_row_start=cache is None)
            return [served.out]
        outs, kls, covered, selected = [], [], [], []
        for (start, end, _, _), (k, v, ik) in zip(context.segments, pasts, strict=True):
            q, iq, iw = q_THD[start:end], index_q[start:end], index_w[start:end]
            if context.measure_recall:
                covered.append(covered_mass(q, k, iq, ik, iw, top_k=context.top_k, chunk=self.chunk))
            if context.mode == "dense":
                if cache is not None:
                    outs.append(_dense_with_past(q, k, v))
                continue
            top_k = context.top_k if context.mode == "sparse" else None
            if cache is not None and top_k is not None and end - start == 1:
                done = decode_attention(q, k, v, iq, ik, iw, top_k=top_k)
            elif context.reference:
                done = reference_attention(q, k, v, iq, ik, iw, top_k=top_k)
            else:
                done = sparse_attention(q, k, v, iq, ik, iw, top_k=top_k, chunk=self.chunk, with_kl=context.with_kl)
            outs.append(done.out)
            if done.kl is not None:
                kls.append(done.kl)
            if done.selected is not None and context.keep_selected:
                selected.append(done.selected)
        statistics.kl = torch.stack(kls).sum() if kls else None
        statistics.covered = torch.cat(covered, dim=1) if covered else None
        statistics.selected = selected or None
        return outs


def _served(
    q_THD: Tensor,
    k_TGD: Tensor,
    v_TGD: Tensor,
    indexer: tuple[Tensor, Tensor, Tensor],
    context: AttentionContext,
    pasts: list[tuple[Tensor, Tensor, Tensor]] | None,
) -> SampleAttention | None:
    """The row by a kernel, where one serves. `pasts`: all keys, values and indexer keys of each sample that has a cache."""
    if context.mode == "dense" or context.reference or context.measure_recall:
        return None
    index_q, index_k, index_w = indexer
    if pasts is None:
        return dispatch.attend_row(
            dispatch.PackedRow(
                q=q_THD, k=k_TGD, v=v_TGD, index_q=index_q, index_k=index_k, index_w=index_w,
                cu_seqlens=context.cu_seqlens, segments=context.shared_segments,
                longest=max(last - first for _, _, first, last in context.segments),
                top_k=context.top_k if context.mode == "sparse" else None, with_kl=context.with_kl,
            )
        )  # fmt: skip
    if context.mode != "sparse" or len(pasts) != len(q_THD):
        return None
    k, v, index_k_all = zip(*pasts, strict=True)
    return dispatch.decode(
        dispatch.DecodeBatch(
            q=q_THD, k=k, v=v, index_q=index_q, index_k=index_k_all, index_w=index_w, top_k=context.top_k
        )
    )  # fmt: skip


def _by_sample(selected_TK: Tensor, context: AttentionContext, *, from_row_start: bool) -> list[Tensor]:
    """The row's sets as one list of sets a sample, counted from its own start and as wide as it needs, as the plain path's."""
    sets = []
    for start, end, first, last in context.segments:
        own = selected_TK[start:end]
        if from_row_start:
            own = own[:, : min(context.top_k, last - first)]
            own = (own - first).masked_fill(own < 0, -1)
        else:
            own = own[:, : int((own >= 0).sum())]
        sets.append(own)
    return sets


def _dense_row(q_THD: Tensor, k_SGD: Tensor, v_SGD: Tensor, context: AttentionContext) -> Tensor:
    """Causal attention inside each sample of the row, without a cache: [T, H, D]."""
    if context.shard is None:
        longest = max(end - start for start, end in context.samples)
        packed = packed_dense(q_THD, k_SGD, v_SGD, context.cu_seqlens, longest, causal=True)
        if packed is not None:
            return packed
    return _dense(q_THD, k_SGD, v_SGD, context.segments)


def _dense(q_THD: Tensor, k_SGD: Tensor, v_SGD: Tensor, segments: tuple[Segment, ...]) -> Tensor:
    """Causal attention inside each sample, without a cache: [T, H, D]."""
    start, end, first, last = segments[0]
    if len(q_THD) == len(k_SGD) and all(s.end - s.start == end - start for s in segments):
        q, k, v = (x.view(len(segments), -1, *x.shape[1:]).transpose(1, 2) for x in (q_THD, k_SGD, v_SGD))
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return mixed.transpose(1, 2).reshape(q_THD.shape)
    outs = []
    for start, end, first, last in segments:
        q, k, v = q_THD[start:end], k_SGD[first:last], v_SGD[first:last]
        if end - start == last - first:
            outs.append(_dense(q, k, v, whole(((0, end - start),))))
        else:
            outs.append(_dense_with_past(q, k, v))
    return torch.cat(outs)


# On a CPU, queries that meet a past together: their mask is this times the keys.
PAST_CHUNK = 512


def _dense_with_past(q_THD: Tensor, k_SGD: Tensor, v_SGD: Tensor) -> Tensor:
    """Causal attention of the last T of S positions: [T, H, D].

    A GPU's flash attention knows this mask without being given one. Elsewhere masks are made, chunk by chunk, and made again in
    backward: kept, they would be T x S values a layer.
    """
    if q_THD.device.type == "cuda":
        # Loads torch's compiler, and with it Triton.
        from torch.nn.attention.bias import causal_lower_right

        q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in (q_THD, k_SGD, v_SGD))
        visible = causal_lower_right(len(q_THD), len(k_SGD))
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=visible, enable_gqa=True)
        return mixed.squeeze(0).transpose(0, 1)
    past, outs = len(k_SGD) - len(q_THD), []
    for start in range(0, len(q_THD), PAST_CHUNK):
        chunk_CHD = q_THD[start : start + PAST_CHUNK]
        keys = past + start + len(chunk_CHD)
        parts = chunk_CHD, k_SGD[:keys], v_SGD[:keys]
        again = torch.is_grad_enabled() and any(part.requires_grad for part in parts)
        outs.append(checkpoint(_masked, *parts, use_reentrant=False) if again else _masked(*parts))
    return outs[0] if len(outs) == 1 else torch.cat(outs)


def _masked(q_THD: Tensor, k_SGD: Tensor, v_SGD: Tensor) -> Tensor:
    """`_dense_with_past` with a mask [T, S]."""
    queries, keys = len(q_THD), len(k_SGD)
    visible = None if queries == 1 else torch.ones(queries, keys, dtype=torch.bool, device=q_THD.device).tril(keys - queries)
    q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in (q_THD, k_SGD, v_SGD))
    mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=visible, enable_gqa=True)
    return mixed.squeeze(0).transpose(0, 1)
