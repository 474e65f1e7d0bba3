"""Norm, rotation and experts write their own gradients: against finite differences, plain formulas and partial training."""

from __future__ import annotations

import torch
from torch.autograd import gradcheck
from torch.nn.functional import silu

from model.config import MoEConfig
from model.moe import MoE
from model.norms import RMSNorm
from model.rope import rotate


def _drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()


def test_rmsnorm_and_its_gradients():
    norm, x = RMSNorm(6, 1e-6).double(), _drawn(5, 3, 6)
    with torch.no_grad():
        norm.weight.copy_(_drawn(6, seed=1))
    plain = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * norm.weight
    torch.testing.assert_close(norm(x), plain)
    assert gradcheck(lambda x, weight: torch.func.functional_call(norm, {"weight": weight}, (x,)), (x, norm.weight))


def test_rmsnorm_takes_rows_that_lie_apart():
    norm, x = RMSNorm(4, 1e-6), torch.randn(5, 9, generator=torch.Generator().manual_seed(0))
    apart = x[:, :8].view(5, 2, 4)
    assert torch.equal(norm(apart), norm(apart.contiguous()))


def test_rotation_and_its_gradient():
    x, angles = _drawn(5, 3, 8), _drawn(5, 4, seed=1).detach()
    cos, sin = angles.cos(), angles.sin()
    first, second = x.chunk(2, dim=-1)
    plain = torch.cat((first * cos[:, None] - second * sin[:, None], second * cos[:, None] + first * sin[:, None]), dim=-1)
    torch.testing.assert_close(rotate(x, cos, sin), plain)
    assert gradcheck(lambda x: rotate(x, cos, sin), (x,))


def _moe(*, never: int) -> tuple[MoE, torch.Tensor]:
    """Four experts, two a token, one of them never chosen."""
    moe = MoE(MoEConfig(experts=4, experts_per_token=2, expert_size=8), 8)
    x = torch.cat((_drawn(12, 7).float(), torch.ones(12, 1)), dim=1).detach().requires_grad_()
    with torch.no_grad():
        for number, parameter in enumerate(moe.parameters()):
            parameter.copy_(0.5 * _drawn(*parameter.shape, seed=number + 1))
        moe.gate.weight[never, -1] = -30.0
    return moe, x


def _by_loop(moe: MoE, x: torch.Tensor) -> torch.Tensor:
    _, weights, chosen = moe.gate(x)
    out = torch.zeros_like(x)
    for token in range(len(x)):
        for weight, expert in zip(weights[token], chosen[token], strict=True):
            gate, up = (x[token] @ moe.experts.gate_up_proj[expert]).chunk(2)
            out[token] = out[token] + weight * ((silu(gate) * up) @ moe.experts.down_proj[expert])
    return out


def test_experts_equal_a_loop_over_tokens_though_one_is_never_chosen():
    moe, x = _moe(never=2)
    out, routing = moe(x)
    assert int(routing.load[2]) == 0
    wanted = _by_loop(moe, x)
    torch.testing.assert_close(out, wanted, atol=1e-5, rtol=1e-5)
    slope = _drawn(12, 8, seed=9).float().detach()
    inputs = [x, *moe.parameters()]
    for mine, plain in zip(torch.autograd.grad(out, inputs, slope), torch.autograd.grad(wanted, inputs, slope), strict=True):
        torch.testing.assert_close(mine, plain, atol=1e-5, rtol=1e-5)


def test_frozen_experts_still_pass_the_gradient_on():
    moe, x = _moe(never=0)
    (wanted,) = torch.autograd.grad(moe(x)[0].square().sum(), x)
    moe.requires_grad_(False)
    (got,) = torch.autograd.grad(moe(x)[0].square().sum(), x)
    assert torch.equal(got, wanted)
