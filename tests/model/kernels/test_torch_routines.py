"""Torch's own routines behind the model: called rightly where they serve, and the ways around them equal."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional

from model import presets
from model.config import ModelConfig
from model.kernels import grouped, packed_dense
from model.vlm import VisionLanguageModel


def _varlen(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, window_size=(-1, -1), enable_gqa=False):
    """What `torch.nn.attention.varlen.varlen_attn` does on a GPU."""
    assert cu_seq_q.dtype == torch.int32
    assert max_q == int(cu_seq_q.diff().max())
    outs = []
    for start, end in itertools.pairwise(cu_seq_q.tolist()):
        q, k, v = (x[start:end].transpose(0, 1) for x in (query, key, value))
        outs.append(functional.scaled_dot_product_attention(q, k, v, is_causal=window_size == (-1, 0), enable_gqa=enable_gqa))
    return torch.cat([out.transpose(0, 1) for out in outs])


def _model() -> VisionLanguageModel:
    config: ModelConfig = presets.tiny(vocab_size=512, top_k=8, hidden_size=64, layers=2)
    return VisionLanguageModel(config, seed=1)


def test_packed_attention_serves_images_and_dense_rows_with_the_same_result(monkeypatch):
    model = _model()
    grids = torch.tensor([[1, 4, 6], [2, 4, 6], [1, 2, 2]])
    patches = torch.randn(76, 588, generator=torch.Generator().manual_seed(1))
    row, bounds = torch.arange(40) + 7, torch.tensor([0, 11, 12, 40])
    features, logits = model.encode_images(patches, grids), model(row, cu_seqlens=bounds).logits

    calls = []
    monkeypatch.setattr(packed_dense, "reason_not", lambda *_, causal: calls.append(causal))
    monkeypatch.setattr(packed_dense, "_routine", lambda: (_varlen, frozenset(("window_size", "enable_gqa"))))
    torch.testing.assert_close(model.encode_images(patches, grids), features)
    assert calls
    assert not any(calls)
    torch.testing.assert_close(model(row, cu_seqlens=bounds).logits, logits)
    assert any(calls)


def test_what_torch_cannot_pack_says_why():
    q, k = torch.zeros(3, 4, 72), torch.zeros(3, 2, 72)
    half, options = q.bfloat16(), frozenset(("enable_gqa", "window_size"))
    assert "on the cpu" in packed_dense.reason_not(q, k, causal=False)
    assert "no torch.nn.attention.varlen" in packed_dense.reason_not_shape(half, k, causal=False, options=frozenset())
    assert "torch.float32" in packed_dense.reason_not_shape(q, k, causal=False, options=options)
    assert "4 query heads share 2" in packed_dense.reason_not_shape(half, k, causal=False, options=frozenset(("scale",)))
    assert "cannot be causal" in packed_dense.reason_not_shape(half, half, causal=True, options=frozenset(("scale",)))
    assert "head dim is 20" in packed_dense.reason_not_shape(half[..., :20], half, causal=True, options=options)
    assert packed_dense.reason_not_shape(half, k, causal=True, options=options) is None


@pytest.mark.parametrize("ends", [[5, 5, 12, 16], [0, 16, 16, 16]])
def test_one_product_a_group_equals_torchs_grouped_product(ends):
    generator = torch.Generator().manual_seed(2)
    rows, weights = torch.randn(16, 8, generator=generator), torch.randn(4, 8, 24, generator=generator)
    others, ends_E = torch.randn(16, 32, generator=generator), torch.tensor(ends, dtype=torch.int32)
    for a, b in ((rows, weights), (rows.T, others)):
        torch.testing.assert_close(grouped.one_product_a_group(a, b, ends_E), grouped.grouped_product(a, b, ends_E))


def test_where_torch_has_no_grouped_product_the_loop_serves(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("not here")

    grouped._torch_serves.cache_clear()
    monkeypatch.setattr(functional, "grouped_mm", refuse)
    ends = torch.tensor([3, 4], dtype=torch.int32)
    a, b = torch.ones(4, 8), torch.stack((torch.ones(8, 8), 2 * torch.ones(8, 8)))
    assert grouped.grouped_product(a, b, ends)[:, 0].tolist() == [8, 8, 8, 16]
    grouped._torch_serves.cache_clear()
