"""The parts of `dsa_gpu.py` that torch's own routines compute: mixture of experts, attention within images.

Decided here: experts' peer is the same layer with one product an expert; the tower's is what the model does where torch has
no packed routine, one batch for each run of equal images. Weights are those of one published layer, drawn anew.

Shapes: T tokens, M hidden size, P patches, H heads, D head dim.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from unittest import mock

import dsa_gpu_floors as floors
import torch
from dsa_gpu_clock import Clock, Table, by_backends
from torch import Tensor

from model.config import DecoderConfig, MoEConfig, VisionConfig
from model.kernels.grouped import one_product_a_group
from model.kernels.packed_dense import packed_dense
from model.moe import MoE
from model.vision import attend_in_batches

HIDDEN = DecoderConfig().hidden_size
PATCHES = {
    "frames of one size": [640] * 64,
    "pictures of many sizes": [100 + 60 * n for n in range(36)],
}

Layer = tuple[MoE, Tensor]
Images = tuple[Tensor, Tensor, Tensor, list[int]]


def layer(tokens: int, config: MoEConfig, hidden: int, seed: int, device: torch.device, dtype: torch.dtype) -> Layer:
    """A router with its experts, and tokens [T, M] that want a gradient."""
    generator = torch.Generator(device).manual_seed(seed)
    moe = MoE(config, hidden).to(device, dtype)
    for parameter in moe.parameters():
        torch.nn.init.normal_(parameter, std=hidden**-0.5, generator=generator)
    x_TM = torch.randn(tokens, hidden, generator=generator, device=device, dtype=dtype, requires_grad=True)
    return moe, x_TM


def routed(given: Layer) -> Tensor:
    """The layer's output [T, M]."""
    moe, x_TM = given
    return moe(x_TM)[0]


def taught(given: Layer) -> tuple[Tensor, ...]:
    """Forward, and the gradients of tokens and weights."""
    moe, x_TM = given
    out_TM = routed(given)
    return torch.autograd.grad(out_TM, (x_TM, *moe.parameters()), torch.ones_like(out_TM))


def one_by_one() -> mock._patch[object]:
    """Inside, experts are one product each."""
    return mock.patch("model.moe.grouped_product", one_product_a_group)


def experts(clock: Clock, table: Table, tokens: int, config: MoEConfig, hidden: int = HIDDEN) -> None:
    """Rows of the table: one layer of experts."""
    print(
        f"-- one layer of {config.experts} experts of {hidden} x {config.expert_size}, "
        f"{config.experts_per_token} a token, {tokens:,} tokens"
    )
    for call, label, backward in ((routed, "forward", False), (taught, "forward + backward", True)):
        work = floors.experts(tokens, config, hidden, backward=backward)

        def make(seed: int) -> Layer:
            return layer(tokens, config, hidden, seed, clock.device, torch.bfloat16)

        with one_by_one():
            table.full(f"{label}", {"one product an expert": clock.time(make, call)}, work)
        table.line(f"  grouped, {label}", clock.time(make, call), work)


def images(patches: list[int], config: VisionConfig, seed: int, device: torch.device, dtype: torch.dtype) -> Images:
    """Queries, keys, values [P, H, D] of these images."""
    generator = torch.Generator(device).manual_seed(seed)
    shape = (sum(patches), config.heads, config.head_dim)
    q, k, v = (torch.randn(*shape, generator=generator, device=device, dtype=dtype) for _ in range(3))
    return q, k, v, patches


def packed(given: Images) -> Tensor:
    """Attention within images by torch's packed routine: [P, H, D]."""
    q, k, v, patches = given
    bounds = torch.tensor([0, *itertools.accumulate(patches)], dtype=torch.int32, device=q.device)
    out = packed_dense(q, k, v, bounds, max(patches), causal=False)
    if out is None:
        raise RuntimeError("this torch has no packed attention for these tensors")
    return out


def in_batches(given: Images) -> Tensor:
    """The same, one batch for each run of equal images."""
    q, k, v, patches = given
    return attend_in_batches(q, k, v, [(len(list(run)), size) for size, run in itertools.groupby(patches)])


def vision(clock: Clock, table: Table, config: VisionConfig, mixes: dict[str, list[int]] = PATCHES) -> None:
    """Rows of the table: attention within images."""
    for name, patches in mixes.items():
        print(f"-- vision tower, one attention, {len(patches)} {name}, {sum(patches):,} patches")

        def make(seed: int, patches: list[int] = patches) -> Images:
            return images(patches, config, seed, clock.device, torch.bfloat16)

        work = floors.within_images(patches, config)
        table.full("batches of equal images", by_backends(clock, make, in_batches), work)
        table.line("  packed", clock.time(make, packed, peer=True), work)


def layer_checks(seed: int, device: torch.device, dtype: torch.dtype, tolerance: float) -> Iterator[tuple[str, str | None]]:
    """(what was checked, None or what is wrong): experts with gradients everywhere, packed images where torch has them."""
    config = MoEConfig(experts=16, experts_per_token=4, expert_size=64)
    given = layer(300, config, 128, seed, device, dtype)
    grouped = (routed(given), *taught(given))
    with one_by_one():
        single = (routed(given), *taught(given))
    yield "experts, gradients", _apart(grouped, single, tolerance)
    if device.type == "cuda":
        drawn = images([40, 1, 40, 700], VisionConfig(), seed, device, dtype)
        yield "attention within images", _apart((packed(drawn),), (in_batches(drawn),), tolerance)


def _apart(ours: tuple[Tensor, ...], expected: tuple[Tensor, ...], tolerance: float) -> str | None:
    for number, (a, b) in enumerate(zip(ours, expected, strict=True)):
        apart = float((a - b).detach().float().abs().max() / b.detach().float().abs().max().clamp_min(1e-20))
        if not apart <= tolerance:
            return f"tensor {number} differs by {apart:.1e} of its largest value"
    return None
