"""STEM problems: answers recomputed a third way, agreement with the generators' own scorers, problems as sources."""

from __future__ import annotations

import ast
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import sympy

from synth_cot.known import Problem
from synth_cot.stem.generators import GENERATORS, gym_score, problems
from synth_cot.verifiers import get


def some(generator: str, count: int = 12) -> list[Problem]:
    """The first problems of a generator."""
    return [
        subject for known in problems(generator, 17, count, 0.1) for subject in known.subjects if isinstance(subject, Problem)
    ]


def exact(expression: str) -> Fraction:
    """An expression in exact arithmetic, through sympy's own parser."""
    value = sympy.nsimplify(sympy.sympify(expression.strip(), rational=True))
    return Fraction(int(value.p), int(value.q))


def numbers(text: str) -> list[int]:
    return [int(one) for one in re.findall(r"\d+", text)]


def solve(question: str) -> str:
    equation = question.split(": ", 1)[1]
    left, right = equation.split("=")
    (name,) = set(re.findall(r"[a-z]", equation))
    (root,) = sympy.solve(sympy.sympify(left) - sympy.sympify(right), sympy.Symbol(name))
    return str(root)


def convert(question: str) -> str:
    base = r"(?:base-(\d+)|(binary|hexadecimal))"
    found = re.search(rf"convert the {base} number (\w+) to {base}", question)
    assert found is not None
    bases = [int(found[a] or {"binary": 2, "hexadecimal": 16}[found[b]]) for a, b in ((1, 2), (4, 5))]
    value, out = int(found[3], bases[0]), ""
    while value:
        value, digit = divmod(value, bases[1])
        out = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + out
    return out


def keep(question: str) -> str:
    found = re.search(r"(Keep|Remove) all numbers (smaller|larger) than (\S+) in this list: (\[.*\])", question)
    assert found is not None
    hit = [(Fraction(one) < Fraction(found[3])) == (found[2] == "smaller") for one in ast.literal_eval(found[4])]
    return str([one for one, is_hit in zip(ast.literal_eval(found[4]), hit, strict=True) if is_hit == (found[1] == "Keep")])


def legs(question: str) -> str:
    """A second table of legs, by groups."""
    groups = {0: "snake slug jelly worm leech", 2: "chicken bird human duck", 5: "starfish", 8: "spider scorpion",
              10: "crab lobster shrimp", 14: "woodlouse",
              6: "insect ant butterfly beetle bee wasp grasshopper cricket cockroach mantis firefly"}  # fmt: skip
    total = 0
    for count, animal in re.findall(r"(\d+) ([a-z ]+)", question.split("if you have")[1]):
        names = [(len(name), amount) for amount, group in groups.items() for name in group.split() if name in animal]
        total += int(count) * (max(names)[1] if names and "elephant" not in animal else 4)
    return str(total)


SOLVERS: dict[str, Callable[[str], str]] = {
    "base_conversion": convert,
    "basic_arithmetic": lambda q: str(exact(q.removeprefix("Calculate ").removesuffix("."))),
    "chain_sum": lambda q: str(exact(q.split(": ")[1].removesuffix("="))),
    "count_bits": lambda q: str(numbers(q)[-1].bit_count()),
    "count_primes": lambda q: str(len(list(sympy.primerange(numbers(q)[0], numbers(q)[1] + 1)))),
    "decimal_chain_sum": lambda q: str(exact(q.split(": ")[1].removesuffix("="))),
    "fraction_simplification": lambda q: str(Fraction(*numbers(q)[:2])),
    "gcd": lambda q: str(math.gcd(*numbers(q))),
    "lcm": lambda q: str(math.lcm(*numbers(q))),
    "leg_counting": legs,
    "letter_counting": lambda q: str(q.split('text: "')[1].lower().count(q.split('"')[1])),
    "number_filtering": keep,
    "number_sorting": lambda q: str(
        sorted(re.findall(r"-?\d+(?:\.\d+)?", q.splitlines()[0]), key=Fraction, reverse="descending" in q.splitlines()[0])
    ),
    "prime_factorization": lambda q: " × ".join(
        str(prime) for prime, power in sorted(sympy.factorint(numbers(q)[0]).items()) for _ in range(power)
    ),
    "products": lambda q: str(math.prod(numbers(q))),
    "simple_equations": solve,
    "spell_backward": lambda q: "".join(reversed(q.rsplit(": ", 1)[1])),
    "word_sorting": lambda q: ", ".join(
        sorted(q.rsplit(": ", 1)[1].strip().split(", "), reverse="sort these words in descending" in q)
    ),
}


@pytest.mark.parametrize("generator", sorted(GENERATORS))
def test_derived_answers_agree_with_a_third_way_and_with_the_generator(generator: str) -> None:
    verifier = get(GENERATORS[generator].verifier)
    for problem in some(generator):
        answer = GENERATORS[generator].derive(problem.entry).answer
        assert verifier.score(answer, SOLVERS[generator](problem.question)).right, problem.question
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
