"""Are two expressions equal? Run by `referee` in a process of its own, since neither sympy nor a parser of LaTeX can promise to
end. Numbers are exact throughout; equality is proved, never assumed from a tolerance.

Plain forms are read from the syntax tree of `scalars`; LaTeX beyond the simple by latex2sympy2_extended, whose grammar
evaluates no code.
"""

from __future__ import annotations

import ast
import re
from fractions import Fraction
from typing import Any

import sympy

from synth_cot.verifiers import scalars

_TERMS, _OPERATIONS = 2_000, 40
_DECIMAL = re.compile(r"(?<![\w.])\d*\.\d+(?![\w.])")


def read(text: str) -> Any:
    """An expression of sympy, decimals as fractions; None when it is none this module reads."""
    try:
        node = scalars.tree(scalars.plain(text))
        if node is not None:
            return _Reader().read(node)
    except (ValueError, TypeError, ZeroDivisionError, OverflowError, RecursionError, MemoryError):
        pass
    return _latex(text) if "\\" in text else None


def _latex(text: str) -> Any:
    from latex2sympy2_extended import latex2sympy

    try:
        found = latex2sympy(_DECIMAL.sub(_fraction, text))
    except Exception:  # the parser's errors are of many kinds
        return None
    if not isinstance(found, sympy.Expr) or found.has(sympy.Float):
        return None
    names = {sympy.Symbol("i"): sympy.I, sympy.Symbol("e"): sympy.E}
    found = found.subs({symbol: names[sympy.Symbol(symbol.name)] for symbol in found.free_symbols if symbol.name in "ie"})
    # The parser gives symbols assumptions of its own; those of the plain reader have none.
    found = found.subs({symbol: sympy.Symbol(symbol.name) for symbol in found.free_symbols}).doit()
    return found if found.count_ops() <= scalars.NODES and _terms(found) <= _TERMS else None


def _fraction(match: re.Match[str]) -> str:
    value = Fraction(match[0])
    return rf"{{\frac{{{value.numerator}}}{{{value.denominator}}}}}"


class _Reader:
    """A syntax tree to a Fraction, or to an expression where it is no rational number."""

    def __init__(self) -> None:
        self.nodes = 0

    def read(self, node: ast.AST) -> Any:
        return _sympy(self._read(node))

    def _read(self, node: ast.AST) -> Any:
        self.nodes += 1
        if self.nodes > scalars.NODES:
            raise ValueError("too long")
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return Fraction(node.value)
        if isinstance(node, ast.Name):
            return _symbol(node.id)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            value = self._read(node.operand)
            return -value if isinstance(node.op, ast.USub) else value
        if isinstance(node, ast.BinOp):
            return _bounded(_combine(node.op, self._read(node.left), self._read(node.right)))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 1 and not node.keywords:
            return _call(node.func.id, self._read(node.args[0]))
        raise ValueError("not mathematics")


def _combine(op: ast.operator, left: Any, right: Any) -> Any:
    rational = isinstance(left, Fraction) and isinstance(right, Fraction)
    if rational and (not isinstance(op, ast.Pow) or right.denominator == 1):
        return scalars.combine(op, left, right)
    if isinstance(op, ast.Pow):
        if isinstance(right, Fraction) and abs(right) > scalars.EXPONENT:
            raise ValueError("exponent too large")
        return _sympy(left) ** _sympy(right)
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
    if not isinstance(value, Fraction) and _terms(value) > _TERMS:
        raise ValueError("too many terms")
    return scalars.bounded(value)


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
    return sympy.Rational(value.numerator, value.denominator) if isinstance(value, Fraction) else value


def _symbol(name: str) -> Any:
    known = {"pi": sympy.pi, "i": sympy.I, "I": sympy.I, "e": sympy.E, "infinity": sympy.oo}
    if name in known:
        return known[name]
    if len(name) != 1:
        raise ValueError("not mathematics")
    return sympy.Symbol(name)


def _call(name: str, argument: Any) -> Any:
    if name not in scalars.FUNCTIONS:
        raise ValueError("not mathematics")
    inner = _sympy(argument)
    # An exponential inside a function can need more digits than there is memory for.
    if inner.has(sympy.exp) or (name in ("exp", "factorial") and inner.is_number and abs(inner.evalf(15)) > 1_000):
        raise ValueError("too large")
    return getattr(sympy, {"ln": "log", "abs": "Abs"}.get(name, name))(inner)


def equal(left: Any, right: Any) -> bool:
    """Whether the difference of two expressions is proved to be zero; a proof that would take long counts as none."""
    if left == right:
        return True
    difference = left - right
    if difference == 0:
        return True
    if difference.has(sympy.nan, sympy.zoo, sympy.oo):
        return False
    # A cheap proof of difference first: simplification is slow, and most wrong answers differ everywhere.
    symbols = sorted(difference.free_symbols, key=str)
    for number in (sympy.Rational(7, 5), sympy.Rational(23, 11)):
        value = difference.subs({symbol: number + index for index, symbol in enumerate(symbols)}).evalf(30)
        if value.is_number and value.is_finite and abs(value) > sympy.Float("1e-15"):
            return False
    if sympy.expand(difference) == 0:
        return True
    return difference.count_ops() <= _OPERATIONS and bool(sympy.simplify(difference) == 0)


def proportional(left: Any, right: Any) -> bool:
    """Whether two expressions are zero together because one is a constant times the other."""
    if left == 0 or right == 0:
        return bool(left == right)
    ratio = sympy.simplify(left / right) if (left / right).count_ops() <= 2 * _OPERATIONS else left / right
    return bool(ratio.is_number and ratio.is_finite and ratio != 0)


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """Answers the referee's question: ``{"left", "right"}`` are expressions, or with ``{"equations": true}`` the differences of
    both sides of two equations.
    """
    left, right = read(str(question["left"])), read(str(question["right"]))
    if left is None or right is None:
        return {"unread": "left" if left is None else "right"}
    same = proportional if question.get("equations") else equal
    return {"equal": bool(same(left, right))}
