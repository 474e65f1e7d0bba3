"""The decoding kernels equal `decode_attention`, sequence by sequence, for a batch of any lengths."""

from __future__ import annotations

import pytest
import torch

from model.dsa_cpu import decode_attention
from model.kernels import decoding
from model.kernels.dispatch import DecodeBatch, decode, using


def _batch(lengths, *, groups, per_group, dim, top_k, kind="floats", dtype=torch.float32, index=(3, 16)):
    generator = torch.Generator().manual_seed(sum(lengths))

    def draw(*shape, indexer=False):
        x = torch.randn(*shape, generator=generator)
        return (x.round() if indexer and kind != "floats" else x).to(dtype)

    size = len(lengths)
    made = DecodeBatch(
        q=draw(size, groups * per_group, dim), k=[draw(n, groups, dim) for n in lengths],
        v=[draw(n, groups, dim) for n in lengths], index_q=draw(size, *index, indexer=True),
        index_k=[draw(n, index[1], indexer=True) for n in lengths], index_w=draw(size, index[0], indexer=True), top_k=top_k,
    )  # fmt: skip
    if kind == "zeros":
        made.index_q.abs_().neg_()
        for keys in made.index_k:
            keys.abs_()
    return made


def _check(batch, done, **tolerance):
    for b, (k, v, index_k) in enumerate(zip(batch.k, batch.v, batch.index_k, strict=True)):
        expected = decode_attention(
            batch.q[b : b + 1].float(), k.float(), v.float(), batch.index_q[b : b + 1], index_k, batch.index_w[b : b + 1],
            top_k=batch.top_k,
        )  # fmt: skip
        width = expected.selected.shape[1]
        assert torch.equal(done.selected[b, :width], expected.selected[0])
        assert (done.selected[b, width:] == -1).all()
        torch.testing.assert_close(done.out[b].float(), expected.out[0], **tolerance)


@pytest.mark.parametrize(("groups", "per_group", "dim"), [(2, 1, 64), (1, 2, 128), (2, 8, 64)])
@pytest.mark.parametrize("kind", ["floats", "ties"])
def test_a_step_of_ragged_sequences_equals_the_plain_path(groups, per_group, dim, kind):
    batch = _batch([1, 70, 12, 33], groups=groups, per_group=per_group, dim=dim, top_k=12, kind=kind)
    done = decoding.decode(batch, split=32, sample=16, part=16)
    _check(batch, done)
    again = decoding.decode(batch, split=32, sample=16, part=16)
    assert torch.equal(done.out, again.out)
    assert torch.equal(done.selected, again.selected)


@pytest.mark.parametrize("kind", ["floats", "zeros"])
def test_sampled_guesses_and_plateaus_of_equal_scores_give_the_same_sets(kind):
    """Among equal scores every key passes the guess: more than the merge holds, so the scores are read again."""
    batch = _batch([300, 2], groups=1, per_group=2, dim=16, top_k=8, kind=kind)
    _check(batch, decoding.decode(batch, split=64, sample=64, part=16))


def test_bfloat16_through_the_dispatch():
    batch = _batch([40, 9], groups=1, per_group=8, dim=64, top_k=16, kind="ties", dtype=torch.bfloat16, index=(16, 64))
    with using("triton"):
        done = decode(batch)
    assert done.out.dtype == torch.bfloat16
    _check(batch, done, atol=2e-2, rtol=2e-2)


def test_caches_that_cannot_be_served_say_why():
    batch = _batch([9], groups=1, per_group=1, dim=16, top_k=2)
    assert decoding.reason_not(batch) is None
    batch.k[0] = batch.k[0].double()
    assert decoding.reason_not(batch) == "cached keys are torch.float64, the queries torch.float32"
