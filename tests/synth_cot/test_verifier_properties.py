"""What holds for every input of a verifier: symmetry, equivalent forms, monotonicity, an end in time."""

from __future__ import annotations

import json
import multiprocessing
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth_cot.verifiers import get
from synth_cot.verifiers.boxes import duplicates
from synth_cot.verifiers.plain_text import edit_distance
from synth_cot.verifiers.referee import Referee

numbers = st.one_of(
    st.integers(-(10**6), 10**6).map(str),
    st.decimals(min_value=-999, max_value=999, places=3).map(str),
    st.tuples(st.integers(-99, 99), st.integers(1, 99)).map(lambda pair: f"{pair[0]}/{pair[1]}"),
    st.tuples(st.integers(-99, 99), st.integers(1, 99)).map(lambda pair: rf"\frac{{{pair[0]}}}{{{pair[1]}}}"),
)


@given(numbers, numbers)
def test_mathematics_is_symmetric_and_reflexive_on_numbers(left: str, right: str) -> None:
    assert get("math").score(left, left).right
    assert get("math").score(left, right).score == get("math").score(right, left).score


@given(st.lists(numbers, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_a_set_is_equal_in_any_order_and_a_tuple_in_one(values: list[str], draw: Any) -> None:
    mixed = draw.sample(values, len(values))
    assert get("math").score("{" + ", ".join(mixed) + "}", "{" + ", ".join(values) + "}").right
    same = all(get("math").score(one, other).right for one, other in zip(values, mixed, strict=True))
    assert get("math").score(f"({', '.join(mixed)})", f"({', '.join(values)})").right == same


@given(st.integers(-999, 999), st.sampled_from([("km", "m", 1000), ("m", "cm", 100), ("h", "min", 60), ("kg", "g", 1000)]))
def test_units_convert_both_ways(amount: int, pair: tuple[str, str, int]) -> None:
    large, small, factor = pair
    assert get("math").score(f"{amount} {large}", f"{amount * factor} {small}").right
    assert get("math").score(f"{amount * factor} {small}", f"{amount} {large}").right
    assert not get("math").score(f"{amount + 1} {large}", f"{amount * factor} {small}").right


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=2, max_size=4), st.integers(-4, 4))
def test_a_polynomial_equals_its_other_forms_and_no_neighbour(coefficients: list[int], shift: int) -> None:
    power = " + ".join(f"({c})*x^{n}" for n, c in enumerate(coefficients))
    horner = str(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        horner = f"({horner})*x + ({c})"
    latex = " + ".join(rf"\left({c}\right) \cdot x^{{{n}}}" for n, c in enumerate(coefficients))
    for form in (horner, latex):
        assert get("math").score(form, power).right
        assert get("math").score(power, form).right
    assert get("math").score(f"{power} + {shift}", power).right == (shift == 0)


names = st.sampled_from(["find", "play", "maps.route"])
literals = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-99, 99), st.text("abc ü", max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from("xyz"), inner, max_size=2)),
    max_leaves=4,
)
calls = st.lists(
    st.fixed_dictionaries(
        {"name": names, "arguments": st.dictionaries(st.sampled_from(["a", "b", "c"]), literals, max_size=3)}
    ),
    min_size=1,
    max_size=3,
)


def python(call: dict[str, Any]) -> str:
    return f"{call['name']}({', '.join(f'{key}={value!r}' for key, value in call['arguments'].items())})"


@given(calls)
def test_calls_are_equal_in_json_in_python_and_in_any_order(made: list[dict[str, Any]]) -> None:
    verifier = get("function_call")
    shuffled = [{**call, "arguments": dict(reversed(call["arguments"].items()))} for call in reversed(made)]
    for said in (json.dumps(made), json.dumps(shuffled), f"[{', '.join(map(python, shuffled))}]", "\n".join(map(python, made))):
        assert verifier.score(said, made).right
    same = [json.dumps(call, sort_keys=True) for call in made] == [json.dumps(call, sort_keys=True) for call in shuffled]
    assert verifier.score(json.dumps(shuffled), {"calls": made, "ordered": True}).right == same


@given(calls, calls)
def test_calls_are_symmetric_and_bounded(left: list[dict[str, Any]], right: list[dict[str, Any]]) -> None:
    there = get("function_call").score(json.dumps(left), right).score
    assert there == pytest.approx(get("function_call").score(json.dumps(right), left).score)
    assert 0.0 <= there <= 1.0


@given(calls, st.data())
def test_a_spoilt_argument_never_raises_the_score(made: list[dict[str, Any]], data: Any) -> None:
    place = data.draw(st.integers(0, len(made) - 1))
    arguments = dict(made[place]["arguments"], a="spoilt")
    spoilt = [*made[:place], {**made[place], "arguments": arguments}, *made[place + 1 :]]
    assert get("function_call").score(json.dumps(spoilt), made).score < 1.0


@given(st.sampled_from("ABCDEFGH"), st.sampled_from("ABCDEFGH"))
def test_every_way_to_choose_an_option_chooses_it(said: str, truth: str) -> None:
    forms = (
        "{0}",
        "({0})",
        "{0}.",
        "**{0}**",
        "Answer: {0}",
        "The correct option is {0}.",
        r"\boxed{{{0}}}",
        "{0}) something blue",
    )
    for form in forms:
        assert get("option").score(form.format(said), truth).right == (said == truth)
    if said != truth:
        for form in ("{0} or {1}", "{0}, {1}", "({0}) ({1})", "{0}) this {1}) that"):
            assert get("option").score(form.format(truth, said), truth).score == 0.0


@given(st.text("abcü😀", max_size=12), st.text("abcü😀", max_size=12))
def test_the_edit_distance_is_that_of_the_plain_recursion(left: str, right: str) -> None:
    previous = list(range(len(right) + 1))
    for row, one in enumerate(left, start=1):
        current = [row]
        for column, other in enumerate(right, start=1):
            current.append(min(previous[column] + 1, current[-1] + 1, previous[column - 1] + (one != other)))
        previous = current
    assert edit_distance(left, right) == previous[-1]


@given(st.integers(0, 99))
def test_a_number_in_words_is_that_number(number: int) -> None:
    ones = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
    ]
    ones += ["eighteen", "nineteen"]
    tens = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
    words = ones[number] if number < 20 else tens[number // 10 - 2] + (f"-{ones[number % 10]}" if number % 10 else "")
    assert get("count").score(f"There are {words}.", number).right


@given(st.integers(1, 4))
def test_each_repetition_of_a_box_costs_more_than_a_guess(times: int) -> None:
    box, guesses = [0, 0, 100, 100], [[500 + 20 * n, 500, 510 + 20 * n, 510] for n in range(times)]
    repeated = get("boxes").score(json.dumps([box] * (times + 1)), [box]).score
    guessed = get("boxes").score(json.dumps([box, *guesses]), [box]).score
    assert repeated < guessed
    assert duplicates([(0, 0, 100, 100)] * (times + 1)) == times


def test_a_comparison_that_does_not_end_is_ended_and_the_next_one_is_answered() -> None:
    referee = Referee(seconds=0.2)
    slow = {"left": r"\int_0^1 \sin(x^{x^{x}}) \cos(\tan(x^{2})) dx", "right": "y"}
    begun = time.monotonic()
    assert referee.ask({"left": "x + x", "right": "2*x"}) == {"equal": True}
    assert referee.ask(slow) is None
    assert referee.ask({"left": "x + x", "right": "3*x"}) == {"equal": False}
    assert time.monotonic() - begun < 60
    referee.end()


HOSTILE = (
    "$" * 1000, "*" * 1000, "(" * 500, "((" + "1," * 490, "|" * 900, "!" * 900, "5 " * 450, "x=" * 450, "1,2 or " * 140,
    r"\frac{" * 160, r"\frac{1}{" * 90 + "2" + "}" * 90, r"\sqrt{" * 120 + "2" + "}" * 120, r"\boxed{" * 120,
    "{" * 400 + "}" * 400, "x^" * 400 + "x", "1/" * 450 + "1", "-" * 900 + "1", r"\left(" * 150, "<" * 900, "sin " * 250,
    "{" + ", ".join(f"sin({n}x)" for n in range(45)) + "}", "a+" * 400 + "a", "9" * 900, "0." + "3" * 900,
    r"\begin{matrix}" * 60, r"\text{" * 150, "2^{3^{4^{5^{6}}}}", r"\int " * 150, "1e999999999",
)  # fmt: skip


@pytest.mark.parametrize("said", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_answer_is_judged_in_bounded_time(said: str) -> None:
    begun = time.monotonic()
    for truth in ("3/4", "x^2 + 1", "{sin(x), cos(x), 3}"):
        assert get("math").score(said, truth).score == 0.0
    assert time.monotonic() - begun < 60  # a busy machine is no error; without the bounds some would not end in a day


def _in_a_worker(said: str) -> float:
    return get("math").score(said, "sqrt(8)").score


def test_symbols_compare_in_threads_and_in_worker_processes() -> None:
    said = [r"2\sqrt{2}", r"\sqrt{2}", "8^{1/2}", "3"]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(_in_a_worker, said)) == [1.0, 0.0, 1.0, 0.0]
    with multiprocessing.get_context("fork").Pool(2) as workers:
        assert workers.map(_in_a_worker, said) == [1.0, 0.0, 1.0, 0.0]
