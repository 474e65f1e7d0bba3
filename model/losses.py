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
# Elements of one chunk's logits: 16 MB of float32.
CHUNK_ELEMENTS = 2**22


def shifted_targets(labels_T: Tensor, samples: tuple[tuple[int, int], ...]) -> Tensor:
    """Labels at each token -> the target each token predicts: the next token's label, none across a sample's end. [T]
    int64."""
    targets_T = torch.full_like(labels_T, IGNORED)
    targets_T[:-1] = labels_T[1:]
    targets_T[torch.tensor([end - 1 for _, end in samples], device=labels_T.device)] = IGNORED
    return targets_T


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_NM: Tensor, weight_VM: Tensor, targets_N: Tensor) -> Tensor:
        wide = torch.promote_types(hidden_NM.dtype, torch.float32)
        into_hidden = torch.empty_like(hidden_NM) if ctx.needs_input_grad[0] else None
        into_weight = torch.zeros_like(weight_VM, dtype=wide) if ctx.needs_input_grad[1] else None
        total = torch.zeros((), dtype=wide, device=hidden_NM.device)
        chunk = max(64, CHUNK_ELEMENTS // weight_VM.shape[0])
        for start in range(0, hidden_NM.shape[0], chunk):
            hidden_CM, targets_C = hidden_NM[start : start + chunk], targets_N[start : start + chunk]
            logits_CV = (hidden_CM @ weight_VM.T).to(wide)
            log_sum_C = logits_CV.logsumexp(dim=-1)
            total += (log_sum_C - logits_CV.gather(1, targets_C[:, None]).squeeze(1)).sum()
            if into_hidden is None and into_weight is None:
                continue
            slope_CV = logits_CV.sub_(log_sum_C[:, None]).exp_()
            slope_CV[torch.arange(len(targets_C), device=slope_CV.device), targets_C] -= 1.0
            slope_CV = slope_CV.to(hidden_NM.dtype)
            if into_hidden is not None:
                into_hidden[start : start + chunk] = slope_CV @ weight_VM
            if into_weight is not None:
                if into_weight.dtype == slope_CV.dtype:
                    into_weight.addmm_(slope_CV.T, hidden_CM)
                else:
                    into_weight += slope_CV.T @ hidden_CM
        ctx.save_for_backward(into_hidden, into_weight.to(weight_VM.dtype) if into_weight is not None else None)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = gradients
        into_hidden, into_weight = (None if g is None else g * scale.to(g.dtype) for g in ctx.saved_tensors)
        return into_hidden, into_weight, None


class LanguageHead(nn.Linear):
    """`lm_head` of the checkpoint: logits, or the summed loss without them."""

    def forward(self, hidden_TM: Tensor, targets_T: Tensor | None = None) -> Tensor:
        """Logits [T, V]; with `targets_T` (int64, -100 where none) the sum of the cross-entropies, a scalar.

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
