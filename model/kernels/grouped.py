"""Products of runs of rows with a matrix each, as a mixture of experts needs them.

Decided here: torch's `grouped_mm` wherever it takes the type on the device, which is found by trying once on a small input;
elsewhere one product a group, which waits for the device to learn where the groups end. The permutation of rows stays
outside of the products (docs/kernels.md says why, by counting bytes).

Shapes: R rows sorted by group, E groups, X columns in, Y columns out.
"""

from __future__ import annotations

import itertools
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional


def grouped_product(a: Tensor, b: Tensor, ends_E: Tensor) -> Tensor:
    """One product for each group of rows.

    Args:
        a: [R, X], and b [E, X, Y] -> [R, Y]; or a [X, R] and b [R, Y] -> [E, X, Y], for the gradients of weights.
        ends_E: int32, where each group's rows end; the last is R.
    """
    if _torch_serves(a.device, a.dtype, b.ndim):
        return functional.grouped_mm(a, b, offs=ends_E)
    return one_product_a_group(a, b, ends_E)


def one_product_a_group(a: Tensor, b: Tensor, ends_E: Tensor) -> Tensor:
    """`grouped_product` as a loop."""
    bounds = itertools.pairwise([0, *ends_E.tolist()])
    if b.ndim == 3:
        return torch.cat([a[start:end] @ b[e] for e, (start, end) in enumerate(bounds)])
    return torch.stack([a[:, start:end] @ b[start:end] for start, end in bounds])


@lru_cache
def _torch_serves(device: torch.device, dtype: torch.dtype, dims: int) -> bool:
    a = torch.zeros(16, 16, device=device, dtype=dtype)
    b = a if dims == 2 else torch.zeros(1, 16, 16, device=device, dtype=dtype)
    try:
        functional.grouped_mm(a, b, offs=torch.tensor([16], dtype=torch.int32, device=device))
    except (RuntimeError, NotImplementedError):
        return False
    return True
