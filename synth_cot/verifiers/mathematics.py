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

import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from synth_cot.verifiers import math_forms, scalars
from synth_cot.verifiers.answer_format import final_answer
from synth_cot.verifiers.math_forms import Form
from synth_cot.verifiers.referee import REFEREE
from synth_cot.verifiers.verdict import Verdict

_ELEMENTS, _QUESTIONS, _SECONDS = 50, 60, 15.0


class UnreadError(ValueError):
    """A side is no mathematics that can be read: ``left`` the prediction, ``right`` the truth."""

    def __init__(self, side: str) -> None:
        super().__init__(f"the {side} side is no mathematics")
        self.side = side


class UndecidedError(Exception):
    """The comparison took too long."""


class _Comparison:
    """One comparison of two answers, with a bound on all that it asks of the referee.

    Raises (every method):
        UnreadError: a scalar of one side cannot be read.
        UndecidedError: a bound was reached.
    """

    def __init__(self) -> None:
        self.asked, self.began = 0, time.monotonic()

    def equal(self, left: Form, right: Form) -> bool:
        """Whether two answers are equal."""
        if left.kind == "equation" and right.kind == "equation":
            return self._equations(left, right)
        for one, other in ((left, right), (right, left)):
            inner = None
            if one.kind == "equation" and other.kind == "scalar":  # A = expression, where the expression is asked for
                if len(one.parts[0].text) > 3:
                    return False
                inner = one.parts[1]
            elif one.kind == "set" and len(one.parts) == 1 and other.kind in ("scalar", "list"):
                inner = one.parts[0]
            if inner is not None:
                return self.equal(inner, right) if one is left else self.equal(left, inner)
        if left.kind != right.kind:
            return False
        if left.kind == "scalar":
            return self._scalars(left, right)
        if left.kind == "list":
            same_shape = len(left.parts) == len(right.parts) and left.brackets == right.brackets
            return same_shape and all(self.equal(one, other) for one, other in zip(left.parts, right.parts, strict=True))
        return self._sets(left.parts, right.parts)

    def _sets(self, left: Sequence[Form], right: Sequence[Form]) -> bool:
        """Every element of each is one of the other: a set knows no repetition."""
        if max(len(left), len(right)) > _ELEMENTS:
            return False
        return all(any(self.equal(one, other) for other in right) for one in left) and all(
            any(self.equal(one, other) for one in left) for other in right
        )

    def _scalars(self, left: Form, right: Form) -> bool:
        if isinstance(left.unit, str) or isinstance(right.unit, str):  # a unit nobody knows must be the same, or stand alone
            return left.unit == right.unit and self.values(left.text, right.text)
        if left.unit is not None and right.unit is not None:
            return left.unit[0] == right.unit[0] and self.values(left.text, right.text, left.unit[1], right.unit[1])
        share = next((unit[1] for unit in (left.unit, right.unit) if unit is not None and unit[0] == "share"), None)
        if share is not None:
            one, other = (share, Fraction(1)) if left.unit is not None else (Fraction(1), share)
            if self.values(left.text, right.text, one, other):
                return True
        return self.values(left.text, right.text)

    def values(self, left: str, right: str, left_factor: Fraction = Fraction(1), right_factor: Fraction = Fraction(1)) -> bool:
        """Whether two expressions, each times a factor, are equal."""
        values = [scalars.rational(scalars.plain(text)) for text in (left, right)]
        if values[0] is not None and values[1] is not None:
            return values[0] * left_factor == values[1] * right_factor
        pairs = ((left, left_factor), (right, right_factor))
        texts = [text if factor == 1 else f"({text})*({factor})" for text, factor in pairs]
        return self._ask({"left": texts[0], "right": texts[1]})

    def _equations(self, left: Form, right: Form) -> bool:
        if all(scalars.rational(scalars.plain(part.text)) is not None for form in (left, right) for part in form.parts):
            return [part.text for part in left.parts] == [part.text for part in right.parts]
        one, other = (f"({form.parts[0].text})-({form.parts[1].text})" for form in (left, right))
        return self._ask({"left": one, "right": other, "equations": True})

    def reads(self, form: Form) -> bool:
        """Whether every scalar of a form can be read."""
        try:
            return (form.kind != "scalar" or self.values(form.text, form.text)) and all(map(self.reads, form.parts))
        except (UnreadError, UndecidedError):
            return False

    def _ask(self, question: dict[str, Any]) -> bool:
        self.asked += 1
        if self.asked > _QUESTIONS or time.monotonic() - self.began > _SECONDS:
            raise UndecidedError
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
        comparison = _Comparison()
        try:
            if comparison.equal(given, wanted):
                return Verdict(1.0, "equal")
        except UnreadError as error:
            if error.side == "right" and not comparison.reads(wanted):
                raise ValueError(f"the truth {truth!r} is no mathematics that this verifier reads") from error
            return Verdict(0.0, "not mathematics")
        except UndecidedError:
            return Verdict(0.0, "not decided within the time limit")
        return Verdict(0.0, f"{answer[:60]} is not {str(truth)[:60]}")


VERIFIER = MathVerifier()
