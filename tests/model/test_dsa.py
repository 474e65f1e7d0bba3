"""The fast path equals the formulas in float64: outputs, KL, selected sets and every gradient."""

from __future__ import annotations

import pytest
import torch

from model import dsa_reading
from model.dsa_cpu import covered_mass, sparse_attention
from model.dsa_reference import causal_mask, reference_attention, select


def _inputs(queries, keys, seed, *, plateaus=False, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    tensors = [draw(queries, 8, 8), draw(keys, 2, 8), draw(keys, 2, 8), draw(queries, 4, 6), draw(keys, 6), draw(queries, 4)]
    if plateaus:
        tensors[3:] = [x.round() for x in tensors[3:]]
    return [x.to(dtype).requires_grad_() for x in tensors]


def _run(attend, inputs, weight, top_k, **options):
    done = attend(*inputs, top_k=top_k, **options)
    loss = 1.3 * done.kl + ((done.out * weight).sum() if top_k else 0.0)
    gradients = torch.autograd.grad(loss, inputs if top_k else inputs[3:])
    return done, gradients


@pytest.mark.parametrize("own_below", [0.0, 1e9], ids=["own sets", "union"])
@pytest.mark.parametrize("plateaus", [False, True])
@pytest.mark.parametrize(("queries", "past"), [(70, 0), (33, 20)])
@pytest.mark.parametrize("top_k", [None, 7, 40, 500])
def test_fast_path_equals_the_formulas(monkeypatch, own_below, plateaus, queries, past, top_k):
    monkeypatch.setattr(dsa_reading, "OWN_BELOW", own_below)
    inputs = _inputs(queries, queries + past, seed=queries, plateaus=plateaus)
    weight = torch.randn(queries, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected, expected_gradients = _run(reference_attention, inputs, weight, top_k)
    for chunk in (16, 64):
        done, gradients = _run(sparse_attention, inputs, weight, top_k, chunk=chunk)
        torch.testing.assert_close(done.out, expected.out)
        torch.testing.assert_close(done.kl, expected.kl)
        if top_k:
            assert torch.equal(done.selected.sort(-1).values, expected.selected.sort(-1).values)
        for got, wanted in zip(gradients, expected_gradients, strict=True):
            torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("top_k", [None, 9])
def test_kl_and_its_gradient_in_float32_against_float64_formulas(top_k):
    """Not through autograd of ours: sums over t and g written as loops, gradient softmax(I) - p by hand."""
    exact = _inputs(40, 40, seed=3)
    q, k, _, iq, ik, iw = (x.detach() for x in exact)
    visible = causal_mask(40, 40, q.device)
    scores = torch.einsum("tj,tjs->ts", iw, torch.einsum("tjd,sd->tjs", iq, ik).relu())
    sets = visible if top_k is None else select(scores, visible, top_k)
    total, slope = 0.0, torch.zeros_like(scores)
    for t in range(40):
        s = sets[t].nonzero().squeeze(1)
        log_q = scores[t, s].log_softmax(0)
        for g in range(2):
            heads = [(q[t, h] @ k[s, g].T / 8**0.5).softmax(0) for h in range(4 * g, 4 * g + 4)]
            p = sum(heads) / 4
            total += float((p * (p.log() - log_q)).sum())
            slope[t, s] += log_q.exp() - p
    products = torch.einsum("tjd,sd->tjs", iq, ik)
    by_hand = torch.einsum("ts,tj,tjs,sd->tjd", slope, iw, (products > 0).double(), ik)

    single = [x.detach().float().requires_grad_() for x in exact]
    done = sparse_attention(*single, top_k=top_k, chunk=16)
    assert float(done.kl.detach()) == pytest.approx(total, rel=1e-5)
    (gradient,) = torch.autograd.grad(done.kl, [single[3]])
    torch.testing.assert_close(gradient.double(), by_hand, rtol=1e-4, atol=1e-5)


def test_two_runs_are_bit_identical():
    inputs = _inputs(200, 200, seed=5, dtype=torch.float32)
    weight = torch.randn(200, 8, 8, generator=torch.Generator().manual_seed(1))
    for threads in (1, 2):
        torch.set_num_threads(threads)
        first, gradients = _run(sparse_attention, inputs, weight, 12, chunk=16)
        for _ in range(3):
            again, others = _run(sparse_attention, inputs, weight, 12, chunk=16)
            assert torch.equal(first.out, again.out)
            assert torch.equal(first.kl, again.kl)
            assert all(torch.equal(a, b) for a, b in zip(gradients, others, strict=True))


def test_covered_mass_is_the_probability_on_the_set():
    q, k, _, iq, ik, iw = (x.detach() for x in _inputs(60, 60, seed=2))
    visible = causal_mask(60, 60, q.device)
    logits = torch.einsum("tgrd,sgd->grts", q.view(60, 2, 4, 8), k) * 8**-0.5
    p = logits.masked_fill(~visible, -torch.inf).softmax(-1).mean((0, 1))
    sets = select(torch.einsum("tj,tjs->ts", iw, torch.einsum("tjd,sd->tjs", iq, ik).relu()), visible, 10)
    covered, attainable = covered_mass(q, k, iq, ik, iw, top_k=10, chunk=16)
    torch.testing.assert_close(covered, (p * sets).sum(-1).float())
    torch.testing.assert_close(attainable, p.sort(-1, descending=True).values[:, :10].sum(-1).float())


def test_nothing_quadratic_is_kept_for_backward():
    inputs = _inputs(600, 600, seed=4, dtype=torch.float32)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        sparse_attention(*inputs, top_k=16, chunk=16)
    assert max(kept) <= 600 * 8 * 16
