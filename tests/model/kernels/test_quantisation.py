"""Eight bits: the turn changes no product, scales give rows back, most of a set stays."""

from __future__ import annotations

import pytest
import torch

from model.indexer import index_scores
from model.kernels.dispatch import index_precision, using
from model.kernels.quantisation import hadamard, quantised, quantised_scores


def _draw(queries=64, keys=512, heads=4, dim=32):
    generator = torch.Generator().manual_seed(1)
    shapes = ((queries, heads, dim), (keys, dim), (queries, heads))
    return [torch.randn(*shape, generator=generator) for shape in shapes]


def test_the_turn_is_orthogonal_and_wants_a_power_of_two():
    torch.testing.assert_close(hadamard(64) @ hadamard(64).T, torch.eye(64))
    with pytest.raises(ValueError, match="power of two of rows, got 24"):
        hadamard(24)


def test_a_row_comes_back_within_the_steps_of_its_type():
    (rows, *_) = _draw()
    eight, scale = quantised(rows, turn=False)
    assert eight.float().abs().amax() == 448
    error = (eight.float() * scale.unsqueeze(-1) - rows).abs()
    assert (error <= rows.abs() / 16 + scale.unsqueeze(-1) * 2**-9).all()
    zero, scale = quantised(torch.zeros(2, 16))
    assert not zero.float().any()
    assert scale.isfinite().all()


def test_most_of_a_set_stays():
    q, k, w = _draw()
    exact = index_scores(q, k, w).topk(64).indices
    for turn in (True, False):
        ours = quantised_scores(q, k, w, turn=turn).topk(64).indices
        kept = (exact.unsqueeze(-1) == ours.unsqueeze(-2)).any(-1).float().mean()
        assert 0.9 < kept < 1


def test_eight_bits_are_only_used_when_asked_for(monkeypatch):
    monkeypatch.delenv("LONGREEL_INDEX_PRECISION", raising=False)
    assert index_precision() == "exact"
    with using("plain", index_precision="fp8"):
        assert index_precision() == "fp8"
    monkeypatch.setenv("LONGREEL_INDEX_PRECISION", "int4")
    with pytest.raises(ValueError, match="LONGREEL_INDEX_PRECISION must be 'exact' or 'fp8', got 'int4'"):
        index_precision()
