"""A packed row equals its samples one by one, with and without images, in every mode; bad rows are named."""

from __future__ import annotations

import pytest
import torch
from small_model import row_with_images, text_row


@pytest.mark.parametrize("mode", ["dense", "warmup", "sparse"])
@pytest.mark.parametrize("grids", [[[], []], [[(4, 6)], [(2, 2), (8, 4)]], [[], [(4, 4)]]], ids=["text", "images", "mixed"])
def test_packed_equals_separate(model, mode, grids):
    samples = [row_with_images(part, text=18, seed=number) for number, part in enumerate(grids)]
    separate = [
        model(row, pixel_values=pixels if len(grid) else None, image_grid_thw=grid if len(grid) else None, attention=mode,
              labels=row, need_logits=True)
        for row, pixels, grid in samples
    ]  # fmt: skip
    rows, pixels, grid = zip(*samples, strict=True)
    ends = torch.tensor([0, *map(len, rows)]).cumsum(0)
    has_images = sum(map(len, grid))
    packed = model(
        torch.cat(rows), None, ends, torch.cat(pixels) if has_images else None,
        torch.cat([g for g in grid if len(g)]) if has_images else None, mode, torch.cat(rows), need_logits=True,
    )  # fmt: skip
    torch.testing.assert_close(packed.logits, torch.cat([one.logits for one in separate]), atol=2e-5, rtol=2e-5)
    assert packed.token_count == sum(one.token_count for one in separate)
    torch.testing.assert_close(packed.token_losses_sum, torch.stack([one.token_losses_sum for one in separate]).sum())
    if mode != "dense":
        kls = [one.indexer_loss * len(row) for one, row in zip(separate, rows, strict=True)]
        torch.testing.assert_close(packed.indexer_loss, torch.stack(kls).sum() / len(torch.cat(rows)))


@pytest.mark.parametrize("mode", ["dense", "sparse"])
def test_a_batch_equals_its_rows(model, mode):
    batch = torch.stack([text_row(40, seed) for seed in range(3)])
    together = model(batch, attention=mode)
    assert together.logits.shape == (3, 40, 512)
    for one, row in zip(together.logits, batch, strict=True):
        torch.testing.assert_close(one, model(row, attention=mode).logits, atol=1e-5, rtol=1e-5)


def test_no_token_reads_another_sample_or_the_future(model):
    row, cu = text_row(80), torch.tensor([0, 30, 80], dtype=torch.int32)
    for mode in ("dense", "sparse"):
        before = model(row, cu_seqlens=cu, attention=mode).logits
        changed = row.clone()
        changed[60:] = 7
        after = model(changed, cu_seqlens=cu, attention=mode).logits
        torch.testing.assert_close(before[:60], after[:60], atol=1e-5, rtol=1e-5)
        changed = row.clone()
        changed[:30] = 7
        after = model(changed, cu_seqlens=cu, attention=mode).logits
        torch.testing.assert_close(before[30:], after[30:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m(torch.arange(5), cu_seqlens=torch.tensor([0, 3])), r"rise from 0 to the 5 tokens .* \[0, 3\]"),
        (lambda m: m(torch.arange(5), cu_seqlens=torch.tensor([0, 3, 3, 5])), r"\[0, 3, 3, 5\]"),
        (lambda m: m(torch.zeros(2, 5, dtype=torch.int64), cu_seqlens=torch.tensor([0, 10])), "one packed row"),
        (lambda m: m(torch.arange(5), attention="spares"), "got 'spares'"),
        (lambda m: m(torch.arange(5), labels=torch.arange(4)), r"labels have shape \(4,\), input_ids \(5,\)"),
        (lambda m: m(torch.arange(5), torch.zeros(2, 5)), r"position_ids must be .* got \(2, 5\)"),
        (lambda m: m(torch.arange(5), pixel_values=torch.zeros(4, 588)), "given together"),
    ],
)
def test_a_row_that_does_not_fit_is_named(model, call, message):
    with pytest.raises(ValueError, match=message):
        call(model)
