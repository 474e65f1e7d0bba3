"""Prefill then decode equals one full forward, token by token; batches, stops and sampling."""

from __future__ import annotations

import pytest
import torch
from small_model import row_with_images, text_row

from model import mrope_positions
from model.cache import LayerCaches
from model.generation import GenerationConfig


@pytest.mark.parametrize("mode", ["dense", "sparse"])
def test_prefill_then_decode_equals_one_forward(model, mode):
    row, pixels, grid = row_with_images([(4, 6), (8, 4)], text=20)
    whole = model(row, pixel_values=pixels, image_grid_thw=grid, attention=mode).logits
    start = len(row) - 15
    positions = mrope_positions(row, grid, image_token_id=511)
    caches = [LayerCaches(1) for _ in range(2)]
    with torch.no_grad():
        first = model(row[:start], positions[:, :start], None, pixels, grid, mode, caches=caches).logits
        steps = [
            model(row[at : at + 1], positions[:, at : at + 1], attention=mode, caches=caches).logits
            for at in range(start, len(row))
        ]
    torch.testing.assert_close(torch.cat([first, *steps]), whole, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("mode", ["dense", "sparse"])
def test_greedy_generation_equals_repeated_full_forwards(model, mode):
    row, pixels, grid = row_with_images([(4, 6)], text=16)
    tokens = row
    with torch.no_grad():
        for _ in range(12):
            logits = model(tokens, pixel_values=pixels, image_grid_thw=grid, attention=mode).logits[-1].clone()
            logits[511] = -torch.inf
            tokens = torch.cat((tokens, logits.argmax()[None]))
    (written,) = model.generate(row, pixel_values=pixels, image_grid_thw=grid, max_new_tokens=12, attention=mode)
    assert torch.equal(written, tokens[len(row) :])


def test_a_batch_of_unequal_prompts_equals_each_alone(model):
    prompts = [text_row(length, seed) for seed, length in enumerate((25, 60, 7))]
    for settings in ({}, {"temperature": 0.8, "top_p": 0.9, "seed": 5}):
        together = model.generate(prompts, max_new_tokens=8, **settings)
        assert [len(one) for one in together] == [8, 8, 8]
        assert torch.equal(together[0], model.generate(prompts[0], max_new_tokens=8, **settings)[0])


def test_stop_ids_end_a_sample_and_are_kept(model):
    prompts = [text_row(25, 0), text_row(30, 1)]
    free = model.generate(prompts, max_new_tokens=10)
    stop = int(free[0][3])
    stopped = model.generate(prompts, max_new_tokens=10, stop_ids=(stop,))
    cut = free[0].tolist().index(stop) + 1
    assert stopped[0].tolist() == free[0][:cut].tolist()
    expected = free[1].tolist()
    assert stopped[1].tolist() == (expected[: expected.index(stop) + 1] if stop in expected else expected)


def test_sampling_repeats_with_its_seed(model):
    first = model.generate(text_row(20), max_new_tokens=12, temperature=1.0, seed=1)[0]
    torch.manual_seed(99)
    assert torch.equal(first, model.generate(text_row(20), max_new_tokens=12, temperature=1.0, seed=1)[0])
    assert not torch.equal(first, model.generate(text_row(20), max_new_tokens=12, temperature=1.0, seed=2)[0])


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match=r"0 < top_p <= 1, got 0.0 and 0"):
        GenerationConfig(top_p=0)
