"""RMSNorm, in float32 whatever the activations are (transformers' Qwen3-MoE order: normalise, cast back, then scale).

Decided here: the fused `torch.nn.functional.rms_norm` is used, one pass instead of five on a CPU; it equals the
written-out formula x / sqrt(mean(x^2) + eps) * weight to float32 rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last axis."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * nn.functional.rms_norm(x.float(), x.shape[-1:], None, self.eps).to(x.dtype)
