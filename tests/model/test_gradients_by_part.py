"""Who learns from what: the KL trains the indexers and only them, the next-token loss the rest; runs repeat bit by bit."""

from __future__ import annotations

import pytest
import torch
from small_model import random_model, row_with_images, small_config, text_row

from model import PARTS, VisionLanguageModel, presets
from model.vlm import part_of


def _moved(model):
    return {part_of(name) for name, p in model.named_parameters() if p.grad is not None and bool(p.grad.abs().max() > 0)}


def _forward(model, mode, **options):
    row, pixels, grid = row_with_images([(4, 6), (4, 4)], text=20)
    return model(row, pixel_values=pixels, image_grid_thw=grid, attention=mode, labels=row, **options)


@pytest.mark.parametrize("reference", [False, True])
def test_kl_trains_only_the_indexers(model, reference):
    _forward(model, "sparse", reference=reference).indexer_loss.backward()
    assert _moved(model) == {"indexer"}
    assert {name for name, p in model.named_parameters() if p.grad is not None} == set(model.parts()["indexer"])


@pytest.mark.parametrize("mode", ["dense", "sparse"])
def test_next_token_loss_trains_everything_but_the_indexers(model, mode):
    _forward(model, mode).loss.backward()
    assert _moved(model) == set(PARTS) - {"indexer"}


@pytest.mark.parametrize("reference", [False, True])
def test_warmup_leaves_every_other_parameter_without_gradient(model, reference):
    output = _forward(model, "warmup", reference=reference)
    assert not output.loss.requires_grad
    output.combine(lambda_balance=0.1).backward()
    assert {name for name, p in model.named_parameters() if p.grad is not None} == set(model.parts()["indexer"])
    assert all(bool(p.grad.abs().max() > 0) for p in model.parts()["indexer"].values())


def test_stage_zero_trains_the_projector_alone(model):
    model.train_only("projector")
    _forward(model, "dense").combine().backward()
    assert _moved(model) == {"projector"}
    with pytest.raises(ValueError, match=r"unknown parts \['projektor'\]"):
        model.train_only("projektor")


def test_parts_are_disjoint_and_complete(model):
    names = [name for part in model.parts().values() for name in part]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())


def test_a_loss_without_gradient_is_refused(model):
    with torch.no_grad(), pytest.raises(ValueError, match="no loss carries a gradient"):
        _forward(model, "dense").combine()


def test_weights_come_from_the_seed_and_leave_the_global_state_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = VisionLanguageModel(small_config(), seed=3)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    second, other = VisionLanguageModel(small_config(), seed=3), VisionLanguageModel(small_config(), seed=4)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)


def test_ten_training_steps_repeat_bit_by_bit_and_learn():
    def train() -> list[float]:
        model = VisionLanguageModel(small_config(), seed=1)
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        losses = []
        for _ in range(10):
            optimizer.zero_grad()
            output = _forward(model, "sparse")
            output.combine(lambda_indexer=0.1, lambda_balance=0.01).backward()
            optimizer.step()
            losses.append(float(output.loss.detach()))
        return losses

    first = train()
    assert first == train()
    assert first[-1] < first[0] - 1.0


def test_warmup_teaches_the_indexer_where_attention_goes():
    # Random weights spread attention over everything: recall has little to gain here, the KL has all of it.
    model = random_model(small_config(top_k=8))
    row, ends = text_row(256), torch.tensor([0, 128, 256])
    before = model.indexer_recall(row, cu_seqlens=ends)
    optimizer = torch.optim.AdamW(model.parts()["indexer"].values(), lr=3e-3)
    divergences = []
    for _ in range(40):
        optimizer.zero_grad()
        output = model(row, cu_seqlens=ends, attention="warmup")
        output.combine().backward()
        optimizer.step()
        divergences.append(float(output.indexer_loss.detach()))
    after = model.indexer_recall(row, cu_seqlens=ends)
    assert divergences[-1] < 0.2 * divergences[0]
    assert after.mean > before.mean + 0.02
    assert before.queries == 240
    assert after.mean_all > after.mean
    assert before.mean < after.mean < after.attainable == pytest.approx(before.attainable)
    assert model.indexer_recall(row, cu_seqlens=ends, top_k=128).mean_all == pytest.approx(1.0)


def test_bf16_follows_fp32():
    row = text_row(60)
    model = VisionLanguageModel(presets.tiny(vocab_size=512, top_k=16, layers=2))
    for mode in ("dense", "sparse"):
        exact = float(model.float()(row, attention=mode, labels=row).loss.detach())
        output = model.bfloat16()(row, attention=mode, labels=row)
        output.combine().backward()
        assert abs(float(output.loss.detach()) - exact) < 0.05
