"""Inputs of `dsa_gpu.py`, and how alike the sets of neighbouring queries are in them.

Decided here: independent normal keys; indexer queries and gates that move slowly along the row plus independent noise.
`NOISE` 0.28 makes 16 neighbours select about 4 k distinct keys together when k is a 64th of the keys, as reported of real
scores (8K at 128K, k = 2048); counted on the CPU with 65,536 keys: 2.5 k at 0.2, 4.1 k at 0.3, 7 k at 0.5, 14 k with
noise alone ("worst": every query on its own).

Shapes: T tokens, H query heads, G groups, D head dim, J indexer heads, E indexer head dim.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from model.kernels.dispatch import DecodeBatch, PackedRow

NOISE = {"planted": 0.28, "worst": math.pi / 2}
STEP = 512


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """The published attention layer."""

    heads: int = 32
    groups: int = 4
    dim: int = 128
    index_heads: int = 16
    index_dim: int = 64
    top_k: int = 2048


def moving(tokens: int, shape: tuple[int, ...], noise: float, generator: torch.Generator, device: torch.device) -> Tensor:
    """[T, *shape] unit normal values: a direction that turns every `STEP` tokens, and noise by the sine of `noise`."""
    at = torch.arange(tokens, device=device) / STEP
    here = at.long()
    share = (at - here).view(-1, *[1] * len(shape))
    turns = torch.randn(int(tokens // STEP) + 2, *shape, generator=generator, device=device)
    slow = ((1 - share) * turns[here] + share * turns[here + 1]) / ((1 - share) ** 2 + share**2).sqrt()
    return math.cos(noise) * slow + math.sin(noise) * torch.randn(tokens, *shape, generator=generator, device=device)


def packed_row(
    lengths: list[int], geometry: Geometry, *, scores: str, seed: int, device: torch.device, dtype: torch.dtype,
    top_k: int | None, with_kl: bool = False, learns: bool = False,
) -> PackedRow:  # fmt: skip
    """A row of samples. `scores`: "planted" or "worst". `learns`: all six tensors want gradients."""
    generator = torch.Generator(device).manual_seed(seed)
    tokens, g = sum(lengths), geometry

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device, dtype=torch.float32).to(dtype)

    tensors = {"q": draw(tokens, g.heads, g.dim), "k": draw(tokens, g.groups, g.dim), "v": draw(tokens, g.groups, g.dim)}
    tensors["index_q"] = moving(tokens, (g.index_heads, g.index_dim), NOISE[scores], generator, device).to(dtype)
    tensors["index_k"] = draw(tokens, g.index_dim)
    tensors["index_w"] = (moving(tokens, (g.index_heads,), NOISE[scores], generator, device) * g.index_dim**-0.5).to(dtype)
    bounds = torch.tensor([0, *lengths], device=device).cumsum(0).to(torch.int32)
    return PackedRow(
        **{name: tensor.requires_grad_(learns) for name, tensor in tensors.items()},
        cu_seqlens=bounds, longest=max(lengths), top_k=top_k, with_kl=with_kl,
    )  # fmt: skip


def decode_batch(lengths: list[int], geometry: Geometry, *, seed: int, device: torch.device, dtype: torch.dtype) -> DecodeBatch:
    """One new token for each of these sequences."""
    generator = torch.Generator(device).manual_seed(seed)
    size, g = len(lengths), geometry

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device, dtype=torch.float32).to(dtype)

    return DecodeBatch(
        q=draw(size, g.heads, g.dim), k=[draw(n, g.groups, g.dim) for n in lengths],
        v=[draw(n, g.groups, g.dim) for n in lengths], index_q=draw(size, g.index_heads, g.index_dim),
        index_k=[draw(n, g.index_dim) for n in lengths], index_w=draw(size, g.index_heads), top_k=g.top_k,
    )  # fmt: skip


def distinct_of_neighbours(selected_TK: Tensor, *, neighbours: int = 16, places: int = 64) -> float:
    """Distinct keys that neighbouring queries select together, as multiples of k: mean over places of the last half."""
    tokens, top_k = selected_TK.shape
    firsts = torch.linspace(tokens // 2, tokens - neighbours, places).long().tolist()
    counts = [selected_TK[first : first + neighbours].unique().numel() for first in firsts]
    return sum(counts) / len(counts) / top_k
