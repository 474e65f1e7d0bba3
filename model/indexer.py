"""The lightning indexer: which earlier tokens each token will read.

Score of key s for query t (arXiv 2512.02556 and 2606.10651): I[t,s] = sum_j w[t,j] * ReLU(q[t,j] . k[s]) * head_dim^-0.5, over the causally
visible s of the same sample. The k best are read; equal scores go to the lower index.

Decided here: the scale is folded into the gates w. The published serving code turns queries and keys by a Hadamard matrix before
quantising them; it is orthogonal and leaves every product unchanged, so at float32 and bf16 it is left out. Selection goes by the value
of the k-th best score, not by the order some sort left behind: everything above it is in, and of what equals it the lowest
indices. So the set is a function of the scores alone: not of threads, chunks or library versions.

Shapes: T query tokens, S visible keys, J indexer heads, D indexer head dim, K selected.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.config import DecoderConfig
from model.norms import RMSNorm
from model.rope import rotate


class Indexer(nn.Module):
    """`sa_indexer` of the checkpoint: one linear gives the queries and, last, the gates; one key head (MQA)."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        indexer = config.indexer
        self.heads, self.head_dim, self.norm_eps = indexer.heads, indexer.head_dim, indexer.norm_eps
        self.q_proj = nn.Linear(config.hidden_size, indexer.heads * indexer.head_dim + indexer.heads, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, indexer.head_dim, bias=False)
        self.q_norm = RMSNorm(indexer.head_dim, indexer.norm_eps)
        self.k_norm = nn.LayerNorm(indexer.head_dim, eps=indexer.norm_eps)

    def forward(self, x_TM: Tensor, tables: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Indexer queries, keys and gates of tokens whose hidden state is `x_TM` (callers detach it).

        Returns:
            q [T, J, D], k [T, D], w [T, J] (w holds the factor D^-0.5).
        """
        split = self.heads * self.head_dim
        q_TX, w_TJ = self.q_proj(x_TM).split((split, self.heads), dim=-1)
        q_TJD = self.q_norm(q_TX.reshape(-1, self.heads, self.head_dim))
        k_TD = nn.functional.layer_norm(
            self.k_proj(x_TM).float(), (self.head_dim,), self.k_norm.weight.float(), self.k_norm.bias.float(), self.norm_eps
        )
        k_TD = rotate(k_TD.unsqueeze(1), *tables).squeeze(1).to(x_TM.dtype)
        return rotate(q_TJD, *tables), k_TD, w_TJ * self.head_dim**-0.5


def index_scores(q_TJD: Tensor, k_SD: Tensor, w_TJ: Tensor) -> tuple[Tensor, Tensor]:
    """Scores, and the rectified products they are made of (their gradient needs them).

    Returns:
        I [T, S], ReLU(q . k) [T, J, S].
    """
    queries, heads, dim = q_TJD.shape
    rectified_TJS = torch.mm(q_TJD.reshape(queries * heads, dim), k_SD.T).relu_().view(queries, heads, -1)
    return torch.bmm(w_TJ.unsqueeze(1), rectified_TJS).squeeze(1), rectified_TJS


def top_k_mask(scores_TS: Tensor, k: int) -> Tensor:
    """The deterministic selection.

    Args:
        scores_TS: [T, S] float, -inf where not visible.
        k: how many to select in each row.

    Returns:
        [T, S] bool: exactly min(k, visible) True in each row; equal scores: lower index first.
    """
    visible_TS = scores_TS > -torch.inf
    if k >= scores_TS.shape[1]:
        return visible_TS
    kth_T1 = scores_TS.topk(k, dim=-1, sorted=False).values.amin(dim=-1, keepdim=True)
    mask_TS = (scores_TS >= kth_T1).logical_and_(visible_TS)
    crowded = (mask_TS.sum(dim=-1) > k).nonzero().squeeze(1)
    if len(crowded):
        rows, kth = scores_TS[crowded], kth_T1[crowded]
        above, level = rows > kth, rows == kth
        room = k - above.sum(dim=-1, keepdim=True)
        mask_TS[crowded] = above | (level & (level.cumsum(dim=-1) <= room))
    return mask_TS


def mask_to_indices(mask_TS: Tensor, k: int) -> Tensor:
    """[T, S] bool with at most k True a row -> [T, k] int32 of ascending indices, padded with -1."""
    counts_T = mask_TS.sum(dim=-1)
    indices = torch.full((mask_TS.shape[0], k), -1, dtype=torch.int32, device=mask_TS.device)
    slots = torch.arange(k, device=mask_TS.device)
    indices[slots < counts_T[:, None]] = mask_TS.nonzero()[:, 1].to(torch.int32)
    return indices


def indices_to_mask(indices_TK: Tensor, size: int) -> Tensor:
    """The inverse of `mask_to_indices`: [T, size] bool."""
    mask = torch.zeros(indices_TK.shape[0], size + 1, dtype=torch.bool, device=indices_TK.device)
    mask.scatter_(1, indices_TK.long().remainder(size + 1), True)
    return mask[:, :size]
