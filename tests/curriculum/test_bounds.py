"""The lower bound is L2, written another way, and never above what an exhaustive search finds."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curriculum.bounds import lower_bound, lower_bound_of_two
from curriculum.packing import pack


def l2_as_written(lengths: list[int], capacity: int) -> int:
    """Martello and Toth's definition, threshold by threshold."""
    best = 0
    for limit in {0, *(length for length in lengths if length * 2 <= capacity)}:
        large = [length for length in lengths if length > capacity - limit]
        middle = [length for length in lengths if capacity - limit >= length and length * 2 > capacity]
        small = [length for length in lengths if length * 2 <= capacity and length >= limit]
        spare = len(middle) * capacity - sum(middle)
        best = max(best, len(large) + len(middle) + max(0, -(-(sum(small) - spare) // capacity)))
    return best


def fewest(lengths: list[int], capacity: int) -> int:
    """The fewest sequences, by trying everything."""

    @functools.cache
    def sequences(rest: tuple[int, ...]) -> int:
        if not rest:
            return 0
        first, *others = rest
        best = len(rest)
        for chosen in range(2 ** len(others)):
            beside = [other for at, other in enumerate(others) if chosen >> at & 1]
            if first + sum(beside) <= capacity:
                left = [other for at, other in enumerate(others) if not chosen >> at & 1]
                best = min(best, 1 + sequences(tuple(left)))
        return best

    return sequences(tuple(sorted(lengths, reverse=True)))


cases = st.integers(1, 40).flatmap(lambda c: st.tuples(st.just(c), st.lists(st.integers(1, c), max_size=60)))


@given(cases)
@settings(max_examples=200, deadline=None)
def test_it_is_l2(case: tuple[int, list[int]]) -> None:
    capacity, lengths = case
    assert lower_bound(lengths, capacity) == l2_as_written(lengths, capacity)


@given(st.integers(1, 20).flatmap(lambda c: st.tuples(st.just(c), st.lists(st.integers(1, c), max_size=8))))
@settings(max_examples=100, deadline=None)
def test_no_packing_has_fewer(case: tuple[int, list[int]]) -> None:
    capacity, lengths = case
    assert lower_bound(lengths, capacity) <= fewest(lengths, capacity) <= len(pack(lengths, capacity))


@pytest.mark.parametrize(
    ("lengths", "capacity", "bound"),
    [([], 10, 0), ([0, 0], 10, 1), ([6, 6, 6, 6], 10, 4), ([7, 3, 7, 3, 5, 5], 10, 3), ([5, 5, 5], 10, 2), ([10], 10, 1)],
)
def test_known_cases(lengths: list[int], capacity: int, bound: int) -> None:
    assert lower_bound(np.array(lengths, dtype=np.int64), capacity) == bound


def test_of_two_limits_the_harder_one_counts() -> None:
    assert lower_bound_of_two([10, 10, 10], [8, 8, 0], 40, 8) == 2
    assert lower_bound_of_two([30, 30, 10], [8, 0, 0], 40, 8) == 2
    assert lower_bound_of_two([30, 30], [0, 0], 40, 0) == 2
