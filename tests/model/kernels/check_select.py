"""The selection kernels give the sets of the reference, ties and all, in a row of any samples."""

from __future__ import annotations

import itertools

import pytest
import torch

from model.dsa_reference import causal_mask, select
from model.indexer import index_scores
from model.kernels import index_selection
from model.kernels.dispatch import KernelRefusedError, PackedRow, kernel, using
from model.kernels.quantisation import quantised_indexer, quantised_scores
from model.kernels.row_blocks import whole_samples


def _draw(tokens, heads, dim, seed, kind="floats"):
    """Indexer queries, keys, gates. "ties": small integers, whose scores are exact and often equal. "zeros": nearly all 0."""
    generator = torch.Generator().manual_seed(seed)
    q, k, w = (torch.randn(*shape, generator=generator) for shape in ((tokens, heads, dim), (tokens, dim), (tokens, heads)))
    if kind != "floats":
        q, k, w = q.round(), k.round(), w.round()
    if kind == "zeros":
        q, k = -q.abs(), k.abs()
        k[::9] *= -1
    return q, k, w


def _bounds(lengths):
    return torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32)


def _reference(q, k, w, lengths, top_k):
    expected = torch.full((sum(lengths), min(top_k, max(lengths))), -1, dtype=torch.int32)
    for start, end in itertools.pairwise(_bounds(lengths).tolist()):
        scores = index_scores(q[start:end].float(), k[start:end].float(), w[start:end].float())
        for t, row in enumerate(select(scores, causal_mask(end - start, end - start, q.device), top_k)):
            found = row.nonzero().squeeze(1) + start
            expected[start + t, : len(found)] = found.int()
    return expected


def _select(q, k, w, lengths, top_k, **options):
    options = {"tile": (16, 32), "rows": 16, **options}
    return index_selection.select(q, k, w, whole_samples(_bounds(lengths)), longest=max(lengths), top_k=top_k, **options)


@pytest.mark.parametrize("kind", ["floats", "ties", "zeros"])
def test_sets_of_a_ragged_row_equal_the_reference(kind):
    lengths = [37, 1, 22, 1]
    q, k, w = _draw(61, 3, 16, 1, kind)
    for top_k in (8, 64):
        assert torch.equal(_select(q, k, w, lengths, top_k), _reference(q, k, w, lengths, top_k))


@pytest.mark.parametrize("kind", ["floats", "zeros"])
def test_sets_found_with_a_sample_and_in_chunks_equal_the_reference_twice(kind):
    lengths = [100, 11]
    q, k, w = _draw(111, 2, 16, 2, kind)
    first = _select(q, k, w, lengths, 4, sample=32, scratch_bytes=48 * 8 * 64)
    assert torch.equal(first, _reference(q, k, w, lengths, 4))
    assert torch.equal(first, _select(q, k, w, lengths, 4, sample=32, scratch_bytes=1))


@pytest.mark.parametrize(("top_k", "sampled", "rest"), [(20, 2.0, 1.0), (4, 1.0, 2.0)], ids=["too few", "too many"])
def test_a_guess_from_a_misleading_sample_costs_no_key(top_k, sampled, rest):
    """The keys the last tile samples all score higher, or all lower, than every other key."""
    cells = torch.arange(16)
    shifts = ((cells * 2654435761) % 2**32 >> 8) % 7
    noise = torch.rand(112, generator=torch.Generator().manual_seed(3))
    k = torch.zeros(112, 16)
    k[:, 0] = rest + 0.5 * noise
    k[cells * 7 + shifts, 0] += sampled - rest
    q, w = torch.zeros(112, 1, 16), torch.ones(112, 1)
    q[:, 0, 0] = 1
    got = _select(q, k, w, [112], top_k, sample=16)
    assert torch.equal(got[96:], _reference(q, k, w, [112], top_k)[96:])


def test_bfloat16_with_the_published_indexer():
    q, k, w = (x.bfloat16() for x in _draw(50, 16, 64, 4, "ties"))
    assert torch.equal(_select(q, k, w, [50], 16), _reference(q, k, w, [50], 16))


def test_eight_bits_give_the_sets_of_the_quantised_scores():
    q, k, w = _draw(28, 4, 32, 6)
    q8, k8, gates, k_scale = quantised_indexer(q, k, w)
    got = _select(q8, k8, gates, [28], 12, k_scale_S=k_scale)
    chosen = select(quantised_scores(q, k, w), causal_mask(28, 28, q.device), 12)
    for t, row in enumerate(chosen):
        assert got[t, : min(12, t + 1)].tolist() == row.nonzero().squeeze(1).tolist()
    exact = _reference(q, k, w, [28], 12)
    assert not torch.equal(got, exact)
    row = PackedRow(
        q=q, k=k, v=k, index_q=q, index_k=k, index_w=w, cu_seqlens=_bounds([28]), longest=28, top_k=12
    )  # fmt: skip
    with using("triton", index_precision="fp8"):
        assert torch.equal(index_selection.serve(row), got)


def test_queries_that_are_the_last_of_their_keys_find_what_the_whole_row_finds():
    """As on a rank that holds tokens 8 to 20 and 40 to 61 of a row of two samples, and all keys."""
    lengths = [37, 24]
    q, k, w = _draw(61, 3, 16, 7, "ties")
    own = torch.cat((torch.arange(8, 20), torch.arange(40, 61)))
    segments = torch.tensor([[0, 12, 0, 20], [12, 33, 37, 61]], dtype=torch.int32)
    got = index_selection.select(q[own], k, w[own], segments, longest=24, top_k=6, tile=(16, 32), rows=16)
    assert torch.equal(got, _reference(q, k, w, lengths, 6)[own])


def test_what_cannot_be_served_says_why():
    q, k, w = _draw(4, 2, 24, 5)
    row = PackedRow(q=q, k=k, v=k, index_q=q, index_k=k, index_w=w, cu_seqlens=_bounds([4]), longest=4, top_k=2)
    with (
        using("triton"),
        pytest.raises(KernelRefusedError, match="head dim is 24, kernels take 16, 32, 64 and 128"),
    ):
        kernel("select", row)
    assert "top_k is 5000" in index_selection.reason_not_indexer(q[..., :16], w, 5000)
    assert "torch.float64" in index_selection.reason_not_indexer(q.double(), w, 2)
