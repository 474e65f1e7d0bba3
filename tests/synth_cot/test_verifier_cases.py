"""Every line of verifier_cases.jsonl, which is meant to be read."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from synth_cot.verifiers import NAMES, get

LINES = (Path(__file__).parent / "verifier_cases.jsonl").read_text("utf-8").splitlines()
CASES = [(number, *json.loads(line)) for number, line in enumerate(LINES, 1) if line and not line.startswith("#")]


@pytest.mark.parametrize(("line", "verifier", "prediction", "truth", "score", "why"), CASES, ids=[f"line{c[0]}" for c in CASES])
def test_a_case(line: int, verifier: str, prediction: str, truth: Any, score: float | str, why: str) -> None:
    verdict = get(verifier).score(prediction, truth)
    assert verdict.reason
    if isinstance(score, str):
        sign, bound = score[0], float(score[1:])
        assert verdict.score < bound if sign == "<" else verdict.score > bound, f"{why}: {verdict}"
    else:
        assert verdict.score == pytest.approx(score, abs=1e-6), f"{why}: {verdict}"


def test_there_are_cases_of_every_verifier() -> None:
    counts = Counter(case[1] for case in CASES)
    assert counts.total() >= 300
    assert set(counts) == set(NAMES)
    assert min(counts.values()) >= 10
