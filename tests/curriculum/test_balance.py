"""Steps cost the same, nothing is dropped, and the cost is the number of pairs one can count."""

from __future__ import annotations

import numpy as np
import pytest

from curriculum.balance import balanced_order, unevenness
from curriculum.cost import attention_cost


@pytest.mark.parametrize(("tokens", "top_k"), [(1, 4), (4, 4), (5, 4), (37, 8), (20, 64)])
def test_cost_counts_the_pairs_of_every_query(tokens: int, top_k: int) -> None:
    scored = sum(visible for visible in range(1, tokens + 1))
    attended = sum(min(visible, top_k) for visible in range(1, tokens + 1))
    assert attention_cost([tokens], top_k).tolist() == [scored + attended]


def test_cost_of_the_longest_context_does_not_overflow() -> None:
    tokens = 262_144
    expected = tokens * (tokens + 1) // 2 + 2048 * 2049 // 2 + 2048 * (tokens - 2048)
    assert attention_cost(np.array([tokens], dtype=np.int32), 2048).tolist() == [expected]


@pytest.mark.parametrize("per_step", [8, 64])
def test_steps_are_even_where_chance_is_not(per_step: int) -> None:
    random = np.random.default_rng(4)
    costs = random.lognormal(12, 0.8, per_step * 120).astype(np.int64)
    order = balanced_order(costs, per_step, 17, 3)
    assert sorted(order.tolist()) == list(range(len(costs)))
    shuffled = unevenness(random.permutation(costs), per_step)
    assert unevenness(costs[order], per_step) <= 1.02 < shuffled


def test_a_partial_last_step_keeps_everything_and_is_a_cross_section() -> None:
    costs = np.arange(1, 108)
    order = balanced_order(costs, 8, 17, 1)
    assert sorted(order.tolist()) == list(range(107))
    assert abs(costs[order[104:]].mean() - costs.mean()) < 10
    assert unevenness(costs[order], 8) <= 1.02


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
