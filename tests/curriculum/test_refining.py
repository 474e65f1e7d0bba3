"""Packing again where best fit misses the bound: never worse, within every limit, the same every time."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from curriculum.bounds import lower_bound
from curriculum.packing import _best_fit, pack
from curriculum.refining import fullest, refine


def best_fit(lengths: np.ndarray, capacity: int) -> np.ndarray:
    return _best_fit(lengths, np.empty(0, dtype=np.int64), capacity)


@given(st.lists(st.integers(1, 30), max_size=10), st.integers(0, 80))
@settings(max_examples=200, deadline=None)
def test_fullest_is_the_best_of_all_subsets(sizes: list[int], room: int) -> None:
    best = max(sum(each) for n in range(len(sizes) + 1) for each in itertools.combinations(sizes, n) if sum(each) <= room)
    chosen = fullest(sizes, room)
    assert sum(sizes[at] for at in chosen) == best
    assert len(set(chosen)) == len(chosen)


def test_it_reaches_the_bound_where_best_fit_does_not() -> None:
    random = np.random.default_rng(11)
    lengths = np.concatenate([random.integers(520, 1000, 160), random.integers(10, 400, 500)])
    plain = best_fit(lengths, 1024)
    bound = lower_bound(lengths, 1024)
    assert plain.max() + 1 > bound * 1.001
    assert len(pack(lengths, 1024)) <= np.ceil(bound * 1.001)


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 40), st.integers(0, 5)), min_size=1, max_size=40))
@settings(max_examples=80, deadline=None)
def test_limits_and_names_hold(samples: list[tuple[int, int, int]]) -> None:
    """Whatever was allowed before stays allowed."""
    lengths = np.array([total for total, _, _ in samples])
    visual = np.array([min(total, pictures) for total, pictures, _ in samples])
    names = np.array([name for _, _, name in samples])
    numbers, open_ = np.empty(len(samples), dtype=np.int64), []  # first fit under all three rules
    for at, (total, pictures, name) in enumerate(zip(lengths.tolist(), visual.tolist(), names.tolist(), strict=True)):
        fits = [n for n, (t, v, held) in enumerate(open_) if t + total <= 40 and v + pictures <= 40 and name not in held]
        if not fits:
            open_.append([0, 0, set()])
            fits = [len(open_) - 1]
        numbers[at] = fits[0]
        open_[fits[0]][0] += total
        open_[fits[0]][1] += pictures
        open_[fits[0]][2].add(name)
    found = refine(numbers, lengths, 40, lower_bound(lengths, 40), visual=visual, visual_capacity=40, names=names)
    count = found.max() + 1
    assert count <= len(open_)
    assert set(found.tolist()) == set(range(count))
    assert np.bincount(found, weights=lengths).max() <= 40
    assert np.bincount(found, weights=visual).max() <= 40
    assert len(set(zip(found.tolist(), names.tolist(), strict=True))) == len(samples)
    again = refine(numbers, lengths, 40, lower_bound(lengths, 40), visual=visual, visual_capacity=40, names=names)
    assert found.tolist() == again.tolist()


def test_many_samples_are_left_to_best_fit() -> None:
    lengths = np.full(30_000, 400)
    numbers = best_fit(lengths, 1000)
    assert refine(numbers, lengths, 1000, 1) is numbers
