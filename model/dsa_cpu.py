"""The fast path of DeepSeek Sparse Attention in plain torch: query chunks, the union of their sets, gradients without L x L tensors.

Decided here:
- Queries go in chunks. A chunk's scores [C, S] and rectified products [C, J, S] live only while the chunk is worked on. The keys any of its
  queries selected are gathered once (neighbours select nearly the same ones) and the rest of the union is masked out; when the union is
  most of what is visible, the slice is taken without gathering.
- The KL's gradient with respect to the indexer (softmax(I) - p on the selected set, times the number of groups: sum_g KL(p_g || q) has the
  gradient of G * KL(mean p_g || q)) is formed in the forward pass, where scores and probabilities are at hand; backward only scales it.
- Backward keeps q, k, v, out and the selected sets [T, K] as int32, and recomputes the probabilities chunk by chunk.
- Warm-up is the same loop without a selection and without gradients for q, k and v.

Everything is deterministic on a CPU. Shapes: T queries, C queries of a chunk, S keys, U keys of a chunk's union, H query heads, G KV groups,
R = H / G, D head dim, J indexer heads, E indexer head dim, K top_k.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from model.dsa_reference import SampleAttention
from model.indexer import index_scores, indices_to_mask, mask_to_indices, top_k_mask

# The union is gathered only when it is less than this share of the visible keys: a gather costs about as much as it saves above.
GATHER_BELOW = 0.7


@dataclass
class _Keys:
    """The keys a chunk reads: a slice [0, end) or gathered rows, and who reads which."""

    rows_U: Tensor | None
    end: int
    hidden_CU: Tensor

    def take(self, x_GSD: Tensor) -> Tensor:
        """The union's rows of a [G, S, D] tensor."""
        return x_GSD[:, : self.end] if self.rows_U is None else x_GSD.index_select(1, self.rows_U)

    def add(self, into_GSD: Tensor, part_GUD: Tensor) -> None:
        """Adds the union's rows back (indices are distinct: the order of additions is fixed)."""
        if self.rows_U is None:
            into_GSD[:, : self.end].add_(part_GUD)
        else:
            into_GSD.index_add_(1, self.rows_U, part_GUD)


def _causal_hidden(start: int, stop: int, end: int, device: torch.device) -> Tensor:
    """[C, end] bool: True where a key lies after the query; queries are positions start..stop-1."""
    return torch.arange(end, device=device) > torch.arange(start, stop, device=device)[:, None]


def _union(chosen_CS: Tensor) -> _Keys:
    end = chosen_CS.shape[1]
    rows_U = chosen_CS.any(dim=0).nonzero().squeeze(1)
    if len(rows_U) >= GATHER_BELOW * end:
        return _Keys(None, end, ~chosen_CS)
    return _Keys(rows_U, end, ~chosen_CS.index_select(1, rows_U))


def _probabilities(q_GXD: Tensor, k_GUD: Tensor, hidden_CU: Tensor) -> Tensor:
    """Softmax over the chunk's keys, [G, R * C, U]; q carries the scale."""
    logits = torch.bmm(q_GXD, k_GUD.transpose(1, 2))
    groups, rows, keys = logits.shape
    logits.view(groups, -1, *hidden_CU.shape).masked_fill_(hidden_CU, -torch.inf)
    return logits.softmax(dim=-1)


def _grouped(x_CHD: Tensor, groups: int) -> Tensor:
    """[C, H, D] -> [G, R * C, D]: the query heads of a group under one another."""
    queries, heads, dim = x_CHD.shape
    return x_CHD.view(queries, groups, heads // groups, dim).permute(1, 2, 0, 3).reshape(groups, -1, dim)


def _ungrouped(x_GXD: Tensor, queries: int) -> Tensor:
    """The inverse of `_grouped`: [C, H, D]."""
    groups, _, dim = x_GXD.shape
    return x_GXD.view(groups, -1, queries, dim).permute(2, 0, 1, 3).reshape(queries, -1, dim)


class _IndexerGradient:
    """Accumulates the KL and its gradient with respect to the indexer's queries, keys and gates."""

    def __init__(self, q_TJE: Tensor, k_SE: Tensor, w_TJ: Tensor, *, with_gradient: bool) -> None:
        self.q, self.k, self.w = q_TJE, k_SE, w_TJ
        self.total = q_TJE.new_zeros(())
        self.gradients = (torch.zeros_like(q_TJE), torch.zeros_like(k_SE), torch.zeros_like(w_TJ)) if with_gradient else None

    def add(self, queries: slice, p_GRCU: Tensor, scores_CS: Tensor, products_CJS: Tensor, keys: _Keys) -> None:
        target_GCU = p_GRCU.mean(1)
        groups = target_GCU.shape[0]
        if keys.rows_U is None:
            scores_CU, products_CJU = scores_CS, products_CJS
        else:
            scores_CU, products_CJU = scores_CS.index_select(1, keys.rows_U), products_CJS.index_select(2, keys.rows_U)
        log_q_CU = scores_CU.masked_fill(keys.hidden_CU, -torch.inf).log_softmax(dim=-1)
        mean_CU = target_GCU.sum(0)
        entropy = torch.special.xlogy(target_GCU, target_GCU).sum()
        self.total += entropy - (mean_CU * log_q_CU.masked_fill(keys.hidden_CU, 0.0)).sum()
        if self.gradients is None:
            return
        into_q, into_k, into_w = self.gradients
        slope_CU = log_q_CU.exp_().mul_(groups).sub_(mean_CU)
        into_w[queries] = torch.bmm(products_CJU, slope_CU.unsqueeze(2)).squeeze(2)
        slope_CJU = (products_CJU > 0) * slope_CU.unsqueeze(1)
        slope_XU = slope_CJU.mul_(self.w[queries].unsqueeze(2)).flatten(0, 1)
        k_UE = self.k[: keys.end] if keys.rows_U is None else self.k.index_select(0, keys.rows_U)
        into_q[queries] = (slope_XU @ k_UE).view_as(self.q[queries])
        part_UE = slope_XU.T @ self.q[queries].flatten(0, 1)
        keys.add(into_k.unsqueeze(0), part_UE.unsqueeze(0))


def _forward(
    q_THD: Tensor,
    k_GSD: Tensor,
    v_GSD: Tensor,
    index_q: Tensor,
    index_k: Tensor,
    index_w: Tensor,
    *,
    top_k: int | None,
    chunk: int,
    indexer: _IndexerGradient | None,
) -> tuple[Tensor, Tensor | None]:
    """Output [T, H, D] and the selected sets [T, K] (None in warm-up); the KL goes into `indexer`."""
    total, past = q_THD.shape[0], k_GSD.shape[1] - q_THD.shape[0]
    groups, scale = k_GSD.shape[0], q_THD.shape[-1] ** -0.5
    out_THD = torch.empty_like(q_THD)
    selected = None
    if top_k is not None:
        selected = torch.empty(total, min(top_k, k_GSD.shape[1]), dtype=torch.int32, device=q_THD.device)
    for start in range(0, total, chunk):
        queries = slice(start, min(start + chunk, total))
        end = past + queries.stop
        hidden_CS = _causal_hidden(past + start, end, end, q_THD.device)
        selecting = selected is not None and top_k is not None and end > top_k
        if selecting or indexer is not None:
            scores_CS, products_CJS = index_scores(index_q[queries], index_k[:end], index_w[queries])
        if selecting and top_k is not None:
            # Only the chunk's own positions can lie in a query's future.
            scores_CS[:, past + start :].masked_fill_(hidden_CS[:, past + start :], -torch.inf)
            keys = _union(top_k_mask(scores_CS, top_k))
        else:
            keys = _Keys(None, end, hidden_CS)
        if selected is not None:
            chosen = ~hidden_CS if not selecting else _full_mask(keys)
            selected[queries] = mask_to_indices(chosen, selected.shape[1])
        p_GXU = _probabilities(_grouped(q_THD[queries], groups) * scale, keys.take(k_GSD), keys.hidden_CU)
        out_THD[queries] = _ungrouped(torch.bmm(p_GXU, keys.take(v_GSD)), queries.stop - start)
        if indexer is not None:
            p_GRCU = p_GXU.view(groups, -1, *keys.hidden_CU.shape)
            indexer.add(queries, p_GRCU, scores_CS, products_CJS, keys)
    return out_THD, selected


def _full_mask(keys: _Keys) -> Tensor:
    chosen_CU = ~keys.hidden_CU
    if keys.rows_U is None:
        return chosen_CU
    mask = torch.zeros(chosen_CU.shape[0], keys.end, dtype=torch.bool, device=chosen_CU.device)
    mask[:, keys.rows_U] = chosen_CU
    return mask


class _SparseAttention(torch.autograd.Function):
    """(q, k, v, indexer's q, k, w) -> (out, KL, selected); see the module docstring for what is kept."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, iq: Tensor, ik: Tensor, iw: Tensor, top_k: int | None, chunk: int, with_kl: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        k_GSD, v_GSD = k.transpose(0, 1).contiguous(), v.transpose(0, 1).contiguous()
        trains_indexer = any(ctx.needs_input_grad[3:6])
        indexer = _IndexerGradient(iq, ik, iw, with_gradient=trains_indexer) if with_kl else None
        out, selected = _forward(q, k_GSD, v_GSD, iq, ik, iw, top_k=top_k, chunk=chunk, indexer=indexer)
        ctx.chunk = chunk
        ctx.indexer_gradients = indexer.gradients if indexer is not None else None
        if selected is None:
            ctx.mark_non_differentiable(out)
        else:
            ctx.mark_non_differentiable(selected)
            ctx.save_for_backward(q, k_GSD, v_GSD, out, selected)
        return out, indexer.total if indexer is not None else q.new_zeros(()), selected

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        grad_out, grad_kl, _ = gradients
        to_indexer: tuple[Tensor | None, ...] = (None, None, None)
        if ctx.indexer_gradients is not None:
            to_indexer = tuple(gradient * grad_kl for gradient in ctx.indexer_gradients)
        to_qkv: tuple[Tensor | None, ...] = (None, None, None)
        if any(ctx.needs_input_grad[:3]) and ctx.saved_tensors:
            to_qkv = _backward(grad_out, *ctx.saved_tensors, chunk=ctx.chunk)
        return *to_qkv, *to_indexer, None, None, None


def _backward(
    grad_THD: Tensor, q_THD: Tensor, k_GSD: Tensor, v_GSD: Tensor, out_THD: Tensor, selected_TK: Tensor, *, chunk: int
) -> tuple[Tensor, Tensor, Tensor]:
    total, past = q_THD.shape[0], k_GSD.shape[1] - q_THD.shape[0]
    groups, scale, top_k = k_GSD.shape[0], q_THD.shape[-1] ** -0.5, selected_TK.shape[1]
    into_q, into_k, into_v = torch.empty_like(q_THD), torch.zeros_like(k_GSD), torch.zeros_like(v_GSD)
    for start in range(0, total, chunk):
        queries = slice(start, min(start + chunk, total))
        end = past + queries.stop
        if end <= top_k:
            keys = _Keys(None, end, _causal_hidden(past + start, end, end, q_THD.device))
        else:
            keys = _union(indices_to_mask(selected_TK[queries], end))
        q_GXD, grad_GXD = _grouped(q_THD[queries], groups) * scale, _grouped(grad_THD[queries], groups)
        k_GUD = keys.take(k_GSD)
        p_GXU = _probabilities(q_GXD, k_GUD, keys.hidden_CU)
        keys.add(into_v, torch.bmm(p_GXU.transpose(1, 2), grad_GXD))
        offset_GX1 = (grad_GXD * _grouped(out_THD[queries], groups)).sum(-1, keepdim=True)
        slope_GXU = torch.bmm(grad_GXD, keys.take(v_GSD).transpose(1, 2)).sub_(offset_GX1).mul_(p_GXU)
        into_q[queries] = _ungrouped(torch.bmm(slope_GXU, k_GUD), queries.stop - start).mul_(scale)
        keys.add(into_k, torch.bmm(slope_GXU.transpose(1, 2), q_GXD))
    return into_q, into_k.transpose(0, 1), into_v.transpose(0, 1)


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

    Returns:
        output [T, H, D] in q's type; KL summed over tokens and groups (or None), float32 or wider; selected [T, min(K, S)] int32, ascending,
        padded with -1 (None in warm-up).
    """
    wide = torch.promote_types(q_THD.dtype, torch.float32)
    inputs = [x.to(wide) for x in (q_THD, k_SGD, v_SGD, index_q_TJE, index_k_SE, index_w_TJ)]
    if top_k is None:
        inputs[:3] = [x.detach() for x in inputs[:3]]
    out, kl, selected = _SparseAttention.apply(*inputs, top_k, chunk, with_kl)
    return SampleAttention(out.to(q_THD.dtype), kl if with_kl else None, selected)


@torch.no_grad()
def covered_mass(
    q_THD: Tensor, k_SGD: Tensor, index_q_TJE: Tensor, index_k_SE: Tensor, index_w_TJ: Tensor, *, top_k: int, chunk: int
) -> Tensor:
    """Share of each query's dense attention probability (mean over heads) that lies on its selected set: [T] float32."""
    wide = torch.promote_types(q_THD.dtype, torch.float32)
    q_THD, k_SGD, index_q_TJE, index_k_SE, index_w_TJ = (
        x.to(wide) for x in (q_THD, k_SGD, index_q_TJE, index_k_SE, index_w_TJ)
    )
    total, past = q_THD.shape[0], k_SGD.shape[0] - q_THD.shape[0]
    k_GSD, covered = k_SGD.transpose(0, 1).contiguous(), q_THD.new_ones(total)
    for start in range(0, total, chunk):
        queries = slice(start, min(start + chunk, total))
        end = past + queries.stop
        if end <= top_k:
            continue
        hidden_CS = _causal_hidden(past + start, end, end, q_THD.device)
        scores_CS, _ = index_scores(index_q_TJE[queries], index_k_SE[:end], index_w_TJ[queries])
        chosen_CS = top_k_mask(scores_CS.masked_fill_(hidden_CS, -torch.inf), top_k)
        q_GXD = _grouped(q_THD[queries], k_GSD.shape[0]) * q_THD.shape[-1] ** -0.5
        p_GXU = _probabilities(q_GXD, k_GSD[:, :end], hidden_CS)
        covered[queries] = (p_GXU.view(-1, *chosen_CS.shape).mean(0) * chosen_CS).sum(-1)
    return covered.float()
