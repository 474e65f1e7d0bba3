"""One mathematical expression as text: cleaned of typesetting, read exactly where it is a rational number, and for `symbolic`
as a syntax tree. Text from a model is never evaluated as code: of the tree only numbers, single letters, a few functions and
arithmetic are accepted, within bounds on size and exponents.
"""

from __future__ import annotations

import ast
import re
from fractions import Fraction
from typing import Any

LONGEST, NODES, EXPONENT, DIGITS, BITS = 300, 80, 64, 200, 4_096
FUNCTIONS = ("sqrt", "cbrt", "sin", "cos", "tan", "exp", "log", "ln", "abs", "factorial")
CONSTANTS = ("pi", "infinity")
_FRAC = re.compile(r"\\[dtc]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_SHORT_FRAC = re.compile(r"\\[dtc]?frac\s*(?:\{([^{}]*)\}|(\d))\s*(?:\{([^{}]*)\}|(\d))")
_ROOT = re.compile(r"\\sqrt\s*(?:\[\s*(\d+)\s*\])?\s*(?:\{([^{}]*)\}|(\d))")
_WHOLE_AND_PART = re.compile(r"(?<![\w.)}/^])(\d+)\s*(?:\\[dtc]?frac\s*\{?(\d+)\}?\s*\{?(\d+)\}?|\s(\d+)\s*/\s*(\d+))(?![\w.])")
_REPEATING = re.compile(r"(?<![\w.])(\d*)\.(\d*)\\overline\s*\{(\d+)\}")
_SYMBOLS = re.compile(r"(?<![A-Za-z\\])[A-Za-z]{2,3}(?![A-Za-z(])")
_REWRITES = (
    ("−", "-"), ("–", "-"), ("×", "*"), ("·", "*"), ("÷", "/"), ("∞", " infinity "), ("π", " pi "), ("²", "^2"), ("³", "^3"),
    ("\\cdot", "*"), ("\\times", "*"), ("\\div", "/"), ("\\infty", " infinity "), ("\\pi", " pi "), ("\\left", ""),
    ("\\right", ""),
    ("\\!", ""), ("\\,", ""), ("\\;", " "), ("\\:", " "), ("\\ ", " "), ("~", " "), ("{,}", ""), ("^", "**"), ("√", "sqrt"),
)  # fmt: skip


def plain(text: str) -> str:
    """LaTeX as the same in plain signs, where that is simple; what is not keeps its backslashes."""
    text = _WHOLE_AND_PART.sub(lambda match: f"({match[1]}+{match[2] or match[4]}/{match[3] or match[5]})", text)
    text = _REPEATING.sub(_repeating, text)
    for _ in range(8):
        text = _ROOT.sub(_root, _FRAC.sub(r"((\1)/(\2))", text))
    text = _SHORT_FRAC.sub(lambda match: f"(({match[1] or match[2]})/({match[3] or match[4]}))", text)
    for old, new in _REWRITES:
        text = text.replace(old, new)
    text = re.sub(r"\\(sin|cos|tan|exp|log|ln)(?=[\s({])", r"\1", text)
    text = text.replace("{", "(").replace("}", ")").strip()
    text = re.sub(r"\|([^|]+)\|", r"abs(\1)", text)
    text = re.sub(r"(?<![\w)!])(\w+|\([^()]*\))!(?!=)", r"factorial(\1)", text)
    # A product without a sign: 2x, 2(x+1), (a)(b), 2 pi, x y.
    text = re.sub(r"(?<=[\d)])\s*(?=[A-Za-z(])(?![eE][-+]?\d)", "*", text)
    text = _SYMBOLS.sub(lambda match: match[0] if match[0] in (*FUNCTIONS, *CONSTANTS) else "*".join(match[0]), text)
    return re.sub(r"(?<![A-Za-z])([a-zA-Z]|pi)\s+(?=(?:[a-zA-Z]|pi)(?![A-Za-z]))", r"\1*", text)


def _repeating(match: re.Match[str]) -> str:
    """0.1(6) is 16 - 1 over 90."""
    whole, head, cycle = match[1] or "0", match[2], match[3]
    return f"(({int(whole + head + cycle)}-{int(whole + head)})/{'9' * len(cycle)}{'0' * len(head)})"


def _root(match: re.Match[str]) -> str:
    inner = match[2] or match[3]
    return f"sqrt({inner})" if match[1] in (None, "2") else f"(({inner})**(1/{match[1]}))"


def tree(text: str) -> ast.expr | None:
    """The syntax tree of a plain text; None when it is none, or too long."""
    if len(text) > 2 * LONGEST or re.search(rf"\d{{{DIGITS}}}", text):
        return None
    try:
        return ast.parse(_exact_decimals(text).strip(), mode="eval").body
    except (ValueError, SyntaxError, TypeError, OverflowError, RecursionError, MemoryError):
        return None


def _exact_decimals(text: str) -> str:
    """Decimal literals as exact fractions: the syntax tree would turn them into floats."""

    def exact(match: re.Match[str]) -> str:
        exponent = re.search(r"[eE]([-+]?\d+)$", match[0])
        if exponent is not None and abs(int(exponent[1])) > DIGITS:
            raise ValueError("too large")
        value = Fraction(match[0])
        return f"({value.numerator}/{value.denominator})" if value.denominator != 1 else str(value.numerator)

    return re.sub(r"(?<![\w.])(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.])", exact, text)


def rational(text: str) -> Fraction | None:
    """The value of a plain text that is arithmetic on rational numbers; None for anything else."""
    node = tree(text)
    if node is None:
        return None
    try:
        return _value(node, [NODES])
    except (ValueError, ZeroDivisionError, RecursionError):
        return None


def _value(node: ast.AST, left: list[int]) -> Fraction:
    left[0] -= 1
    if left[0] < 0:
        raise ValueError("too long")
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return Fraction(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _value(node.operand, left)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp):
        return bounded(combine(node.op, _value(node.left, left), _value(node.right, left)))
    raise ValueError("not rational")


def combine(op: ast.operator, one: Fraction, other: Fraction) -> Fraction:
    """The result of an operation.

    Raises:
        ValueError: it is no rational number, or too large.
        ZeroDivisionError: there is none.
    """
    if isinstance(op, ast.Add):
        return one + other
    if isinstance(op, ast.Sub):
        return one - other
    if isinstance(op, ast.Mult):
        return one * other
    if isinstance(op, ast.Div):
        return one / other
    if isinstance(op, ast.Pow) and other.denominator == 1 and abs(other) <= EXPONENT:
        if max(one.numerator.bit_length(), one.denominator.bit_length()) * abs(other) > BITS:
            raise ValueError("too large")
        return one ** int(other)
    raise ValueError("not rational")


def bounded(value: Any) -> Any:
    """The value.

    Raises:
        ValueError: it has too many digits.
    """
    if isinstance(value, Fraction) and max(value.numerator.bit_length(), value.denominator.bit_length()) > BITS:
        raise ValueError("too large")
    return value
