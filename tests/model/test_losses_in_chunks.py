"""The chunked next-token loss equals cross-entropy on whole logits, and never looks across a sample's end."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from model import losses
from model.losses import LanguageHead, shifted_targets


def test_value_and_gradients_equal_cross_entropy(monkeypatch):
    monkeypatch.setattr(losses, "CHUNK_ELEMENTS", 64 * 50)
    generator = torch.Generator().manual_seed(0)
    head = LanguageHead(16, 50, bias=False)
    hidden = torch.randn(333, 16, generator=generator, requires_grad=True)
    targets = torch.randint(0, 50, (333,), generator=generator)
    targets[::7] = -100
    expected = cross_entropy(hidden @ head.weight.T, targets, reduction="sum")
    wanted = torch.autograd.grad(expected * 0.3, [hidden, head.weight])
    total, each = head(hidden, targets)
    got = torch.autograd.grad(total * 0.3, [hidden, head.weight])
    torch.testing.assert_close(total, expected)
    kept = targets != -100
    torch.testing.assert_close(each, cross_entropy((hidden @ head.weight.T)[kept], targets[kept], reduction="none"))
    assert not each.requires_grad
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_losses_are_told_apart_by_sample():
    targets = torch.tensor([3, -100, 5, 7, -100, 2, 1, -100])
    sums, counts = losses.by_sample(torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0]), targets, ((0, 3), (3, 5), (5, 8)))
    assert sums.tolist() == [3.0, 4.0, 24.0]
    assert counts.tolist() == [2, 1, 2]


def test_targets_stop_at_the_end_of_a_sample():
    labels = torch.tensor([1, 2, 3, 4, -100, 6])
    assert shifted_targets(labels, ((0, 3), (3, 6))).tolist() == [2, 3, -100, -100, 6, -100]


def test_a_label_outside_the_vocabulary_is_named():
    with pytest.raises(ValueError, match=r"lie in \[0, 50\), got values in \[3, 50\]"):
        LanguageHead(16, 50, bias=False)(torch.zeros(2, 16), torch.tensor([3, 50]))


def test_no_target_gives_zero_and_no_nan(model):
    row = torch.arange(20)
    output = model(row, labels=torch.full_like(row, -100))
    assert output.token_count == 0
    assert float(output.loss.detach()) == 0.0
