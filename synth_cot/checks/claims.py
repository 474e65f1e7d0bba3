"""The statements in a text that can be recomputed from the text alone, and which of them are false.

Equations and comparisons of numbers (``12 + 5 = 17``, ``-3 < 2 < 7``, ``17 mod 5 = 2``), comparisons of quoted words by code
points (``“ape” < “bee”``), how often a letter stands in a word (``“s” in “sends”: 2``) and which letter stands where
(``letter 3 of “sun” is “n”``). Arithmetic is exact.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import Any

_TOKEN = r"(?:\d+(?:\.\d+)?|mod|[-+*/()])"
_EXPRESSION = rf"{_TOKEN}(?: ?{_TOKEN})*"
_RELATION = r" (?:=|<|>|<=|>=) "
_NUMERIC = re.compile(rf"(?<![\w.“(]){_EXPRESSION}(?:{_RELATION}{_EXPRESSION})+(?!\w)")
_QUOTED = r"“[^”]*”"
_WORDS = re.compile(rf"{_QUOTED}(?:{_RELATION}{_QUOTED})+")
_OCCURS = re.compile(r"“(\w)” in “([^”]*)”: (\d+)")
_LETTER = re.compile(r"letter (\d+) of “([^”]+)” is “(\w)”")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge,
}  # fmt: skip
_COMBINE: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv, ast.Mod: operator.mod,
}  # fmt: skip


def value(expression: str) -> Fraction:
    """What an arithmetic expression is worth.

    Raises:
        ValueError: it is no arithmetic of numbers.
    """
    exact = re.sub(r"\d+(?:\.\d+)?", lambda match: f"({Fraction(match[0])})" if "." in match[0] else match[0], expression)
    try:
        return _value(ast.parse(exact.replace("mod", "%").strip(), mode="eval").body)
    except (SyntaxError, ZeroDivisionError) as error:
        raise ValueError(f"{expression!r} is no arithmetic: {error}") from error


def _value(node: ast.AST) -> Fraction:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return Fraction(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        inner = _value(node.operand)
        return -inner if isinstance(node.op, ast.USub) else inner
    if isinstance(node, ast.BinOp) and type(node.op) in _COMBINE:
        return _COMBINE[type(node.op)](_value(node.left), _value(node.right))
    raise ValueError("no arithmetic")


def _false_chain(claim: str, read: Callable[[str], Any]) -> str | None:
    pieces = re.split(rf"({_RELATION})", claim)
    try:
        values = [read(piece) for piece in pieces[::2]]
    except ValueError as error:
        return str(error)
    holds = all(_COMPARE[sign.strip()](left, right) for sign, (left, right) in zip(pieces[1::2], pairwise(values), strict=True))
    return None if holds else f"it is not true that {claim}"


def examine(text: str) -> tuple[int, list[str]]:
    """How many statements of a text were recomputed, and what is wrong with those that are false."""
    checked, wrong = 0, []
    plain = re.sub(_QUOTED, "“”", text)  # numbers inside quotations claim nothing
    for match in _NUMERIC.finditer(plain):
        checked += 1
        wrong.append(_false_chain(match[0], value))
    for match in _WORDS.finditer(text):
        checked += 1
        wrong.append(_false_chain(match[0], lambda piece: piece.strip("“”")))
    for letter, word, count in _OCCURS.findall(text):
        checked += 1
        wrong.append(
            None if word.lower().count(letter.lower()) == int(count) else f"“{letter}” is not {count} times in “{word}”"
        )
    for place, word, letter in _LETTER.findall(text):
        checked += 1
        right = 1 <= int(place) <= len(word) and word[int(place) - 1] == letter
        wrong.append(None if right else f"letter {place} of “{word}” is not “{letter}”")
    return checked, [one for one in wrong if one is not None]
