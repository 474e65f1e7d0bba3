"""The next-token loss, a chunk of tokens at a time.

Decided here: the logits of a chunk are turned into their own gradient in place, in the forward pass (softmax minus
one-hot), and multiplied into the gradients of the hidden states and of the head's weight at once. So no tensor of
tokens x vocabulary is ever whole, and backward has nothing to recompute. Only rows that have a target are computed.
Sums are float32 or wider.

Shapes: T tokens, N tokens with a target, C of them in a chunk, M hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

IGNORED = -100
# Elements of one chunk's logits: 32 MB of float32, and as much for their softmax. Fewer rows make slower products: on one
# core, 512 -> 32,768, 128 rows give 70 / 90 / 84 GFLOP/s (logits, hidden, weight), 256 rows 80 / 96 / 93.
CHUNK_ELEMENTS = 2**23


def shifted_targets(labels_T: Tensor, samples: tuple[tuple[int, int], ...]) -> Tensor:
    """Labels at each token -> the target each token predicts: the next token's label, none across a sample's end. [T]
    int64."""
    targets_T = torch.full_like(labels_T, IGNORED)
    targets_T[:-1] = labels_T[1:]
    targets_T[torch.tensor([end - 1 for _, end in samples], device=labels_T.device)] = IGNORED
    return targets_T


def by_sample(
    losses_N: Tensor, targets_T: Tensor, samples: tuple[tuple[int, int], ...], rows_T: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Loss sums [S] float64 and counts of targets [S] int64 of each sample, from the losses of the tokens with a target.
    `rows_T`: where in the row the tokens are, when they are not all of it."""
    ends_S = torch.tensor([end for _, end in samples], device=targets_T.device)
    rows_N = (targets_T != IGNORED).nonzero().squeeze(1)
    sample_N = torch.bucketize(rows_N if rows_T is None else rows_T[rows_N], ends_S, right=True)
    sums_S = torch.zeros(len(samples), dtype=torch.float64, device=targets_T.device)
    return sums_S.index_add_(0, sample_N, losses_N.double()), torch.bincount(sample_N, minlength=len(samples))


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_NM: Tensor, weight_VM: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
        wide = torch.promote_types(hidden_NM.dtype, torch.float32)
        rows, vocabulary = hidden_NM.shape[0], weight_VM.shape[0]
        into_hidden = torch.empty_like(hidden_NM) if ctx.needs_input_grad[0] else None
        into_weight = torch.zeros_like(weight_VM, dtype=wide) if ctx.needs_input_grad[1] else None
        total = torch.zeros((), dtype=wide, device=hidden_NM.device)
        each_N = torch.empty(rows, dtype=wide, device=hidden_NM.device)
        chunk = min(max(64, CHUNK_ELEMENTS // vocabulary), max(rows, 1))
        # Two buffers for all chunks: tensors of this size would be mapped and zeroed by the system anew each time.
        logits = hidden_NM.new_empty(chunk, vocabulary)
        softmax = logits.new_empty(chunk, vocabulary, dtype=wide)
        for start in range(0, rows, chunk):
            hidden_CM, targets_C1 = hidden_NM[start : start + chunk], targets_N[start : start + chunk, None]
            logits_CV, p_CV = logits[: len(hidden_CM)], softmax[: len(hidden_CM)]
            torch.mm(hidden_CM, weight_VM.T, out=logits_CV)
            torch.softmax(logits_CV, dim=-1, dtype=wide, out=p_CV)
            # The largest probability is at least 1 / V, so its logarithm gives the normaliser without another pass of exp.
            log_sum_C = logits_CV.amax(dim=-1).to(wide) - p_CV.amax(dim=-1).log()
            each_C = torch.sub(log_sum_C, logits_CV.gather(1, targets_C1).squeeze(1), out=each_N[start : start + chunk])
            total += each_C.sum()
            if into_hidden is None and into_weight is None:
                continue
            p_CV[torch.arange(len(p_CV), device=p_CV.device), targets_C1.squeeze(1)] -= 1.0
            slope_CV = p_CV.to(hidden_NM.dtype)
            if into_hidden is not None:
                torch.mm(slope_CV, weight_VM, out=into_hidden[start : start + chunk])
            if into_weight is not None:
                if into_weight.dtype == slope_CV.dtype:
                    into_weight.addmm_(slope_CV.T, hidden_CM)
                else:
                    into_weight += slope_CV.T @ hidden_CM
        ctx.save_for_backward(into_hidden, into_weight.to(weight_VM.dtype) if into_weight is not None else None)
        ctx.mark_non_differentiable(each_N)
        return total, each_N

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        scale = gradients[0]
        into_hidden, into_weight = (None if g is None else g * scale.to(g.dtype) for g in ctx.saved_tensors)
        return into_hidden, into_weight, None


class LanguageHead(nn.Linear):
    """`lm_head` of the checkpoint: logits, or the summed loss without them."""

    def forward(self, hidden_TM: Tensor, targets_T: Tensor | None = None) -> Any:
        """Logits [T, V]; with `targets_T` (int64, -100 where none) the sum of the cross-entropies, a scalar, and each of them
        [N], which carries no gradient.

        Raises:
            ValueError: a target outside the vocabulary.
        """
        if targets_T is None:
            return super().forward(hidden_TM)
        rows_N = (targets_T != IGNORED).nonzero().squeeze(1)
        targets_N = targets_T[rows_N]
        if len(targets_N) and not (int(targets_N.min()) >= 0 and int(targets_N.max()) < self.out_features):
            raise ValueError(
                f"labels must be -100 or lie in [0, {self.out_features}), got values in "
                f"[{int(targets_N.min())}, {int(targets_N.max())}]"
            )
        chosen_NM = hidden_TM if len(rows_N) == len(hidden_TM) else hidden_TM[rows_N]
        return _ChunkedLoss.apply(chosen_NM, self.weight, targets_N)
