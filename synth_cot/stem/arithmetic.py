"""Derivations of sums, products, mixed expressions, legs and linear equations. Numbers are exact fractions throughout."""

from __future__ import annotations

import ast
import re
from fractions import Fraction
from typing import Any

from synth_cot.derivation import Derivation, number, signed

LEGS = {
    "ant": 6, "bee": 6, "beetle": 6, "bird": 2, "butterfly": 6, "cat": 4, "chicken": 2, "cockroach": 6, "cow": 4,
    "crab": 10, "cricket": 6, "deer": 4, "dog": 4, "duck": 2, "elephant": 4, "firefly": 6, "flatworm": 0, "giraffe": 4,
    "grasshopper": 6, "horse": 4, "human": 2, "insect": 6, "jellyfish": 0, "leech": 0, "lion": 4, "lobster": 10,
    "praying mantis": 6, "scorpion": 8, "sea slug": 0, "sheep": 4, "shrimp": 10, "snake": 0, "spider": 8, "starfish": 5,
    "tiger": 4, "wasp": 6, "woodlouse": 14,
}  # fmt: skip


def chain_sum(entry: dict[str, Any]) -> Derivation:
    """Running totals from left to right; the check adds and subtracts the groups apart."""
    tokens = entry["metadata"]["expression"].split()
    total = Fraction(tokens[0])
    plus: list[Fraction] = [total]
    minus: list[Fraction] = []
    steps = []
    for operator, token in zip(tokens[1::2], tokens[2::2], strict=True):
        term = Fraction(token)
        after = total + term if operator == "+" else total - term
        steps.append(f"{number(total)} {operator} {signed(term)} = {number(after)}")
        (plus if operator == "+" else minus).append(term)
        total = after
    taken = sum(minus, Fraction(0))
    check = f"added terms minus subtracted terms: {number(sum(plus, Fraction(0)))} - {signed(taken)} = {number(total)}"
    return Derivation(
        plan="Go through the terms from left to right and keep a running total.",
        steps=tuple(steps),
        check=check,
        answer=number(total),
    )


def products(entry: dict[str, Any]) -> Derivation:
    """The first factor times each digit of the second; the check multiplies the other way round."""
    left, right = (int(token) for token in entry["metadata"]["expression"].split(" * "))
    steps, parts = [], []
    for place, digit in enumerate(reversed(str(abs(right)))):
        value = int(digit) * 10**place
        if value:
            parts.append(left * value)
            steps.append(f"{left} * {value} = {left * value}")
    total = sum(parts)
    if len(parts) > 1:
        steps.append(f"{' + '.join(map(str, parts))} = {total}")
    if not steps:
        steps.append(f"{left} * {right} = 0")
    check = f"the other way round: {right} * {left} = {total}"
    return Derivation(
        plan=f"Split {right} into its digits, multiply {left} by each, and add.",
        steps=tuple(steps),
        check=check,
        answer=str(total),
    )


def basic_arithmetic(entry: dict[str, Any]) -> Derivation:
    """One operation at a time, brackets first, then products and quotients, then sums."""
    tree = ast.parse(entry["metadata"]["expression"].strip(), mode="eval").body
    steps: list[str] = []

    def value(node: ast.expr) -> Fraction:
        if isinstance(node, ast.Constant):
            return Fraction(str(node.value))
        if isinstance(node, ast.UnaryOp):
            inner = value(node.operand)
            if not isinstance(node.operand, ast.Constant):
                steps.append(f"-({number(inner)}) = {number(-inner)}")
            return -inner
        assert isinstance(node, ast.BinOp)
        left, right = value(node.left), value(node.right)
        symbol, result = {
            ast.Add: lambda: ("+", left + right),
            ast.Sub: lambda: ("-", left - right),
            ast.Mult: lambda: ("*", left * right),
            ast.Div: lambda: ("/", left / right),
        }[type(node.op)]()
        steps.append(f"{number(left)} {symbol} {signed(right)} = {number(result)}")
        return result

    total = value(tree)
    check = f"the whole expression: {entry['metadata']['expression'].strip()} = {number(total)}"
    plan = "Work out brackets first, then multiplication and division, then addition and subtraction."
    return Derivation(plan=plan, steps=tuple(steps), check=check, answer=number(total))


def leg_counting(entry: dict[str, Any]) -> Derivation:
    """Animal by animal, then the sum. The legs are from our own table, not the generator's.

    Raises:
        KeyError: an animal is not in the table.
    """
    steps, total, parts = [], 0, []
    for animal, count in entry["metadata"]["animals"].items():
        legs = LEGS[animal]
        parts.append(count * legs)
        total += count * legs
        steps.append(f"{animal}, {legs} legs each: {count} * {legs} = {count * legs}")
    check = f"adding up: {' + '.join(map(str, parts))} = {total}"
    return Derivation(
        plan="Multiply each kind of animal by its legs, then add.", steps=tuple(steps), check=check, answer=str(total)
    )


def simple_equations(entry: dict[str, Any]) -> Derivation:
    """Collects the terms, moves the constant, divides, and puts the solution back.

    Raises:
        ValueError: the equation is not linear.
    """
    equation, name = entry["metadata"]["equation"], entry["metadata"]["variable"]
    left, right = equation.split(" = ")
    slope, constant = Fraction(0), Fraction(0)
    for sign, term in re.findall(r"([-+]?)\s*([^-+\s]+)", left):
        factors = term.split("*")
        value = Fraction(-1 if sign == "-" else 1)
        for factor in factors:
            value *= 1 if factor == name else Fraction(factor)
        if factors.count(name) > 1:
            raise ValueError(f"{equation} is not linear in {name}")
        if name in factors:
            slope += value
        else:
            constant += value
    goal = Fraction(right)
    rest = goal - constant
    root = rest / slope
    steps = [f"the equation says {number(slope)} times {name} plus {signed(constant)} is {number(goal)}"]
    if constant:
        steps.append(f"move the constant: {number(goal)} - {signed(constant)} = {number(rest)}")
    steps.append(f"divide: {number(rest)} / {signed(slope)} = {number(root)}")
    check = f"put it back: {number(slope)} * {signed(root)} + {signed(constant)} = {number(goal)}"
    return Derivation(
        plan=f"Bring the equation to one multiple of {name}, then divide.", steps=tuple(steps), check=check, answer=number(root)
    )
