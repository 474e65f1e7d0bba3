"""Sparse attention's kernels and both KL losses on Triton's interpreter, against the formulas: values and every gradient."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools

import pytest
import torch
import torch.utils.checkpoint
from torch.utils._python_dispatch import TorchDispatchMode

from model.dsa_cpu import recomputed_later
from model.dsa_reference import SampleAttention, reference_attention
from model.kernels import row_chunks, sparse_attention, warmup_attention
from model.kernels.dispatch import PackedRow
from model.kernels.neighbours import UnionShape
from model.kernels.row_chunks import Layout

# Small tiles, legal on a GPU all the same: several tiles, chunks and ranges in a short row.
SMALL = Layout(
    rows=64,
    queries=16,
    keys=16,
    keys_backward=16,
    keys_kl=32,
    keys_kl_last=16,
    keys_parts=16,
    columns=16,
    window_bytes=2**13,
    union=UnionShape(chunk=3, range=32, scan=64, step=16, programs=2),
)


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(row_chunks, "LAYOUT", SMALL)


def _row(lengths, *, top_k, heads=4, groups=2, dim=16, index_heads=2, index_dim=16, plateaus=False, dtype=torch.float32):
    generator = torch.Generator().manual_seed(sum(lengths))
    tokens = sum(lengths)

    def draw(*shape, rounded=False):
        x = torch.randn(*shape, generator=generator)
        return (x.round() if rounded else x).to(dtype).requires_grad_()

    return PackedRow(
        q=draw(tokens, heads, dim),
        k=draw(tokens, groups, dim),
        v=draw(tokens, groups, dim),
        index_q=draw(tokens, index_heads, index_dim, rounded=plateaus),
        index_k=draw(tokens, index_dim, rounded=plateaus),
        index_w=draw(tokens, index_heads, rounded=plateaus),
        cu_seqlens=torch.tensor([0, *lengths]).cumsum(0).to(torch.int32),
        longest=max(lengths),
        top_k=top_k,
    )


def _inputs(row):
    return [row.q, row.k, row.v, row.index_q, row.index_k, row.index_w]


def _expected(row, dtype=torch.float64):
    """The reference in float64, sample by sample: output, KL, gradients of both (out . weight + 1.3 KL), sets of the row."""
    inputs = [x.detach().to(dtype).requires_grad_() for x in _inputs(row)]
    edges = row.cu_seqlens.tolist()
    done: list[SampleAttention] = []
    width = min(row.top_k or row.longest, row.longest)
    selected = torch.full((edges[-1], width), -1, dtype=torch.int32)
    for a, b in itertools.pairwise(edges):
        done.append(reference_attention(*(x[a:b] for x in inputs), top_k=row.top_k))
        own = done[-1].selected
        selected[a:b, : own.shape[1]] = own.where(own < 0, own + a)
    out, kl = torch.cat([x.out for x in done]), sum(x.kl for x in done)
    weight = _weight(row)
    loss = 1.3 * kl + ((out * weight.to(dtype)).sum() if row.top_k else 0.0)
    gradients = torch.autograd.grad(loss, inputs if row.top_k else inputs[3:])
    return out.detach(), kl.detach(), gradients, selected


def _weight(row):
    return torch.randn(row.q.shape, generator=torch.Generator().manual_seed(9)).to(row.q.dtype)


def _serve(row, selected):
    return sparse_attention.serve(row, selected) if row.top_k else warmup_attention.serve(row)


def _served(row, selected):
    done = _serve(row, selected)
    loss = 1.3 * done.kl + ((done.out.float() * _weight(row).float()).sum() if row.top_k else 0.0)
    gradients = torch.autograd.grad(loss, _inputs(row) if row.top_k else _inputs(row)[3:])
    return done.out.detach(), done.kl.detach(), gradients


def _check(row, *, rtol=2e-4, atol=2e-5):
    out, kl, gradients, selected = _expected(row)
    got_out, got_kl, got_gradients = _served(row, selected)
    torch.testing.assert_close(got_out.double(), out, rtol=rtol, atol=atol)
    torch.testing.assert_close(got_kl.double(), kl, rtol=rtol, atol=atol)
    for got, wanted in zip(got_gradients, gradients, strict=True):
        torch.testing.assert_close(got.double(), wanted, rtol=rtol, atol=atol)
    return got_out, got_kl, got_gradients, selected


@pytest.mark.parametrize("top_k", [None, 7, 20, 100])
def test_ragged_packs_with_samples_of_one_token(top_k):
    _check(_row([1, 37, 1, 1, 19], top_k=top_k))


@pytest.mark.parametrize("top_k", [None, 9])
@pytest.mark.parametrize(("heads", "groups", "dim", "index_heads"), [(1, 1, 64, 1), (4, 2, 128, 4), (8, 1, 64, 16)])
def test_one_two_and_eight_heads_a_group(heads, groups, dim, index_heads, top_k):
    _check(_row([21, 12], heads=heads, groups=groups, dim=dim, index_heads=index_heads, index_dim=32, top_k=top_k))


@pytest.mark.parametrize("top_k", [None, 9])
def test_a_part_of_the_queries_against_all_keys(top_k):
    """As when ranks share a row: parts of the whole row's output and KL, and gradients that add up to the whole row's."""
    whole = _row([30, 13], top_k=top_k)
    out, kl, gradients, selected = _expected(whole)
    parts = [[(0, 10, 0, 10), (10, 22, 30, 42)], [(0, 20, 0, 30), (20, 21, 30, 43)]]
    own = [[*range(10), *range(30, 42)], [*range(10, 30), 42]]
    got_kl, sums = 0.0, [torch.zeros_like(x) for x in gradients]
    for segments, rows in zip(parts, own, strict=True):
        some = {name: getattr(whole, name)[rows] for name in ("q", "index_q", "index_w")}
        longest = max(last - first for _, _, first, last in segments)
        row = dataclasses.replace(whole, **some, segments=torch.tensor(segments, dtype=torch.int32), longest=longest)
        done = _serve(row, selected[rows])
        torch.testing.assert_close(done.out.detach().double(), out[rows], rtol=2e-4, atol=2e-5)
        got_kl += float(done.kl.detach())
        loss = 1.3 * done.kl + ((done.out * _weight(whole)[rows]).sum() if top_k else 0.0)
        learning = _inputs(whole) if top_k else _inputs(whole)[3:]
        sums = [x + y for x, y in zip(sums, torch.autograd.grad(loss, learning), strict=True)]
    assert got_kl == pytest.approx(float(kl), rel=1e-5)
    for got, wanted in zip(sums, gradients, strict=True):
        torch.testing.assert_close(got, wanted, rtol=2e-4, atol=2e-5)


def test_sets_of_tied_scores():
    _check(_row([40], top_k=9, plateaus=True))


@pytest.mark.parametrize("top_k", [None, 9])
def test_bf16_is_within_its_own_rounding(top_k):
    """Of the largest value: 2^-6. Probabilities, slopes and results are rounded to 8 bits, by the interpreter towards 0."""
    row = _row([20, 9], top_k=top_k, dtype=torch.bfloat16)
    out, kl, gradients, selected = _expected(row)
    got_out, got_kl, got_gradients = _served(row, selected)
    assert got_out.dtype == torch.bfloat16
    assert got_kl.dtype == torch.float32
    assert float(got_kl) == pytest.approx(float(kl), rel=1e-3)
    for got, wanted in zip((got_out, *got_gradients), (out, *gradients), strict=True):
        assert got.dtype == torch.bfloat16
        assert float((got.double() - wanted).abs().max() / wanted.abs().max()) < 2**-6


@pytest.mark.parametrize("top_k", [None, 9])
def test_two_runs_give_identical_bits(monkeypatch, top_k):
    row = _row([34], top_k=top_k)
    out, kl, gradients, selected = _check(row)
    again = _served(row, selected)
    # However many programs build the lists, they are the same.
    other = dataclasses.replace(SMALL, union=dataclasses.replace(SMALL.union, programs=1))
    monkeypatch.setattr(row_chunks, "LAYOUT", other)
    for more in (again, _served(row, selected)):
        for first, second in zip((out, kl, *gradients), (more[0], more[1], *more[2]), strict=True):
            assert torch.equal(first, second)


@pytest.mark.parametrize("top_k", [None, 9])
def test_under_activation_checkpointing_gradients_are_the_same_and_the_first_run_keeps_none(top_k):
    row = _row([25], top_k=top_k)
    _, kl, gradients, selected = _check(row)

    def run(*inputs):
        names = ("q", "k", "v", "index_q", "index_k", "index_w")
        done = _serve(dataclasses.replace(row, **dict(zip(names, inputs, strict=True))), selected)
        return done.out, done.kl

    out, again = torch.utils.checkpoint.checkpoint(
        run, *_inputs(row), use_reentrant=False, context_fn=lambda: (recomputed_later(), contextlib.nullcontext())
    )
    loss = 1.3 * again + ((out * _weight(row)).sum() if top_k else 0.0)
    assert torch.equal(again.detach(), kl)
    for got, wanted in zip(torch.autograd.grad(loss, _inputs(row) if top_k else _inputs(row)[3:]), gradients, strict=True):
        assert torch.equal(got, wanted)


def test_parts_that_do_not_learn_get_nothing_and_change_nothing():
    row = _row([25], top_k=9)
    out, kl, gradients, selected = _check(row)
    bare = sparse_attention.serve(dataclasses.replace(row, with_kl=False), selected)
    assert bare.kl is None
    assert torch.equal(bare.out, out)
    assert bare.out.grad_fn is not None
    for got, wanted in zip(torch.autograd.grad((bare.out * _weight(row)).sum(), _inputs(row)[:3]), gradients, strict=False):
        assert torch.equal(got, wanted)
    frozen = dataclasses.replace(row, q=row.q.detach(), k=row.k.detach(), v=row.v.detach())
    done = sparse_attention.serve(frozen, selected)
    assert torch.equal(done.kl, kl)
    for got, wanted in zip(torch.autograd.grad(1.3 * done.kl, _inputs(row)[3:]), gradients[3:], strict=True):
        assert torch.equal(got, wanted)
    with torch.no_grad():
        assert torch.equal(sparse_attention.serve(row, selected).kl, kl)


class _Allocations(TorchDispatchMode):
    """The largest tensor that anything makes."""

    largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, (tuple, list)) else [made]:
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.untyped_storage().nbytes())
        return made


@pytest.mark.parametrize("top_k", [None, 8])
def test_no_tensor_grows_faster_than_the_row(top_k):
    largest = []
    for tokens in (48, 96):
        row = _row([tokens], heads=1, groups=1, index_heads=1, top_k=top_k)
        selected = torch.arange(8, dtype=torch.int32).expand(tokens, 8).contiguous()
        with _Allocations() as made:
            _served(row, selected)
        largest.append(made.largest)
    assert largest[1] <= 2 * largest[0]
    assert largest[1] < 96 * 96 * 4


def test_what_cannot_be_served_says_why():
    row = _row([4], top_k=2)
    assert sparse_attention.reason_not(row) is None
    for change, reason in (
        ({"q": row.q.double()}, "share one type"),
        ({"q": row.q.repeat(1, 3, 1)}, "12 over 2"),
        ({name: getattr(row, name)[..., :8] for name in "qkv"}, "head dim must be 16, 32, 64 or 128, got 8"),
        ({"index_q": row.index_q.repeat(1, 3, 1)}, "1, 2, 4, 8 or 16 heads, got 6"),
    ):
        assert reason in sparse_attention.reason_not(dataclasses.replace(row, **change))
