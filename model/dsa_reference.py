"""DeepSeek Sparse Attention on grouped queries, written straight from the formulas. To check the fast path against;
not fast.

Everything is a [.., T, S] tensor and every gradient is autograd's. One sample; T queries at the end of S keys (S - T
keys come from a cache). With j over indexer heads, g over KV groups, h over the query heads of g:

    I[t,s]   = sum_j w[t,j] ReLU(q_I[t,j] . k_I[s])                 (w holds the scale)
    S_t      = the top_k best visible s; equal scores, lower s first; all of them in warm-up
    p[t,h,s] = softmax over S_t of q[t,h] . k[s,g] / sqrt(D);        out[t,h] = sum_s p[t,h,s] v[s,g]
    KL       = sum_t sum_g KL( mean_{h in g} p[t,h,:]  ||  softmax over S_t of I[t,:] ),  p a constant

Shapes: T queries, S keys, H query heads, G KV groups, D head dim, J indexer heads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class SampleAttention:
    """One sample through one attention layer: output [T, H, D], KL (sum over tokens and groups), selected sets [T, K] or
    None."""

    out: Tensor
    kl: Tensor | None
    selected: Tensor | None = None


def causal_mask(queries: int, keys: int, device: torch.device) -> Tensor:
    """[T, S] bool: query t (the last T of S positions) sees keys up to its own position."""
    position = torch.arange(keys - queries, keys, device=device)
    return torch.arange(keys, device=device)[None, :] <= position[:, None]


def select(scores_TS: Tensor, visible_TS: Tensor, top_k: int) -> Tensor:
    """The selected sets as a [T, S] bool mask, by a stable sort: the definition `indexer.top_k_mask` must equal."""
    order = scores_TS.masked_fill(~visible_TS, -torch.inf).sort(dim=-1, descending=True, stable=True).indices
    chosen = torch.zeros_like(visible_TS).scatter_(1, order[:, :top_k], True)
    return chosen & visible_TS


def reference_attention(
    q_THD: Tensor,
    k_SGD: Tensor,
    v_SGD: Tensor,
    index_q_TJD: Tensor,
    index_k_SD: Tensor,
    index_w_TJ: Tensor,
    *,
    top_k: int | None,
) -> SampleAttention:
    """Sparse attention and its KL (`top_k` None: warm-up, every visible key)."""
    queries, heads, dim = q_THD.shape
    keys, groups = k_SGD.shape[:2]
    visible_TS = causal_mask(queries, keys, q_THD.device)
    products_TJS = torch.einsum("tjd,sd->tjs", index_q_TJD, index_k_SD).relu()
    scores_TS = torch.einsum("tj,tjs->ts", index_w_TJ, products_TJS)
    chosen_TS = visible_TS if top_k is None else select(scores_TS.detach(), visible_TS, top_k)

    q_TGRD = q_THD.view(queries, groups, heads // groups, dim)
    logits_GRTS = torch.einsum("tgrd,sgd->grts", q_TGRD, k_SGD) * dim**-0.5
    p_GRTS = logits_GRTS.masked_fill(~chosen_TS, -torch.inf).softmax(dim=-1)
    out_THD = torch.einsum("grts,sgd->tgrd", p_GRTS, v_SGD).reshape(queries, heads, dim)

    target_GTS = p_GRTS.detach().mean(1)
    log_q_TS = scores_TS.masked_fill(~chosen_TS, -torch.inf).log_softmax(dim=-1).masked_fill(~chosen_TS, 0.0)
    kl = (torch.special.xlogy(target_GTS, target_GTS) - target_GTS * log_q_TS).sum()
    selected = chosen_TS.nonzero().new_full((queries, min(top_k or keys, keys)), -1)
    for t in range(queries):
        found = chosen_TS[t].nonzero().squeeze(1)
        selected[t, : len(found)] = found
    return SampleAttention(out_THD, kl, selected.to(torch.int32))
