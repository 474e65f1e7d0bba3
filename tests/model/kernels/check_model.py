"""The whole model by kernels equals the whole model without them: losses, gradients, sets, generation."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from model import VisionLanguageModel, presets
from model.generation import generate
from model.kernels.dispatch import using

BOUNDS = torch.tensor([0, 21, 22, 48])


@pytest.fixture(scope="module")
def model() -> VisionLanguageModel:
    config = presets.tiny(vocab_size=512, top_k=8, hidden_size=64, layers=1)
    indexer = dataclasses.replace(config.decoder.indexer, heads=2, head_dim=32)
    return VisionLanguageModel(
        dataclasses.replace(config, vision=None, decoder=dataclasses.replace(config.decoder, indexer=indexer)), seed=3
    )


def _row() -> torch.Tensor:
    return torch.randint(0, 500, (48,), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("mode", ["sparse", "warmup"])
def test_a_packed_row(model, mode):
    def run(path):
        model.zero_grad(set_to_none=True)
        with using(path):
            output = model(_row(), cu_seqlens=BOUNDS, attention=mode, labels=_row(), keep_selected=True)
            loss = output.indexer_loss if mode == "warmup" else output.loss + 0.3 * output.indexer_loss
            loss.backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        return loss.detach(), gradients, output.selected

    (loss, gradients, selected), (other_loss, others, other_selected) = run("triton"), run("plain")
    torch.testing.assert_close(loss, other_loss)
    assert gradients.keys() == others.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, others[name], rtol=1e-3, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")
    if mode == "sparse":
        for ours, plain in zip(selected[0], other_selected[0], strict=True):
            assert torch.equal(ours, plain)


def test_generation(model):
    prompts = list(_row().split([30, 1, 17]))
    with using("triton"):
        written = generate(model, prompts, max_new_tokens=4)
    with using("plain"):
        expected = generate(model, prompts, max_new_tokens=4)
    assert [tokens.tolist() for tokens in written] == [tokens.tolist() for tokens in expected]
