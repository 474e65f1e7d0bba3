"""The lightning indexer: which earlier tokens each token will read.

Score of key s for query t (arXiv 2512.02556 and 2606.10651): I[t,s] = sum_j w[t,j] * ReLU(q[t,j] . k[s]) *
head_dim^-0.5, over the causally visible s of the same sample. The k best are read; equal scores go to the lower
index.

Decided here: the scale is folded into the gates w. The published serving code turns queries and keys by a Hadamard
matrix before quantising them; it is orthogonal and leaves every product unchanged, so at float32 and bf16 it is left
out. Selection goes by the value of the k-th best score, not by the order some sort left behind: everything above it
is in, and of what equals it the lowest indices. So the set is a function of the scores alone: not of threads, chunks
or library versions.

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


def index_scores(q_TJD: Tensor, k_SD: Tensor, w_TJ: Tensor) -> Tensor:
    """I [T, S] of all keys, visible or not."""
    queries, heads, dim = q_TJD.shape
    rectified_TJS = torch.mm(q_TJD.reshape(queries * heads, dim), k_SD.T).relu_().view(queries, heads, -1)
    return torch.bmm(w_TJ.unsqueeze(1), rectified_TJS).squeeze(1)


def top_k_indices(scores_TS: Tensor, k: int) -> Tensor:
    """The deterministic selection.

    Args:
        scores_TS: [T, S] float, -inf where not visible.
        k: how many to select in each row.

    Returns:
        [T, min(k, S)] int64 key indices, ascending, padded at the end with S where fewer than k are visible.
        Equal scores: lower index first.
    """
    size = scores_TS.shape[1]
    if k >= size:
        everything = torch.arange(size, device=scores_TS.device).expand_as(scores_TS)
        return everything.masked_fill(scores_TS == -torch.inf, size).sort(dim=-1).values
    # One more than k: if it equals the k-th, equal scores straddle the border and torch's choice among them is arbitrary.
    values_TX, indices_TX = _largest(scores_TS, k + 1)
    kth_T, next_T = values_TX[:, k - 1], values_TX[:, k]
    chosen_TK = indices_TX[:, :k].masked_fill(values_TX[:, :k] == -torch.inf, size)
    crowded = ((kth_T == next_T) & (next_T > -torch.inf)).nonzero().squeeze(1)
    if len(crowded):
        rows, kth = scores_TS[crowded], kth_T[crowded, None]
        above, level = rows > kth, rows == kth
        room = k - above.sum(dim=-1, keepdim=True)
        mask = above | (level & (level.cumsum(dim=-1) <= room))
        chosen_TK[crowded] = mask.nonzero()[:, 1].view(-1, k)
    return chosen_TK.sort(dim=-1).values


# Scores are first thinned to the blocks that can hold a winner when that leaves at most this share of them.
_BLOCK, _THIN_BELOW = 32, 0.5


def _largest(scores_TS: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row in descending order, any choice among equals.

    The k largest elements lie in the k blocks with the largest maxima, so only those are searched.
    """
    rows, size = scores_TS.shape
    blocks = size // _BLOCK
    if k * _BLOCK > _THIN_BELOW * size or blocks <= k:
        return scores_TS.topk(k, dim=-1)
    cut = blocks * _BLOCK
    blocked_TBX = (
        scores_TS[:, :cut].view(rows, blocks, _BLOCK) if cut == size else scores_TS[:, :cut].reshape(rows, blocks, _BLOCK)
    )
    best_TK = blocked_TBX.amax(dim=-1).topk(k, dim=-1, sorted=False).indices
    columns_TX = (best_TK.unsqueeze(-1) * _BLOCK + torch.arange(_BLOCK, device=best_TK.device)).flatten(1)
    if cut < size:
        tail = torch.arange(cut, size, device=best_TK.device).expand(rows, -1)
        columns_TX = torch.cat((columns_TX, tail), dim=1)
    values_TK, at_TK = scores_TS.gather(1, columns_TX).topk(k, dim=-1)
    return values_TK, columns_TX.gather(1, at_TK)
