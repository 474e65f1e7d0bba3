"""STEM problems: answers recomputed a third way, agreement with the generators' own scorers, problems as sources."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import pytest
from recompute_answers import STEM

from synth_cot.known import Problem
from synth_cot.stem.generators import GENERATORS, gym_score, problems
from synth_cot.verifiers import get


def some(generator: str, count: int = 12) -> list[Problem]:
    """The first problems of a generator."""
    return [
        subject for known in problems(generator, 17, count, 0.1) for subject in known.subjects if isinstance(subject, Problem)
    ]


@pytest.mark.parametrize("generator", sorted(GENERATORS))
def test_derived_answers_agree_with_a_third_way_and_with_the_generator(generator: str) -> None:
    verifier = get(GENERATORS[generator].verifier)
    for problem in some(generator):
        answer = GENERATORS[generator].derive(problem.entry).answer
        assert verifier.score(answer, STEM[generator](problem.question)).right, problem.question
        assert verifier.score(answer, problem.entry["answer"]).right
        assert gym_score(problem, answer) == 1.0


def spoiled(answer: str) -> str:
    """Another answer of the same kind."""
    if answer in ("True", "False"):
        return str(answer != "True")
    if re.search(r"\d", answer):
        return re.sub(r"\d", lambda digit: str((int(digit[0]) + 1) % 10), answer, count=1)
    return answer + "x"


@pytest.mark.parametrize("generator", sorted(GENERATORS))
def test_our_verifier_rejects_what_the_generator_rejects(generator: str) -> None:
    verifier = get(GENERATORS[generator].verifier)
    for problem in some(generator, 6):
        wrong = spoiled(str(problem.entry["answer"]))
        if wrong == "[]":
            continue
        assert not verifier.score(wrong, problem.entry["answer"]).right
        if generator != "spell_backward":  # its scorer gives 1.0000000000000002 for a right word with a letter appended
            assert gym_score(problem, wrong) < 1.0


HIDDEN = {
    "result", "solution", "factors", "decimal_value", "target_repr", "sorted_words", "sorted_numbers", "primes", "binary",
    "total_legs", "simplified_numerator", "simplified_denominator", "reduction_factor",
}  # fmt: skip
"""What generators put into a problem's metadata that gives its answer away."""


def test_the_answer_is_derived_without_looking_at_it() -> None:
    for generator in sorted(GENERATORS):
        for problem in some(generator, 3):
            blind: dict[str, Any] = {**problem.entry, "answer": "unknown"}
            blind["metadata"] = {key: value for key, value in problem.entry["metadata"].items() if key not in HIDDEN}
            assert GENERATORS[generator].derive(blind) == GENERATORS[generator].derive(problem.entry)


def test_problems_depend_on_the_seed_and_on_nothing_else() -> None:
    first, again, other = (problems("gcd", seed, 5, 0.5) for seed in (17, 17, 18))
    assert first == again
    assert [known.source.source_id for known in first] != [known.source.source_id for known in other]
    assert [k.source.source_id for k in problems("gcd", 17, 3, 0.5)] == [k.source.source_id for k in first[:3]]


def test_problems_do_not_depend_on_the_process() -> None:
    """Python hashes strings anew in each process; a generator that walks a set of them gives other problems each time."""
    code = (
        "from manifests.fingerprint import value_id; from synth_cot.stem.generators import GENERATORS, problems\n"
        "for name in sorted(GENERATORS): print(name, value_id([k.source for k in problems(name, 17, 40, 0.1)]))\n"
    )
    outputs = [
        subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout
        for environment in (os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)} for seed in "12")
    ]
    assert outputs[0] == outputs[1]
    assert outputs[0].count("\n") == len(GENERATORS)


def test_one_problem_text_is_one_source_on_one_side() -> None:
    known = problems("products", 17, 200, 0.5)
    sides: dict[str, set[tuple[str, str]]] = {}
    for one in known:
        (problem,) = one.subjects
        assert isinstance(problem, Problem)
        sides.setdefault(problem.question, set()).add((one.source.source_id, one.source.split))
    assert len(sides) < len(known), "200 small products repeat"
    assert {len(side) for side in sides.values()} == {1}
    assert 60 < sum(one.source.split == "heldout" for one in known) < 140
