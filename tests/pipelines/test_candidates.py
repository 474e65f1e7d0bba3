"""Banding finds every pair that comparing all with all would, and stays bounded when everything is the same."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from pipelines.candidates import SHARERS_MAX, band_pairs, near_pairs
from pipelines.duplicates import components, sketch

BITS = 6


@pytest.mark.parametrize("count", [20, 400])
def test_near_pairs_are_those_of_all_with_all(count: int) -> None:
    rng = random.Random(count)
    hashes = [rng.getrandbits(64) for _ in range(count)]
    for value in list(hashes):
        for bit in rng.sample(range(64), rng.randint(0, 9)):
            value ^= 1 << bit
        hashes.append(value)
    exact = {(i, j) for i, j in itertools.combinations(range(len(hashes)), 2) if (hashes[i] ^ hashes[j]).bit_count() <= BITS}
    owners = np.arange(len(hashes))
    found = near_pairs(np.array(hashes, dtype=np.uint64), owners, np.ones(len(hashes), dtype=bool), BITS)
    assert {tuple(pair) for pair in found.tolist()} == exact
    assert exact


def test_no_source_is_paired_with_itself_and_windows_are_not_compared_with_windows() -> None:
    hashes = np.array([1, 1, 7, 7, 7], dtype=np.uint64)
    owners = np.array([0, 0, 0, 1, 2])
    assert near_pairs(hashes, owners, np.array([True, True, False, False, True]), 0).tolist() == [[0, 2], [1, 2]]
    assert near_pairs(hashes, owners, np.array([True, True, False, False, False]), 0).tolist() == []


def test_what_all_share_joins_them_without_all_pairs() -> None:
    count = 3_000
    pairs = near_pairs(np.full(count, 5, dtype=np.uint64), np.arange(count), np.ones(count, dtype=bool), BITS)
    assert len(pairs) <= SHARERS_MAX * count
    assert set(components(count, [tuple(pair) for pair in pairs.tolist()])) == {0}
    same = np.repeat(np.frombuffer(sketch(["one"]), dtype="<u4")[None], count, axis=0)
    pairs = band_pairs(same, np.arange(count), 0.8)
    assert len(pairs) <= SHARERS_MAX * count
    assert set(components(count, [tuple(pair) for pair in pairs.tolist()])) == {0}


def test_bands_find_nearly_every_text_of_the_asked_similarity() -> None:
    rng = random.Random(3)
    sketches, close = [], []
    for number in range(150):
        words = [f"{number} {rng.random()}" for _ in range(200)]
        changed = [*words[:180], *(f"{number} {rng.random()}" for _ in range(20))]
        sketches += [np.frombuffer(sketch(text), dtype="<u4") for text in (words, changed)]
        if (sketches[-1] == sketches[-2]).mean() >= 0.8:
            close.append([2 * number, 2 * number + 1])
    found = band_pairs(np.stack(sketches), np.arange(len(sketches)), 0.8).tolist()
    assert len(close) > 50
    assert sum(pair in found for pair in close) >= 0.97 * len(close)
    assert all(left // 2 == right // 2 for left, right in found)
