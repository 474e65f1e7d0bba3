"""Verifiers: hand-checkable cases, and properties that hold for every input."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth_cot.verifiers import NAMES, get

RIGHT: list[tuple[str, str, Any]] = [
    ("math", "3/4", "0.75"),
    ("math", r"\frac{3}{4}", "3/4"),
    ("math", r"$\dfrac{21}{31}$", "21/31"),
    ("math", "1,024", "2^{10}"),
    ("math", "x = 5", "5"),
    ("math", r"\sqrt{8}", "2*sqrt(2)"),
    ("math", r"\boxed{7}", "7"),
    ("math", "3 + 4i", "4i + 3"),
    ("math", "(x+1)^2", "x^2 + 2x + 1"),
    ("math", "sin(x)**2 + cos(x)**2", "1"),
    ("math", "1e5", "100000"),
    ("math", "−2.50", "-5/2"),
    ("math", r"2 \cdot 3", "6"),
    ("count", "7", 7),
    ("count", "seven", "7"),
    ("count", "There are 7 buttons.", 7),
    ("count", "7.0", 7),
    ("count", "1,007", 1007),
    ("text", '  "Hello   World" ', "hello world"),
    ("text", "ﬁle", "file"),
    ("text", "STRASSE", "straße"),
    ("option", "B", "B"),
    ("option", "(b)", "B"),
    ("option", "B) the blue one", "B"),
    ("option", "Option B", "B"),
    ("option", "The answer is **B**", "B"),
    ("boxes", "[[10, 20, 30, 40]]", "[[10, 20, 30, 40]]"),
    ("boxes", "[[1,2,3,4],[5,6,7,8]]", [[5, 6, 7, 8], [1, 2, 3, 4]]),
    ("boxes", "[]", "[]"),
    ("intervals", "[[1, 2.5]]", "[[1.0, 2.5]]"),
    ("intervals", "[[1, 2], [2, 4]]", [[1, 4]]),
    ("intervals", "[[0:01, 1:15.5]]", [[1, 75.5]]),
    ("intervals", "[]", []),
    ("order", "['-1.0', '2']", "-1, 2.00"),
    ("order", "2 × 2 × 3", [2, 2, 3]),
    ("order", "B > a > C", ["b", "A", "c"]),
    ("order", "[]", "[]"),
    ("format", "<think>a</think><answer>b</answer>", "think"),
    ("format", "<answer>b</answer>", "direct"),
]
WRONG: list[tuple[str, str, Any]] = [
    ("math", "0.333", "1/3"),
    ("math", "x^2", "x^3"),
    ("math", "9**9**9**9", "1"),
    ("math", "2e300000000", "1"),
    ("math", "1/0", "1"),
    ("math", "__import__('os').getcwd()", "1"),
    ("math", "(" * 200, "1"),
    ("math", "", "1"),
    ("count", "6 or 7", 7),
    ("count", "7.5", 7),
    ("count", "7 or 7.5", 7),
    ("count", "-7", 7),
    ("count", "9" * 5000, 7),
    ("count", "many", 7),
    ("text", "hello world!", "hello world"),
    ("option", "A button", "A"),
    ("option", "Bob", "B"),
    ("option", "A or B", "A"),
    ("boxes", "somewhere", "[[1, 2, 3, 4]]"),
    ("boxes", "[[1, 2, 3, 4], [1, 2, 3, 4]]", "[[1, 2, 3, 4]]"),
    ("boxes", "[[30, 40, 10, 20]]", "[[10, 20, 30, 40]]"),
    ("intervals", "[[2, 1]]", [[1, 2]]),
    ("intervals", f"[[1, {'9' * 400}]]", [[1, 2]]),
    ("order", "a, b", "b, a"),
    ("order", "1e999999999", "1"),
    ("format", "<think>a</think>b", "any"),
    ("format", "<answer>b</answer><answer>b</answer>", "any"),
    ("format", "<think></think><answer>b</answer>", "any"),
    ("format", "<answer>b</answer>", "think"),
    ("format", "<answer>b</answer> and more", "any"),
]


@pytest.mark.parametrize(("name", "prediction", "truth"), RIGHT)
def test_right_answers_score_one_bare_and_tagged(name: str, prediction: str, truth: Any) -> None:
    assert get(name).score(prediction, truth).score == 1.0
    if name != "format":
        assert get(name).score(f"<think>Because.</think>\n<answer>{prediction}</answer>", truth).right


@pytest.mark.parametrize(("name", "prediction", "truth"), WRONG)
def test_wrong_answers_score_below_one(name: str, prediction: str, truth: Any) -> None:
    verdict = get(name).score(prediction, truth)
    assert verdict.score < 1.0
    assert verdict.reason


TRUTHS: dict[str, Any] = {
    "math": "3/4", "count": 3, "text": "abc", "option": "B", "boxes": [[1, 2, 3, 4]], "intervals": [[1, 2]], "order": "a, b",
    "format": "any", "function_call": [{"name": "f", "arguments": {"a": 1}}],
}  # fmt: skip
PURE = tuple(TRUTHS)  # those that run nothing


@given(st.sampled_from(PURE), st.text(max_size=60))
def test_anything_a_model_says_gets_a_score_in_bounds(name: str, said: str) -> None:
    assert 0.0 <= get(name).score(said, TRUTHS[name]).score <= 1.0


@given(
    st.sampled_from([name for name in PURE if name != "format"]),
    st.text(alphabet="0123456789[],.-+*/^()eExa:{}\\", max_size=40),
)
def test_anything_that_looks_like_an_answer_gets_a_score_in_bounds(name: str, said: str) -> None:
    assert 0.0 <= get(name).score(said, TRUTHS[name]).score <= 1.0


@pytest.mark.parametrize("name", [name for name in PURE if name != "format"])
def test_an_answer_hidden_in_broken_tags_is_worth_nothing(name: str) -> None:
    assert get(name).score("<answer>1</answer><answer>1</answer>", TRUTHS[name]).score == 0.0


def test_every_verifier_says_its_version_and_what_it_needs() -> None:
    assert set(NAMES) == {*PURE, "code"}
    for name in NAMES:
        assert get(name).name == name
        assert get(name).version
        assert get(name).needs


def test_an_unknown_verifier_names_those_there_are() -> None:
    with pytest.raises(KeyError, match="no verifier 'maths': one of boxes, code, count, format"):
        get("maths")


@given(st.fractions(min_value=-1000, max_value=1000, max_denominator=999))
def test_every_way_to_write_a_fraction_is_the_same_number(number: Fraction) -> None:
    plain, latex = f"{number.numerator}/{number.denominator}", rf"\frac{{{number.numerator}}}{{{number.denominator}}}"
    assert get("math").score(latex, plain).right
    assert get("math").score(plain, f"{number.numerator * 7}/{number.denominator * 7}").right
    assert not get("math").score(plain, f"{number.numerator + 1}/{number.denominator}").right


times = st.integers(0, 400).map(lambda tick: tick / 4)
interval_sets = st.lists(st.tuples(times, st.integers(1, 80)).map(lambda t: (t[0], t[0] + t[1] / 4)), min_size=1, max_size=4)


@given(interval_sets, interval_sets)
def test_intervals_are_symmetric_and_one_only_when_equal(
    left: list[tuple[float, float]], right: list[tuple[float, float]]
) -> None:
    from synth_cot.verifiers.intervals import union

    there = get("intervals").score(json.dumps(left), right).score
    back = get("intervals").score(json.dumps(right), left).score
    assert there == pytest.approx(back, abs=1e-12)
    assert (there == 1.0) == (union(left) == union(right))


@given(interval_sets, st.integers(0, 50), st.integers(1, 50))
def test_of_two_misses_the_nearer_scores_higher(truth: list[tuple[float, float]], near: int, further: int) -> None:
    end = max(stop for _, stop in truth)
    scores = [get("intervals").score(f"[[{end + gap}, {end + gap + 5}]]", truth).score for gap in (near, near + further)]
    assert scores[0] > scores[1] > 0.0


@given(st.integers(0, 30))
def test_the_distance_of_a_shift_is_the_shift(shift: int) -> None:
    from synth_cot.verifiers.intervals import distance

    assert distance([(0.0, 4.0), (10.0, 12.0)], [(0.0 + shift, 4.0 + shift), (10.0 + shift, 12.0 + shift)]) == pytest.approx(
        shift
    )


corners = st.integers(0, 900)
boxes = st.tuples(corners, corners, st.integers(1, 100), st.integers(1, 100)).map(
    lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]
)
box_sets = st.lists(boxes, min_size=1, max_size=4)


@given(box_sets, box_sets)
def test_boxes_are_symmetric_and_ignore_order(left: list[list[int]], right: list[list[int]]) -> None:
    there = get("boxes").score(json.dumps(left), right).score
    assert there == pytest.approx(get("boxes").score(json.dumps(right), left).score, abs=1e-12)
    assert there == pytest.approx(get("boxes").score(json.dumps(left[::-1]), right[::-1]).score, abs=1e-12)
    assert get("boxes").score(json.dumps(left), left[::-1]).score == 1.0


@given(boxes, st.integers(1, 20), st.integers(1, 20))
def test_a_box_further_off_never_scores_higher(box: list[int], one: int, more: int) -> None:
    x0, y0, x1, y1 = box
    near, far = ([x0 + shift, y0, x1 + shift, y1] for shift in (one, one + more))
    scores = [get("boxes").score(json.dumps([moved]), [box]).score for moved in (near, far)]
    assert 1.0 > scores[0] >= scores[1]


def test_the_matching_is_the_best_and_not_the_first() -> None:
    # The first box overlaps both truths; taking it greedily for the first would leave the second box with nothing.
    truth = [[0, 0, 100, 100], [50, 0, 150, 100]]
    score = get("boxes").score("[[40, 0, 140, 100], [0, 0, 100, 100]]", truth).score
    assert score == pytest.approx((90 / 110 + 1) / 2)


def test_spare_and_missing_boxes_cost() -> None:
    assert get("boxes").score("[[0, 0, 10, 10], [500, 500, 510, 510]]", [[0, 0, 10, 10]]).score == 0.5
    assert get("boxes").score("[[0, 0, 10, 10]]", [[0, 0, 10, 10], [500, 500, 510, 510]]).score == 0.5


words = st.lists(st.sampled_from(["ape", "bee", "cat", "dog", "eel"]), max_size=6)


@given(words, words)
def test_order_is_symmetric_and_one_only_when_equal(left: list[str], right: list[str]) -> None:
    there = get("order").score(", ".join(left), right).score
    assert there == get("order").score(", ".join(right), left).score
    assert (there == 1.0) == (left == right)


@given(st.text(max_size=30), st.text(max_size=30))
def test_text_is_symmetric_and_one_only_when_the_same(left: str, right: str) -> None:
    from synth_cot.verifiers.plain_text import TextVerifier, normalise

    if "<" in left or "<" in right:
        return
    there = TextVerifier().score(left, right).score
    assert there == TextVerifier().score(right, left).score
    assert (there == 1.0) == (normalise(left) == normalise(right))
    assert normalise(normalise(left)) == normalise(left)


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_count_is_exact(said: int, truth: int) -> None:
    assert get("count").score(f"{said:,}", truth).right == (said == truth)


@pytest.mark.parametrize(
    "said",
    [
        "(a+b+c+d+f+g)**64",
        "((a+b+c+d+f+g)*(b+c+d+f+g+h)*(a+c+d+f+g+h)*(a+b+c+d+f+h))**8",
        "exp(exp(exp(exp(9))))",
        "sin(exp(10**64))",
        "exp(10**64)",
        "*".join(["99**60"] * 40),
        "sin(cos(tan(sin(cos(tan(sin(x)))))))**9*cos(tan(sin(cos(y))))**7 - log(x)",
        "sqrt(sqrt(2)+sqrt(3)+sqrt(5)+sqrt(7)+sqrt(11))**6",
        "((((x+1)**64)**64)**64)**64",
        "1/(x-x)",
        "0**(-3)",
    ],
)
def test_no_answer_takes_long_to_judge(said: str) -> None:
    began = time.monotonic()
    assert not get("math").score(said, "x^2 + 1").right
    assert get("math").score(said, "3/4").score == 0.0
    assert time.monotonic() - began < 5


def test_scores_are_finite_for_extreme_boxes() -> None:
    assert math.isfinite(get("boxes").score(f"[[0, 0, {'9' * 400}, 10]]", [[0, 0, 10, 10]]).score)


def test_importing_the_verifiers_loads_nothing_heavy() -> None:
    heavy = ("scipy", "sympy", "reasoning_gym", "duckdb")
    code = f"import sys, synth_cot, synth_cot.verifiers; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
