"""Full attention inside the parts of a packed row, by the best routine torch has: the images of a batch, the samples of a row.

Decided here, by what this torch can do and not by its version number:
- on a GPU in half precision, `torch.nn.attention.varlen.varlen_attn`: one launch for all parts, no padding, no mask; torch
  chooses flash or cuDNN. Causal or with grouped queries only where its signature has them.
- otherwise the caller's own way (one batch for each run of equal parts). `flex_attention` with a document mask is not used:
  it must be compiled anew for each number of tokens' blocks, and its mask has a row and a column for every 128 tokens.

Shapes: T tokens of the row, H query heads, G key heads, D head dim, N parts.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from model.kernels.dispatch import wanted_path


def packed_dense(
    q_THD: Tensor, k_TGD: Tensor, v_TGD: Tensor, cu_seqlens: Tensor, longest: int, *, causal: bool
) -> Tensor | None:
    """softmax(q k / sqrt(D)) v inside each part: [T, H, D]; None where the caller's own way has to.

    Args:
        cu_seqlens: [N + 1] int32, 0 to T, on the device. longest: tokens of the longest part, on the host.
    """
    if wanted_path() == "plain" or reason_not(q_THD, k_TGD, causal=causal) is not None:
        return None
    routine, options = _routine()
    assert routine is not None
    given: dict[str, Any] = {"enable_gqa": True} if "enable_gqa" in options else {}
    if causal:
        given |= {"window_size": (-1, 0)} if "window_size" in options else {"is_causal": True}
    return routine(q_THD, k_TGD, v_TGD, cu_seqlens, cu_seqlens, longest, longest, **given)


def reason_not(q_THD: Tensor, k_TGD: Tensor, *, causal: bool) -> str | None:
    """Why torch's routine cannot serve; None when it can."""
    if q_THD.device.type != "cuda":
        return f"the tensors are on the {q_THD.device.type}, torch's packed attention needs a CUDA device"
    return reason_not_shape(q_THD, k_TGD, causal=causal, options=_routine()[1])


def reason_not_shape(q_THD: Tensor, k_TGD: Tensor, *, causal: bool, options: frozenset[str]) -> str | None:
    """`reason_not` but for the device: `options` are the parameters that torch's routine has."""
    if not options:
        return "this torch has no torch.nn.attention.varlen"
    if q_THD.dtype not in (torch.bfloat16, torch.float16):
        return f"queries are {q_THD.dtype}, torch's packed attention takes bfloat16 and float16"
    dim = q_THD.shape[-1]
    if dim % 8 or dim > 256:
        return f"the head dim is {dim}, torch's packed attention takes multiples of 8 up to 256"
    if q_THD.shape[1] != k_TGD.shape[1] and "enable_gqa" not in options:
        return f"{q_THD.shape[1]} query heads share {k_TGD.shape[1]} key heads, which this torch's packed attention cannot"
    if causal and not options & {"window_size", "is_causal"}:
        return "this torch's packed attention cannot be causal"
    return None


@lru_cache
def _routine() -> tuple[Callable[..., Any] | None, frozenset[str]]:
    """torch's routine and the names of its parameters, none where this torch has none."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None, frozenset()
    return varlen_attn, frozenset(inspect.signature(varlen_attn).parameters)
