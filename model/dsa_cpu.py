"""The fast path of DeepSeek Sparse Attention in plain torch: query chunks, gathered sets, gradients without L x L
tensors.

Decided here:
- Queries go in chunks; a chunk's scores [C, S] live only while it is worked on. How its keys are laid out is
  `dsa_reading`'s choice.
- The KL's gradient with respect to the indexer (softmax(I) - p on the selected set, times the number of groups: sum_g
  KL(p_g || q) has the gradient of G * KL(mean p_g || q)) is formed in the forward pass, where scores and
  probabilities are at hand; backward only scales it.
- Backward keeps q, k, v, out and the selected sets [T, K] as int32, and recomputes the probabilities chunk by chunk.
- Under activation checkpointing the forward pass runs twice. Its first run, `recomputed_later`, leaves the KL's
  gradient out: what it kept would be thrown away.
- Warm-up is the same loop without a selection and without gradients for q, k and v.

Everything is deterministic on a CPU. Shapes: T queries, C queries of a chunk, S keys, Y keys a chunk reads, H query
heads, G KV groups, R = H / G, D head dim, J indexer heads, E indexer head dim, K top_k.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

from model.dsa_reading import Reading, Slice, read_selected
from model.dsa_reference import SampleAttention
from model.indexer import index_scores, top_k_indices

_RECOMPUTED_LATER: ContextVar[bool] = ContextVar("recomputed_later", default=False)


@contextmanager
def recomputed_later() -> Iterator[None]:
    """Inside, nothing is computed that only backward reads: backward will run the same forward again, outside."""
    token = _RECOMPUTED_LATER.set(True)
    try:
        yield
    finally:
        _RECOMPUTED_LATER.reset(token)


def is_recomputed_later() -> bool:
    """Whether this is a first run, inside `recomputed_later`."""
    return _RECOMPUTED_LATER.get()


def _probabilities(reading: Reading, q_BXD: Tensor, k_BYD: Tensor, groups: int) -> Tensor:
    """Softmax over the keys a chunk reads, [B, X, Y]; q carries the scale."""
    logits = torch.bmm(q_BXD, k_BYD.transpose(1, 2))
    if reading.bias is not None:
        reading.heads(logits, groups).add_(reading.bias)
    return logits.softmax(dim=-1)


def _chunks(queries: int, keys: int, chunk: int) -> list[tuple[slice, int]]:
    """(queries, number of keys the last of them sees) of each chunk."""
    starts = range(0, queries, chunk)
    return [(slice(s, min(s + chunk, queries)), keys - queries + min(s + chunk, queries)) for s in starts]


class _IndexerLoss:
    """Sums the KL of the chunks and, if asked, its gradient with respect to the indexer's queries, keys and gates."""

    def __init__(self, q_TJE: Tensor, k_SE: Tensor, w_TJ: Tensor, *, with_gradient: bool) -> None:
        self.q, self.k, self.w = q_TJE, k_SE, w_TJ
        self.total = q_TJE.new_zeros(())
        self.gradients = (torch.empty_like(q_TJE), torch.zeros_like(k_SE), torch.empty_like(w_TJ)) if with_gradient else None

    def add(self, reading: Reading, queries: slice, p_GRCY: Tensor) -> None:
        q_BXE, k_BYE = reading.pack(self.q[queries], 1), reading.take(self.k.unsqueeze(0))
        products_BXY = torch.bmm(q_BXE, k_BYE.transpose(1, 2)).relu_()
        products_JCY = reading.heads(products_BXY, 1).squeeze(0)
        w_JC1 = self.w[queries].T.unsqueeze(-1)
        scores_CY = (products_JCY * w_JC1).sum(0)
        if reading.bias is not None:
            scores_CY += reading.bias
        log_q_CY = scores_CY.log_softmax(dim=-1)
        target_GCY = p_GRCY.mean(1)
        sum_CY = target_GCY.sum(0)
        # 0 * log 0 counts as 0: clamping keeps both factors finite.
        tiny = torch.finfo(target_GCY.dtype).tiny
        self.total += (target_GCY * target_GCY.clamp_min(tiny).log_()).sum()
        self.total -= (sum_CY * log_q_CY.clamp_min(torch.finfo(log_q_CY.dtype).min)).sum()
        if self.gradients is None:
            return
        into_q, into_k, into_w = self.gradients
        slope_CY = log_q_CY.exp_().mul_(target_GCY.shape[0]).sub_(sum_CY)
        into_w[queries] = (products_JCY * slope_CY).sum(-1).T
        # products > 0 selects where the ReLU let through; the result overwrites the products in their own layout.
        products_JCY.sign_().mul_(slope_CY).mul_(w_JC1)
        into_q[queries] = reading.unpack(torch.bmm(products_BXY, k_BYE), 1)
        reading.add(into_k.unsqueeze(0), torch.bmm(products_BXY.transpose(1, 2), q_BXE))


def _select(index_q: Tensor, index_k: Tensor, index_w: Tensor, queries: slice, end: int, top_k: int) -> Tensor:
    """The sets of a chunk's queries: [C, K] int64, ascending, padded with `end`."""
    scores_CS = index_scores(index_q[queries], index_k[:end], index_w[queries])
    size = queries.stop - queries.start
    # Only the chunk's own positions can lie in one of its queries' future.
    scores_CS[:, end - size :] += scores_CS.new_full((size, size), -torch.inf).triu_(1)
    return top_k_indices(scores_CS, top_k)


class _SparseAttention(torch.autograd.Function):
    """(q, k, v, indexer's q, k, w) -> (out, KL, selected); see the module docstring for what is kept."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        iq: Tensor,
        ik: Tensor,
        iw: Tensor,
        top_k: int | None,
        chunk: int,
        with_kl: bool,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        k_GSD, v_GSD = k.transpose(0, 1).contiguous(), v.transpose(0, 1).contiguous()
        groups, keys, dim = k_GSD.shape
        scaled_THD = q * dim**-0.5
        learns = with_kl and any(ctx.needs_input_grad[3:6])
        loss = _IndexerLoss(iq, ik, iw, with_gradient=learns and not is_recomputed_later()) if with_kl else None
        out_THD = torch.empty_like(q)
        selected = None
        if top_k is not None:
            selected = torch.full((len(q), min(top_k, keys)), -1, dtype=torch.int32, device=q.device)
        for queries, end in _chunks(len(q), keys, chunk):
            reading: Reading
            if top_k is None or selected is None or end <= top_k:
                reading = Slice(queries.stop - queries.start, end, q)
                if selected is not None:
                    row = torch.arange(end, device=q.device, dtype=torch.int32)
                    last = torch.arange(end - (queries.stop - queries.start), end, device=q.device)
                    selected[queries, :end] = row.masked_fill(row > last[:, None], -1)
            else:
                chosen_CK = _select(iq, ik, iw, queries, end, top_k)
                selected[queries] = chosen_CK.where(chosen_CK < end, -1).to(torch.int32)
                reading = read_selected(chosen_CK, end, q)
            p_BXY = _probabilities(reading, reading.pack(scaled_THD[queries], groups), reading.take(k_GSD), groups)
            out_THD[queries] = reading.unpack(torch.bmm(p_BXY, reading.take(v_GSD)), groups)
            if loss is not None:
                loss.add(reading, queries, reading.heads(p_BXY, groups))
        ctx.chunk, ctx.learns = chunk, learns
        ctx.set_materialize_grads(False)
        kept: list[Tensor] = []
        if learns:
            # A first run saves as many tensors of the same shapes as the second: checkpointing compares them.
            gradients = None if loss is None else loss.gradients
            kept += gradients or (torch.empty_like(iq), torch.empty_like(ik), torch.empty_like(iw))
        if selected is None:
            ctx.mark_non_differentiable(out_THD)
        else:
            ctx.mark_non_differentiable(selected)
            kept += scaled_THD, k_GSD, v_GSD, out_THD, selected
        ctx.save_for_backward(*kept)
        return out_THD, loss.total if loss is not None else q.new_zeros(()), selected

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        grad_out, grad_kl, _ = gradients
        kept = ctx.saved_tensors
        to_indexer: tuple[Tensor | None, ...] = (None, None, None)
        if ctx.learns and grad_kl is not None:
            to_indexer = tuple(gradient * grad_kl for gradient in kept[:3])
        to_qkv: tuple[Tensor | None, ...] = (None, None, None)
        if any(ctx.needs_input_grad[:3]) and grad_out is not None:
            to_qkv = _backward(grad_out, *kept[-5:], chunk=ctx.chunk)
        return *to_qkv, *to_indexer, None, None, None


def _backward(
    grad_THD: Tensor, scaled_THD: Tensor, k_GSD: Tensor, v_GSD: Tensor, out_THD: Tensor, selected_TK: Tensor, *, chunk: int
) -> tuple[Tensor, Tensor, Tensor]:
    groups, keys, dim = k_GSD.shape
    into_q, into_k, into_v = torch.empty_like(scaled_THD), torch.zeros_like(k_GSD), torch.zeros_like(v_GSD)
    offset_TH1 = (grad_THD * out_THD).sum(-1, keepdim=True)
    for queries, end in _chunks(len(scaled_THD), keys, chunk):
        reading: Reading
        if end <= selected_TK.shape[1]:
            reading = Slice(queries.stop - queries.start, end, scaled_THD)
        else:
            chosen_CK = selected_TK[queries].long()
            reading = read_selected(chosen_CK.masked_fill(chosen_CK < 0, end), end, scaled_THD)
        q_BXD, grad_BXD = reading.pack(scaled_THD[queries], groups), reading.pack(grad_THD[queries], groups)
        k_BYD = reading.take(k_GSD)
        p_BXY = _probabilities(reading, q_BXD, k_BYD, groups)
        reading.add(into_v, torch.bmm(p_BXY.transpose(1, 2), grad_BXD))
        slope_BXY = torch.bmm(grad_BXD, reading.take(v_GSD).transpose(1, 2))
        slope_BXY.sub_(reading.pack(offset_TH1[queries], groups)).mul_(p_BXY)
        into_q[queries] = reading.unpack(torch.bmm(slope_BXY, k_BYD), groups)
        reading.add(into_k, torch.bmm(slope_BXY.transpose(1, 2), q_BXD))
    return into_q.mul_(dim**-0.5), into_k.transpose(0, 1), into_v.transpose(0, 1)


def sparse_attention(
    q_THD: Tensor,
    k_SGD: Tensor,
    v_SGD: Tensor,
    index_q_TJE: Tensor,
    index_k_SE: Tensor,
    index_w_TJ: Tensor,
    *,
    top_k: int | None,
    chunk: int,
    with_kl: bool = True,
) -> SampleAttention:
    """One sample's attention over its selected sets, and the KL that trains the indexer; equals `reference_attention`.

    Args:
        q_THD: [T, H, D] queries after norm and RoPE, the last T of S positions. k_SGD, v_SGD: [S, G, D].
        index_q_TJE [T, J, E], index_k_SE [S, E], index_w_TJ [T, J]: from `Indexer`.
        top_k: keys a query reads; None is the dense warm-up, whose output carries no gradient.
        chunk: queries worked on together.
        with_kl: False leaves the KL out (generation).

    Returns: output [T, H, D] in q's type; KL summed over tokens and groups (or None), float32 or wider; selected [T,
        min(K, S)] int32, ascending, padded with -1 (None in warm-up).
    """
    wide = torch.promote_types(q_THD.dtype, torch.float32)
    inputs = [x.to(wide) for x in (q_THD, k_SGD, v_SGD, index_q_TJE, index_k_SE, index_w_TJ)]
    if top_k is None:
        inputs[:3] = [x.detach() for x in inputs[:3]]
    out, kl, selected = _SparseAttention.apply(*inputs, top_k, chunk, with_kl)
    return SampleAttention(out.to(q_THD.dtype), kl if with_kl else None, selected)


@torch.no_grad()
def decode_attention(
    q_1HD: Tensor, k_SGD: Tensor, v_SGD: Tensor, index_q_1JE: Tensor, index_k_SE: Tensor, index_w_1J: Tensor, *, top_k: int
) -> SampleAttention:
    """One new token: scores its past, reads the K best rows and nothing else of the keys and values."""
    chosen_K = top_k_indices(index_scores(index_q_1JE.float(), index_k_SE.float(), index_w_1J.float()), top_k)[0]
    q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in (q_1HD, k_SGD[chosen_K], v_SGD[chosen_K]))
    mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    return SampleAttention(mixed.squeeze(0).transpose(0, 1), None, chosen_K[None].to(torch.int32))


@torch.no_grad()
def covered_mass(
    q_THD: Tensor, k_SGD: Tensor, index_q_TJE: Tensor, index_k_SE: Tensor, index_w_TJ: Tensor, *, top_k: int, chunk: int
) -> Tensor:
    """Share of each query's dense attention probability (mean over heads) that lies on its selected set, and the most
    that any set of K keys could hold: [2, T] float32."""
    wide = torch.promote_types(q_THD.dtype, torch.float32)
    q, k, iq, ik, iw = (x.to(wide) for x in (q_THD, k_SGD, index_q_TJE, index_k_SE, index_w_TJ))
    k_GSD, covered_2T = k.transpose(0, 1).contiguous(), q.new_ones(2, len(q))
    groups, keys, dim = k_GSD.shape
    for queries, end in _chunks(len(q), keys, chunk):
        if end <= top_k:
            continue
        reading = Slice(queries.stop - queries.start, end, q)
        p_BXY = _probabilities(reading, reading.pack(q[queries] * dim**-0.5, groups), k_GSD[:, :end], groups)
        p_CY = reading.heads(p_BXY, groups).mean((0, 1))
        chosen_CK = _select(iq, ik, iw, queries, end, top_k)
        covered_2T[0, queries] = torch.nn.functional.pad(p_CY, (0, 1)).gather(1, chosen_CK).sum(-1)
        covered_2T[1, queries] = p_CY.topk(top_k, dim=-1, sorted=False).values.sum(-1)
    return covered_2T.float()
