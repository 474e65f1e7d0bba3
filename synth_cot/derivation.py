"""What deriving an answer yields: a plan, the steps, a check of the result, and the answer.

Steps state what they compute so that it can be recomputed from the text alone: equations (``12 + 5 = 17``), comparisons
(``-3 < 2 < 7``), and statements about the letters of a quoted word. `synth_cot.checks.claims` is what recomputes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, kw_only=True)
class Derivation:
    """A worked answer.

    Attributes:
        plan: what will be done, in one sentence.
        steps: what was done, in order.
        check: what confirms the result.
        answer: as the problem asks for it.
    """

    plan: str
    steps: tuple[str, ...]
    check: str
    answer: str


def number(value: Fraction | int) -> str:
    """A number in plain decimal form, exact.

    Raises:
        ValueError: the number has no finite decimal form.
    """
    exact = Fraction(value)
    if exact.denominator == 1:
        return str(exact.numerator)
    for digits in range(1, 31):
        scaled = exact * 10**digits
        if scaled.denominator == 1:
            whole, rest = divmod(abs(scaled.numerator), 10**digits)
            return f"{'-' if exact < 0 else ''}{whole}.{rest:0{digits}d}"
    raise ValueError(f"{exact} has no short decimal form")


def signed(value: Fraction | int) -> str:
    """A number as the right side of an operator: negative ones in brackets."""
    return f"({number(value)})" if value < 0 else number(value)
