"""The least a GPU could take: the larger of bytes over bandwidth and operations over rate, for each measured call.

Counted here is what the answer needs, not what a kernel does: each input read once, each output written once, selected
pairs only. A multiplication and an addition are two operations.

Shapes: T tokens of one sample, K selected keys.
"""

from __future__ import annotations

from dataclasses import dataclass

from dsa_gpu_inputs import Geometry

from model.config import MoEConfig, VisionConfig

HALF, SINGLE = 2, 4


@dataclass(frozen=True)
class Device:
    """Published peaks: bytes a second, and dense bf16 operations a second."""

    bandwidth: float
    rate: float


# From NVIDIA's data sheets (SXM, without sparsity).
DEVICES = {"H100": Device(3.35e12, 989e12), "H200": Device(4.8e12, 989e12)}


@dataclass(frozen=True)
class Work:
    """Bytes moved and operations done, at least."""

    moved: float
    operations: float

    def __add__(self, other: Work) -> Work:
        return Work(self.moved + other.moved, self.operations + other.operations)

    def seconds(self, device: Device) -> float:
        return max(self.moved / device.bandwidth, self.operations / device.rate)


def device_named(name: str) -> Device | None:
    """The peaks of a device, by its name; None when they are not known here."""
    return next((peaks for word, peaks in DEVICES.items() if word in name), None)


def pairs(tokens: int, top_k: int | None = None) -> float:
    """Query-key pairs of causal attention, or of each query with its `top_k` keys at most."""
    whole = tokens * (tokens + 1) / 2
    if top_k is None or tokens <= top_k:
        return whole
    return top_k * (top_k + 1) / 2 + (tokens - top_k) * top_k


def full_forward(tokens: int, g: Geometry) -> Work:
    """Logits and mixed values over all pairs."""
    rows = 2 * g.heads + 2 * g.groups
    return Work(tokens * rows * g.dim * HALF, pairs(tokens) * 4 * g.heads * g.dim)


def full_backward(tokens: int, g: Geometry) -> Work:
    """Five products where forward has two: the logits again, and the gradients of values, probabilities, queries, keys."""
    rows = 4 * g.heads + 4 * g.groups
    return Work(tokens * rows * g.dim * HALF, pairs(tokens) * 10 * g.heads * g.dim)


def selection(tokens: int, g: Geometry) -> Work:
    """A score for each pair of a query that sees more than k keys; queries that see fewer need none."""
    scored = pairs(tokens) - pairs(min(tokens, g.top_k))
    moved = tokens * (g.index_heads + 1) * g.index_dim * HALF + tokens * g.index_heads * HALF
    return Work(moved + tokens * min(tokens, g.top_k) * SINGLE, scored * 2 * g.index_heads * g.index_dim)


def sparse_forward(tokens: int, g: Geometry) -> Work:
    moved = full_forward(tokens, g).moved + tokens * min(tokens, g.top_k) * SINGLE
    return Work(moved, pairs(tokens, g.top_k) * 4 * g.heads * g.dim)


def sparse_training(tokens: int, g: Geometry) -> Work:
    """Forward with the KL and backward: seven products of attention; the KL needs the scores of the selected pairs and two
    products for its gradient."""
    moved = sparse_forward(tokens, g).moved + full_backward(tokens, g).moved + tokens * min(tokens, g.top_k) * SINGLE
    chosen = pairs(tokens, g.top_k)
    return Work(moved, chosen * 14 * g.heads * g.dim + chosen * 6 * g.index_heads * g.index_dim)


def warmup_forward(tokens: int, g: Geometry, *, with_gradient: bool) -> Work:
    """Dense attention, the probabilities once more against the scores, and the two products of the KL's gradient."""
    index = (6 if with_gradient else 2) * g.index_heads * g.index_dim
    moved = full_forward(tokens, g).moved + tokens * (g.index_heads + 1) * g.index_dim * HALF * (2 if with_gradient else 1)
    return Work(moved, pairs(tokens) * (6 * g.heads * g.dim + index))


def full_decode(lengths: list[int], g: Geometry) -> Work:
    seen = sum(lengths)
    return Work(seen * 2 * g.groups * g.dim * HALF, seen * 4 * g.heads * g.dim)


def sparse_decode(lengths: list[int], g: Geometry) -> Work:
    """All indexer keys, and the chosen keys and values."""
    chosen = sum(min(length, g.top_k) for length in lengths)
    moved = sum(lengths) * g.index_dim * HALF + chosen * 2 * g.groups * g.dim * HALF
    return Work(moved, sum(lengths) * 2 * g.index_heads * g.index_dim + chosen * 4 * g.heads * g.dim)


def experts(tokens: int, config: MoEConfig, hidden: int, *, backward: bool) -> Work:
    """Three products a choice, three times that with the gradients of tokens and weights; every weight once, and its
    gradient written; tokens in and out."""
    operations = tokens * config.experts_per_token * 3 * 2 * hidden * config.expert_size
    weights = config.experts * 3 * hidden * config.expert_size
    if backward:
        return Work((2 * weights + 4 * tokens * hidden) * HALF, 3 * operations)
    return Work((weights + 2 * tokens * hidden) * HALF, operations)


def within_images(patches: list[int], config: VisionConfig) -> Work:
    """Every pair of an image's patches; queries, keys, values and results once."""
    pairs_ = sum(number * number for number in patches)
    return Work(sum(patches) * 4 * config.hidden_size * HALF, pairs_ * 4 * config.hidden_size)
