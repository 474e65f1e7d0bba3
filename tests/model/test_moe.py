"""Balancing: the loss against transformers', the bias moves the choice and not the weights."""

from __future__ import annotations

import dataclasses

import torch
from small_model import random_model, small_config, text_row
from transformers.models.qwen3_moe.modeling_qwen3_moe import load_balancing_loss_func

from model.config import MoEConfig
from model.moe import MoE


def _moe(balance: str) -> MoE:
    moe = MoE(MoEConfig(experts=8, experts_per_token=2, expert_size=16, balance=balance), 32)
    generator = torch.Generator().manual_seed(0)
    for parameter in moe.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    return moe


def test_balancing_loss_is_transformers_over_experts_per_token():
    moe, x = _moe("loss"), torch.randn(50, 32, generator=torch.Generator().manual_seed(1))
    _, routing = moe(x)
    theirs = load_balancing_loss_func((x @ moe.gate.weight.T,), num_experts=8, top_k=2)
    torch.testing.assert_close(routing.balance_loss, theirs / 2)
    assert int(routing.load.sum()) == 100


def test_bias_moves_the_choice_and_not_the_weights():
    moe, x = _moe("bias"), torch.randn(50, 32, generator=torch.Generator().manual_seed(1))
    moe.gate.selection_bias[3] = 10.0
    probabilities, weights, chosen = moe.gate(x)
    assert bool((chosen == 3).any(-1).all())
    picked = probabilities.gather(1, chosen)
    torch.testing.assert_close(weights, picked / picked.sum(-1, keepdim=True))


def test_bias_updates_even_out_the_load():
    config = small_config()
    moe = dataclasses.replace(config.decoder.moe, balance="bias")
    model = random_model(dataclasses.replace(config, decoder=dataclasses.replace(config.decoder, moe=moe)))
    row = text_row(400)
    first = model(row, need_logits=False).router.load
    for _ in range(60):
        load = model(row, need_logits=False).router.load
        model.update_router_bias(load, rate=0.01)
    assert load.float().std(1).mean() < 0.5 * first.float().std(1).mean()
