"""Ranks and steps cost the same, nothing is dropped, and pictures are shared out evenly."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from curriculum.balance import balanced_order, evenness, shared_out


@pytest.mark.parametrize("per_step", [8, 64])
def test_steps_are_even_where_chance_is_not(per_step: int) -> None:
    random = np.random.default_rng(4)
    costs = random.lognormal(12, 0.8, per_step * 120).astype(np.int64)
    order = balanced_order(costs, per_step, 17, 3)
    assert sorted(order.tolist()) == list(range(len(costs)))
    shuffled = evenness(random.permutation(costs), per_step, 1).steps
    assert evenness(costs[order], per_step, 1).steps <= 1.02 < shuffled


def test_a_partial_last_step_keeps_everything_and_is_a_cross_section() -> None:
    costs = np.arange(1, 108)
    order = balanced_order(costs, 8, 17, 1)
    assert sorted(order.tolist()) == list(range(107))
    assert abs(costs[order[104:]].mean() - costs.mean()) < 10
    assert evenness(costs[order], 8, 1).steps <= 1.02


def test_fewer_sequences_than_one_step() -> None:
    assert sorted(balanced_order([5, 3, 9], 8, 17).tolist()) == [0, 1, 2]
    assert balanced_order([], 8, 17).tolist() == []


def test_the_seed_orders_the_steps() -> None:
    costs = np.random.default_rng(0).integers(1, 1000, 400)
    one, same, other = (balanced_order(costs, 4, seed).tolist() for seed in (1, 1, 2))
    assert one == same
    assert one != other
    steps = {tuple(sorted(one[at : at + 4])) for at in range(0, 400, 4)}
    assert steps == {tuple(sorted(other[at : at + 4])) for at in range(0, 400, 4)}


def heavy_tailed(count: int, seed: int = 9) -> NDArray[np.float64]:
    """Costs as packed sequences have them: a floor that every full one pays, a heavy tail, and a dearest, one whole sample."""
    return np.clip(1.2e15 + np.random.default_rng(seed).pareto(1.2, count) * 4e14, 1.6e15, 6e15)


@pytest.mark.parametrize(("ranks", "each"), [(8, 1), (8, 8), (64, 1), (64, 4), (512, 1)])
def test_ranks_are_even_where_chance_is_not(ranks: int, each: int) -> None:
    per_step = ranks * each
    costs = heavy_tailed(per_step * 60)
    order = balanced_order(costs, per_step, 17, 3, ranks=ranks)
    assert sorted(order.tolist()) == list(range(len(costs)))
    chance = np.random.default_rng(1).permutation(costs)
    even, uneven = evenness(costs[order], per_step, ranks), evenness(chance, per_step, ranks)
    assert even.ranks <= 1.02 < 1.1 < uneven.ranks
    assert even.passes <= 1.03 < uneven.passes
    if each >= 8:
        assert even.steps <= 1.02 < uneven.steps


def test_a_plan_for_many_ranks_is_even_for_every_divisor() -> None:
    costs = heavy_tailed(64 * 60)
    order = balanced_order(costs, 64, 17, ranks=64)
    assert all(evenness(costs[order], 64, ranks).ranks <= 1.02 for ranks in (1, 2, 4, 8, 16, 32, 64))


def test_no_rank_always_gets_the_dearest() -> None:
    costs = heavy_tailed(8 * 400)
    order = balanced_order(costs, 8, 17, ranks=8)
    by_rank = costs[order].reshape(-1, 8).sum(axis=0)
    assert by_rank.max() / by_rank.mean() < 1.002


def test_evenness_counts_what_a_synchronous_step_waits_for() -> None:
    found = evenness([4, 2, 2, 2, 1, 1, 1, 1], per_step=4, ranks=2)
    assert found.steps == pytest.approx(10 / 7)
    assert found.ranks == pytest.approx((6 + 2) / (5 + 2))
    assert found.passes == pytest.approx((4 + 2 + 1 + 1) / (3 + 2 + 1 + 1))
    assert evenness([], 4, 2).ranks == evenness([0, 0, 0, 0], 4, 2).ranks == 1


def test_ranks_that_do_not_divide_a_step_are_refused() -> None:
    with pytest.raises(ValueError, match="3 ranks do not divide 8 sequences a step"):
        balanced_order([1, 2, 3], 8, 17, ranks=3)


@pytest.mark.parametrize("ranks", [1, 8, 64])
def test_pictures_are_shared_out_evenly(ranks: int) -> None:
    tokens = np.random.default_rng(1).integers(64, 257, 3_000)
    rank = shared_out(tokens, ranks)
    loads = np.bincount(rank, weights=tokens, minlength=ranks)
    assert loads.sum() == tokens.sum()
    assert loads.max() / loads.mean() <= 1.02
    assert shared_out(tokens, ranks).tolist() == rank.tolist()


def test_one_huge_picture_stands_alone() -> None:
    rank = shared_out([20_480, 256, 256, 256], 2)
    assert rank.tolist() == [0, 1, 1, 1]
    assert shared_out([], 4).tolist() == []
