"""Mathematical equality of answers in plain or LaTeX form; proved, never by tolerance, so 0.333 is not 1/3.

Three readers, the cheap first. Rational numbers are exact fractions, compared here (`scalars`): no library is loaded, and
nearly all answers of arithmetic end here. Other expressions go to `referee`, a process with a time limit, where sympy
compares what our own small reader or latex2sympy2_extended (the parser of math-verify) has read. math-verify as a whole is
not used: it looks for an answer within a text and rounds, so that it takes "5 or 7" for 7, 0.333333 for 1/3 and 50 for 50 %,
and its time limit needs the main thread. `benchmarks/verifier_agreement.py` lists where the two differ.

Structure is ours as well (`math_forms`): sets and bare lists compare in any order, tuples, intervals, matrices in order and
with their brackets, equations up to a constant factor. A unit may be left out; two units must convert into each other; 50 %
is 1/2 and, where one side has no sign, 50.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from synth_cot.verifiers import math_forms, scalars
from synth_cot.verifiers.answer_format import final_answer
from synth_cot.verifiers.math_forms import Form
from synth_cot.verifiers.referee import REFEREE
from synth_cot.verifiers.verdict import Verdict


class UnreadError(ValueError):
    """A side is no mathematics that can be read: ``left`` the prediction, ``right`` the truth."""

    def __init__(self, side: str) -> None:
        super().__init__(f"the {side} side is no mathematics")
        self.side = side


class UndecidedError(Exception):
    """The comparison took too long."""


def equal(left: Form, right: Form) -> bool:
    """Whether two answers are equal.

    Raises:
        UnreadError: a scalar of one side cannot be read.
        UndecidedError: the time limit was reached.
    """
    if left.kind == "equation" and right.kind == "equation":
        return _equations(left, right)
    for one, other in ((left, right), (right, left)):
        if one.kind == "equation" and other.kind == "scalar":  # A = expression, where the expression is asked for
            return len(one.parts[0].text) <= 3 and equal(
                one.parts[1] if one is left else left, right if one is left else one.parts[1]
            )
        if one.kind == "set" and len(one.parts) == 1 and other.kind in ("scalar", "list"):
            return equal(one.parts[0], right) if one is left else equal(left, one.parts[0])
    if left.kind != right.kind:
        return False
    if left.kind == "scalar":
        return _scalars(left, right)
    if left.kind == "list":
        same_shape = len(left.parts) == len(right.parts) and left.brackets == right.brackets
        return same_shape and all(equal(one, other) for one, other in zip(left.parts, right.parts, strict=True))
    return _sets(left.parts, right.parts)


def _sets(left: Sequence[Form], right: Sequence[Form]) -> bool:
    """Every element of each is one of the other: a set knows no repetition."""
    if max(len(left), len(right)) > 50:
        return False
    return all(any(equal(one, other) for other in right) for one in left) and all(
        any(equal(one, other) for one in left) for other in right
    )


def _scalars(left: Form, right: Form) -> bool:
    if isinstance(left.unit, str) or isinstance(right.unit, str):  # a unit nobody knows must be the same, or stand alone
        return left.unit == right.unit and _values(left.text, right.text, Fraction(1), Fraction(1))
    if left.unit is not None and right.unit is not None:
        return left.unit[0] == right.unit[0] and _values(left.text, right.text, left.unit[1], right.unit[1])
    share = next((unit[1] for unit in (left.unit, right.unit) if unit is not None and unit[0] == "share"), None)
    if share is not None:
        one, other = (share, Fraction(1)) if left.unit is not None else (Fraction(1), share)
        if _values(left.text, right.text, one, other):
            return True
    return _values(left.text, right.text, Fraction(1), Fraction(1))


def _values(left: str, right: str, left_factor: Fraction, right_factor: Fraction) -> bool:
    values = [scalars.rational(scalars.plain(text)) for text in (left, right)]
    if values[0] is not None and values[1] is not None:
        return values[0] * left_factor == values[1] * right_factor
    texts = [text if factor == 1 else f"({text})*({factor})" for text, factor in ((left, left_factor), (right, right_factor))]
    return _ask({"left": texts[0], "right": texts[1]})


def _equations(left: Form, right: Form) -> bool:
    if all(scalars.rational(scalars.plain(part.text)) is not None for form in (left, right) for part in form.parts):
        return [part.text for part in left.parts] == [part.text for part in right.parts]
    one, other = (f"({form.parts[0].text})-({form.parts[1].text})" for form in (left, right))
    return _ask({"left": one, "right": other, "equations": True})


def _ask(question: dict[str, Any]) -> bool:
    found = REFEREE.ask(question)
    if found is None:
        raise UndecidedError
    if "unread" in found:
        raise UnreadError(str(found["unread"]))
    return bool(found["equal"])


@dataclass(frozen=True)
class MathVerifier:
    """1 for a mathematically equal answer, else 0."""

    name: str = "math"
    version: str = "2"
    needs: str = "sympy and latex2sympy2_extended, in a process of its own"

    def score(self, prediction: str, truth: Any) -> Verdict:
        """See `Verifier.score`; the truth is a number, an expression, or another form of `math_forms`, as text."""
        wanted = math_forms.read(str(truth))
        if wanted is None:
            raise ValueError(f"the truth {truth!r} is no mathematics that this verifier reads")
        answer = final_answer(prediction)
        if answer is None:
            return Verdict(0.0, "malformed response")
        given = math_forms.read(answer)
        if given is None:
            return Verdict(0.0, "not mathematics")
        try:
            if equal(given, wanted):
                return Verdict(1.0, "equal")
        except UnreadError as error:
            if error.side == "right" and not _reads(wanted):
                raise ValueError(f"the truth {truth!r} is no mathematics that this verifier reads") from error
            return Verdict(0.0, "not mathematics")
        except UndecidedError:
            return Verdict(0.0, "not decided within the time limit")
        return Verdict(0.0, f"{answer[:60]} is not {str(truth)[:60]}")


def _reads(form: Form) -> bool:
    """Whether every scalar of a form can be read."""
    try:
        return all(_reads(part) for part in form.parts) and (
            form.kind != "scalar" or _values(form.text, form.text, Fraction(1), Fraction(1))
        )
    except (UnreadError, UndecidedError):
        return False


VERIFIER = MathVerifier()
