"""Mathematical equality: exact rational arithmetic first, then symbolic (sympy); never by tolerance, so 0.333 is not 1/3.

Read are plain and LaTeX forms: ``3/4``, ``\\frac{3}{4}``, ``$0.75$``, ``1,024``, ``2^{10}``, ``x = 5``, ``\\sqrt{2}``,
``3 + 4i``, ``\\boxed{7}``. Text from a model is never evaluated as code: it is parsed to a syntax tree, of which only numbers,
single letters, a few functions and arithmetic are accepted, within bounds on size and exponents that keep every
comparison short.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from synth_cot.verifiers.answer_format import final_answer
from synth_cot.verifiers.verdict import Verdict

_LONGEST, _NODES, _EXPONENT, _DIGITS, _BITS = 300, 80, 64, 200, 4_096
_TERMS, _OPERATIONS = 2_000, 40
_FUNCTIONS = ("sqrt", "sin", "cos", "tan", "exp", "log", "ln", "abs")
_FRAC = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_SQRT = re.compile(r"\\sqrt\s*\{([^{}]*)\}")
_REWRITES = (("−", "-"), ("×", "*"), ("·", "*"), ("÷", "/"), ("\\cdot", "*"), ("\\times", "*"), ("\\left", ""), ("\\right", ""),
             ("\\pi", "pi"), ("π", "pi"), ("\\(", ""), ("\\)", ""), ("$", ""), ("\\,", ""), ("^", "**"))  # fmt: skip


def _plain(text: str) -> str:
    text = text.strip()
    while match := re.fullmatch(r"\$*\s*\\boxed\{(.*)\}\s*\$*", text, re.S):
        text = match[1]
    for _ in range(8):
        text = _SQRT.sub(r"sqrt(\1)", _FRAC.sub(r"((\1)/(\2))", text))
    for old, new in _REWRITES:
        text = text.replace(old, new)
    text = text.replace("{", "(").replace("}", ")").strip().rstrip(".").strip()
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    text = re.sub(r"^[A-Za-z]\s*=(?!=)\s*", "", text)
    return re.sub(r"(?<=[\d)])\s*(?=[A-Za-z(])(?![eE][-+]?\d)", "*", text)


class _Reader:
    """A syntax tree to a Fraction, or to a sympy expression where it is no rational number."""

    def __init__(self) -> None:
        self.nodes = 0

    def read(self, node: ast.AST) -> Any:
        self.nodes += 1
        if self.nodes > _NODES:
            raise ValueError("too long")
        if isinstance(node, ast.Expression):
            return self.read(node.body)
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return Fraction(node.value)
        if isinstance(node, ast.Name):
            return _symbol(node.id)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            value = self.read(node.operand)
            return -value if isinstance(node.op, ast.USub) else value
        if isinstance(node, ast.BinOp):
            return _bounded(self.combine(node.op, self.read(node.left), self.read(node.right)))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 1 and not node.keywords:
            return _call(node.func.id, self.read(node.args[0]))
        raise ValueError("not mathematics")

    def combine(self, op: ast.operator, left: Any, right: Any) -> Any:
        if isinstance(op, ast.Pow):
            if (
                isinstance(right, Fraction)
                and abs(right) <= _EXPONENT
                and right.denominator == 1
                and isinstance(left, Fraction)
            ):
                if (
                    left.numerator.bit_length() * abs(right) > 4 * _DIGITS
                    or left.denominator.bit_length() * abs(right) > 4 * _DIGITS
                ):
                    raise ValueError("too large")
                return left ** int(right)
            if not isinstance(right, Fraction) or abs(right) > _EXPONENT:
                raise ValueError("exponent too large")
            return _sympy(left) ** _sympy(right)
        if not (isinstance(left, Fraction) and isinstance(right, Fraction)):
            left, right = _sympy(left), _sympy(right)
        if isinstance(op, ast.Add):
            return left + right
        if isinstance(op, ast.Sub):
            return left - right
        if isinstance(op, ast.Mult):
            return left * right
        if isinstance(op, ast.Div):
            if right == 0:
                raise ValueError("division by zero")
            return left / right
        raise ValueError("not mathematics")


def _bounded(value: Any) -> Any:
    """The value, unless what is done with it later could take long: a huge number, or a product with very many terms."""
    if isinstance(value, Fraction):
        if max(value.numerator.bit_length(), value.denominator.bit_length()) > _BITS:
            raise ValueError("too large")
    elif _terms(value) > _TERMS:
        raise ValueError("too many terms")
    return value


def _terms(expression: Any) -> int:
    """At most how many terms an expression has when multiplied out; stops counting above the bound."""
    if expression.is_Add:
        return sum(_terms(part) for part in expression.args)
    if expression.is_Mul:
        product = 1
        for part in expression.args:
            product = min(product * _terms(part), _TERMS + 1)
        return product
    if expression.is_Pow and expression.exp.is_Integer:
        base = _terms(expression.base)
        return 1 if base == 1 else int(min(base ** min(abs(int(expression.exp)), 16), _TERMS + 1))
    return 1


def _sympy(value: Any) -> Any:
    import sympy

    return sympy.Rational(value.numerator, value.denominator) if isinstance(value, Fraction) else value


def _symbol(name: str) -> Any:
    import sympy

    if name == "pi":
        return sympy.pi
    if name in ("i", "I"):
        return sympy.I
    if len(name) != 1:
        raise ValueError("not mathematics")
    return sympy.Symbol(name)


def _call(name: str, argument: Any) -> Any:
    import sympy

    if name not in _FUNCTIONS:
        raise ValueError("not mathematics")
    inner = _sympy(argument)
    # An exponential inside a function can need more digits than there is memory for.
    if inner.has(sympy.exp) or (name == "exp" and inner.is_number and abs(inner.evalf(15)) > 1_000):
        raise ValueError("too large")
    return getattr(sympy, {"ln": "log", "abs": "Abs"}.get(name, name))(inner)


def _decimals(text: str) -> str:
    """Decimal literals as exact fractions: the syntax tree would turn them into floats."""

    def exact(match: re.Match[str]) -> str:
        exponent = re.search(r"[eE]([-+]?\d+)$", match[0])
        if exponent is not None and abs(int(exponent[1])) > _DIGITS:
            raise ValueError("too large")
        value = Fraction(match[0])
        return f"({value.numerator}/{value.denominator})" if value.denominator != 1 else str(value.numerator)

    return re.sub(r"(?<![\w.])(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.])", exact, text)


def read(text: str) -> Any:
    """A text as a Fraction or a sympy expression; None when it is no mathematics this module reads."""
    if len(text) > _LONGEST:
        return None
    try:
        plain = _decimals(_plain(text))
        if re.search(rf"\d{{{_DIGITS}}}", plain):
            return None
        return _Reader().read(ast.parse(plain.strip(), mode="eval"))
    except (ValueError, SyntaxError, TypeError, ZeroDivisionError, OverflowError, RecursionError, MemoryError):
        return None


def equal(left: Any, right: Any) -> bool:
    """Whether two read values are equal: numbers exactly; expressions when their difference simplifies to zero.

    Equality that would take long to prove counts as none.
    """
    if isinstance(left, Fraction) and isinstance(right, Fraction):
        return left == right
    import sympy

    difference = _sympy(left) - _sympy(right)
    if difference == 0:
        return True
    # A cheap proof of difference first: simplification is slow, and most wrong answers differ everywhere.
    symbols = sorted(difference.free_symbols, key=str)
    for number in (sympy.Rational(7, 5), sympy.Rational(23, 11)):
        value = difference.subs({symbol: number + index for index, symbol in enumerate(symbols)}).evalf(30)
        if value.is_number and value.is_finite and abs(value) > sympy.Float("1e-15"):
            return False
    if sympy.expand(difference) == 0:
        return True
    return difference.count_ops() <= _OPERATIONS and bool(sympy.simplify(difference) == 0)


@dataclass(frozen=True)
class MathVerifier:
    """1 for a mathematically equal answer, else 0."""

    name: str = "math"
    version: str = "1"
    needs: str = "sympy"

    def score(self, prediction: str, truth: Any) -> Verdict:
        """See `Verifier.score`; the truth is a number or an expression as text."""
        wanted = read(str(truth))
        if wanted is None:
            raise ValueError(f"the truth {truth!r} is no mathematics that this verifier reads")
        answer = final_answer(prediction)
        if answer is None:
            return Verdict(0.0, "malformed response")
        given = read(answer)
        if given is None:
            return Verdict(0.0, "not mathematics")
        return Verdict(1.0, "equal") if equal(given, wanted) else Verdict(0.0, f"{str(given)[:60]} is not {str(wanted)[:60]}")


VERIFIER = MathVerifier()
