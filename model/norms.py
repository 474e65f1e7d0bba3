"""RMSNorm, in float32 whatever the activations are (transformers' Qwen3-MoE order: normalise, cast back, then scale).

Decided here: one function with its own gradient, which keeps the input and a number a row and works in place. torch's
`rms_norm` is a chain of separate operations on a CPU: autograd keeps two more tensors of the input's size and each step maps
fresh memory. Where torch has a fused kernel (a GPU) that is used. Both equal x / sqrt(mean(x^2) + eps) * weight to
rounding.

Shapes: N rows (all leading axes), D size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_D: Tensor, eps: float) -> Tensor:
        x_ND = x.reshape(-1, x.shape[-1])
        length_N1 = torch.linalg.vector_norm(x_ND.to(_wide(x)), dim=-1, keepdim=True)
        inverse_N1 = length_N1.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x_ND, weight_D, inverse_N1)
        ctx.set_materialize_grads(False)
        return (x_ND * inverse_N1).to(x.dtype).mul_(weight_D).view(x.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, Tensor | None, None]:
        (gradient,) = gradients
        if gradient is None:
            return None, None, None
        x_ND, weight_D, inverse_N1 = ctx.saved_tensors
        grad_ND = gradient.reshape(x_ND.shape).to(inverse_N1.dtype)
        normal_ND = x_ND * inverse_N1
        product_ND = grad_ND * normal_ND
        into_weight = product_ND.sum(0).to(weight_D.dtype) if ctx.needs_input_grad[1] else None
        if not ctx.needs_input_grad[0]:
            return None, into_weight, None
        # d x = (w g - normal * mean(w g normal)) / rms, formed in the two tensors at hand.
        weight_D = weight_D.to(grad_ND.dtype)
        mean_N1 = torch.mv(product_ND, weight_D).unsqueeze(1) / x_ND.shape[1]
        into_x = torch.mul(grad_ND, weight_D, out=product_ND).sub_(normal_ND.mul_(mean_N1)).mul_(inverse_N1)
        return into_x.to(x_ND.dtype).view(gradient.shape), into_weight, None


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last axis."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu":
            return _RMSNorm.apply(x, self.weight, self.eps)
        return self.weight * nn.functional.rms_norm(x.to(_wide(x)), x.shape[-1:], None, self.eps).to(x.dtype)
