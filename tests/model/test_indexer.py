"""The selection is a function of the scores alone; the scores are the formula's."""

from __future__ import annotations

import pytest
import torch

from model.dsa_reference import select
from model.indexer import index_scores, top_k_indices


def _as_sets(indices, size):
    return [sorted(i for i in row if 0 <= i < size) for row in indices.tolist()]


@pytest.mark.parametrize("levels", [2, 5, 1000])
@pytest.mark.parametrize(("size", "k"), [(300, 7), (300, 299), (50, 64), (4096, 5), (4101, 33)])
def test_equal_scores_go_to_the_lower_index(levels, size, k):
    generator = torch.Generator().manual_seed(size + k + levels)
    scores = torch.randint(0, levels, (20, size), generator=generator).float()
    visible = torch.arange(size)[None] <= torch.arange(size - 20, size)[:, None]
    chosen = top_k_indices(scores.masked_fill(~visible, -torch.inf), k)
    expected = select(scores, visible, k)
    assert _as_sets(chosen, size) == [row.nonzero().squeeze(1).tolist() for row in expected]
    assert bool((chosen.diff(dim=-1)[chosen[:, 1:] < size] > 0).all()), "ascending"


def test_a_plateau_gives_the_same_set_on_other_threads_and_chunks():
    generator = torch.Generator().manual_seed(0)
    q = torch.randint(-2, 3, (256, 4, 8), generator=generator).float()
    k = torch.randint(-2, 3, (6000, 8), generator=generator).float()
    w = torch.randint(-1, 3, (256, 4), generator=generator).float()
    w[:40] = 0.0  # whole rows of equal scores
    sets = []
    for threads, chunk in ((1, 256), (2, 256), (1, 7), (2, 64), (1, 64)):
        torch.set_num_threads(threads)
        parts = [top_k_indices(index_scores(q[i : i + chunk], k, w[i : i + chunk]), 50) for i in range(0, 256, chunk)]
        sets.append(torch.cat(parts))
    assert all(torch.equal(sets[0], other) for other in sets[1:])
    assert torch.equal(sets[0][:40], torch.arange(50).expand(40, 50))


def test_scores_are_the_formula():
    q, k, w = torch.randn(9, 3, 8), torch.randn(11, 8), torch.randn(9, 3)
    by_hand = torch.zeros(9, 11)
    for t in range(9):
        for s in range(11):
            by_hand[t, s] = sum(w[t, j] * max(0.0, float(q[t, j] @ k[s])) for j in range(3))
    torch.testing.assert_close(index_scores(q, k, w), by_hand)
