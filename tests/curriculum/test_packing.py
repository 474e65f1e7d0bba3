"""Packing loses nothing, overfills nothing, and is as tight as its lower bound allows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from curriculum.packing import pack, pack_two, place


def lower_bound(lengths: NDArray[np.int64], capacity: int) -> int:
    """Martello and Toth's L2: no packing has fewer. The largest bound over all thresholds up to half the capacity."""
    best = 0
    for limit in np.unique(np.append(lengths[lengths * 2 <= capacity], 0)):
        large = lengths > capacity - limit
        middle = ~large & (lengths * 2 > capacity)
        small = (lengths >= limit) & (lengths * 2 <= capacity)
        spare = int(middle.sum()) * capacity - int(lengths[middle].sum())
        best = max(best, int(large.sum() + middle.sum()) + max(0, -(-(int(lengths[small].sum()) - spare) // capacity)))
    return best


def best_fit_decreasing(lengths: list[int], capacity: int) -> int:
    """The textbook algorithm, one item at a time: how many sequences it opens."""
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [room for room in rooms if room >= length]
        if fitting:
            rooms.remove(min(fitting))
            rooms.append(min(fitting) - length)
        else:
            rooms.append(capacity - length)
    return len(rooms)


def test_lower_bound_of_known_cases() -> None:
    assert lower_bound(np.array([6, 6, 6, 6]), 10) == 4
    assert lower_bound(np.array([7, 3, 7, 3, 5, 5]), 10) == 3


@given(st.integers(1, 60).flatmap(lambda c: st.tuples(st.just(c), st.lists(st.integers(0, c), max_size=60))))
@settings(max_examples=150, deadline=None)
def test_every_sample_once_never_over_as_textbook_best_fit(case: tuple[int, list[int]]) -> None:
    capacity, lengths = case
    bins = pack(lengths, capacity)
    assert sorted(np.concatenate(bins).tolist() if bins else []) == list(range(len(lengths)))
    assert all(sum(lengths[index] for index in items) <= capacity for items in bins)
    assert all(list(items) == sorted(items) for items in bins)
    assert len(bins) <= best_fit_decreasing(lengths, capacity)
    assert len(bins) >= lower_bound(np.array(lengths, dtype=np.int64), capacity)


@pytest.mark.parametrize("capacity", [32_768, 65_536, 262_144])
@pytest.mark.parametrize("shape", ["lognormal", "bimodal"])
def test_within_a_thousandth_of_the_lower_bound(capacity: int, shape: str) -> None:
    random = np.random.default_rng(5)
    if shape == "lognormal":
        lengths = random.lognormal(7.5, 1.3, 40_000)
    else:
        lengths = np.concatenate([random.normal(400, 90, 36_000), random.normal(capacity * 0.55, capacity * 0.02, 400)])
    lengths = np.clip(lengths, 1, capacity).astype(np.int64)
    assert len(pack(lengths, capacity)) <= np.ceil(lower_bound(lengths, capacity) * 1.001)


def test_equal_input_gives_equal_output_and_multisets_decide() -> None:
    lengths = np.random.default_rng(3).integers(1, 900, 5_000)
    first, again = pack(lengths, 1024), pack(lengths, 1024)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    turned = pack(lengths[::-1], 1024)
    assert sorted(sorted(lengths[items].tolist()) for items in first) == sorted(
        sorted(lengths[::-1][items].tolist()) for items in turned
    )


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([5, 11, 12], r"item 1 has length 11, above the capacity of 10"),
        ([5, -1], r"item 1 has length -1, negative"),
        ([1.5], r"array of integers, not float64"),
        ([[1, 2]], r"one-dimensional"),
    ],
)
def test_what_cannot_be_packed_is_named(lengths: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pack(lengths, 10)


def pairs(capacity: int, visual_capacity: int) -> st.SearchStrategy[list[tuple[int, int]]]:
    one = st.integers(1, capacity).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, min(n, visual_capacity))))
    return st.lists(one, max_size=50)


@given(
    st.tuples(st.integers(1, 60), st.integers(0, 60))
    .filter(lambda c: c[1] <= c[0])
    .flatmap(lambda c: st.tuples(st.just(c), pairs(*c)))
)
@settings(max_examples=200, deadline=None)
def test_two_limits_hold_at_once(case: tuple[tuple[int, int], list[tuple[int, int]]]) -> None:
    (capacity, visual_capacity), samples = case
    lengths = np.array([total for total, _ in samples], dtype=np.int64)
    visual = np.array([pictures for _, pictures in samples], dtype=np.int64)
    bins = pack_two(lengths, visual, capacity, visual_capacity)
    assert sorted(np.concatenate(bins).tolist() if bins else []) == list(range(len(samples)))
    assert all(lengths[items].sum() <= capacity and visual[items].sum() <= visual_capacity for items in bins)


@given(
    st.tuples(st.integers(1, 60), st.integers(0, 60))
    .filter(lambda c: c[1] <= c[0])
    .flatmap(
        lambda c: st.tuples(st.just(c), pairs(*c), st.lists(st.tuples(st.integers(0, c[0]), st.integers(0, c[1])), max_size=6))
    )
)
@settings(max_examples=150, deadline=None)
def test_open_sequences_are_filled_within_their_room(
    case: tuple[tuple[int, int], list[tuple[int, int]], list[tuple[int, int]]],
) -> None:
    (capacity, visual_capacity), samples, opened = case
    lengths, visual = (np.array([sample[which] for sample in samples], dtype=np.int64) for which in (0, 1))
    numbers = place(lengths, visual, capacity, visual_capacity, [room for room, _ in opened], [room for _, room in opened])
    limits = opened + [(capacity, visual_capacity)] * len(samples)
    for number in set(numbers.tolist()):
        held = numbers == number
        assert lengths[held].sum() <= limits[number][0]
        assert visual[held].sum() <= limits[number][1]
    new = set(numbers[numbers >= len(opened)].tolist())
    assert new == set(range(len(opened), len(opened) + len(new)))


def test_text_fills_the_room_that_pictures_may_not_take() -> None:
    """Videos at 95% pictures under a budget of 70%: the other 30% of the context is not wasted."""
    random = np.random.default_rng(2)
    videos, texts = random.integers(500, 3_000, 3_000), random.integers(20, 800, 6_000)
    lengths = np.concatenate([videos, texts])
    visual = np.concatenate([videos * 95 // 100, np.zeros_like(texts)])
    bins = pack_two(lengths, visual, 10_000, 7_000)
    assert len(bins) <= 1.01 * max(lengths.sum() / 10_000, visual.sum() / 7_000)


def test_a_sample_over_the_visual_budget_is_named() -> None:
    with pytest.raises(ValueError, match=r"item 1 has visual length 8, above the capacity of 7"):
        pack_two([9, 9], [7, 8], 10, 7)
    with pytest.raises(ValueError, match=r"item 0 has 5 visual tokens of 4"):
        pack_two([4], [5], 10, 7)
