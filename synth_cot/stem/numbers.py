"""Derivations in whole numbers: Euclid's algorithm and what rests on it, factors, primes, bits and bases."""

from __future__ import annotations

import re
from typing import Any

from synth_cot.derivation import Derivation

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def _euclid(left: int, right: int) -> tuple[list[str], int]:
    steps = []
    while right:
        steps.append(f"{left} mod {right} = {left % right}")
        left, right = right, left % right
    return steps, left


def greatest_common_divisor(entry: dict[str, Any]) -> Derivation:
    """Euclid's algorithm; the check divides each number by the result."""
    values = entry["metadata"]["numbers"]
    steps, divisor = [], values[0]
    for value in values[1:]:
        more, divisor = _euclid(max(divisor, value), min(divisor, value))
        steps += more
    check = "the result divides them: " + ", ".join(f"{value} / {divisor} = {value // divisor}" for value in values)
    plan = "Use Euclid's algorithm: take remainders until the remainder is 0."
    return Derivation(plan=plan, steps=(*steps, f"the last divisor is {divisor}"), check=check, answer=str(divisor))


def least_common_multiple(entry: dict[str, Any]) -> Derivation:
    """The product over the greatest common divisor; the check divides the result by each number."""
    values = entry["metadata"]["numbers"]
    steps, multiple = [], values[0]
    for value in values[1:]:
        more, divisor = _euclid(max(multiple, value), min(multiple, value))
        steps += [*more, f"{multiple} * {value} / {divisor} = {multiple * value // divisor}"]
        multiple = multiple * value // divisor
    check = "it is a multiple of them: " + ", ".join(f"{multiple} mod {value} = 0" for value in values)
    plan = "Find the greatest common divisor with Euclid's algorithm, then divide the product by it."
    return Derivation(plan=plan, steps=tuple(steps), check=check, answer=str(multiple))


def fraction_simplification(entry: dict[str, Any]) -> Derivation:
    """Euclid's algorithm, then both sides divided; the check multiplies back."""
    top, bottom = entry["metadata"]["numerator"], entry["metadata"]["denominator"]
    steps, divisor = _euclid(max(top, bottom), min(top, bottom))
    steps += [f"{top} / {divisor} = {top // divisor}", f"{bottom} / {divisor} = {bottom // divisor}"]
    check = f"{top // divisor} * {divisor} = {top} and {bottom // divisor} * {divisor} = {bottom}"
    plan = "Find the greatest common divisor of numerator and denominator, then divide both by it."
    return Derivation(plan=plan, steps=tuple(steps), check=check, answer=f"{top // divisor}/{bottom // divisor}")


def prime_factorization(entry: dict[str, Any]) -> Derivation:
    """Trial division by rising divisors; the check multiplies the factors."""
    number = rest = entry["metadata"]["number"]
    factors, steps, divisor = [], [], 2
    while divisor * divisor <= rest:
        while rest % divisor == 0:
            steps.append(f"{rest} / {divisor} = {rest // divisor}")
            factors.append(divisor)
            rest //= divisor
        divisor += 1
    if rest > 1:
        factors.append(rest)
        steps.append(
            f"{divisor} * {divisor} = {divisor * divisor} > {rest}, and no smaller number divides {rest}, so it is prime"
        )
    check = f"{' * '.join(map(str, factors))} = {number}"
    plan = "Divide by the smallest prime that fits, again and again."
    return Derivation(plan=plan, steps=tuple(steps), check=check, answer=" × ".join(map(str, factors)))


def count_primes(entry: dict[str, Any]) -> Derivation:
    """Number by number: a proper divisor for each composite, the primes counted."""
    start, end = entry["metadata"]["start"], entry["metadata"]["end"]
    composite, primes = [], []
    for number in range(start, end + 1):
        divisor = next((d for d in range(2, number) if d * d <= number and number % d == 0), None)
        if divisor is not None:
            composite.append(f"{number} = {divisor} * {number // divisor}")
        elif number > 1:
            primes.append(number)
    steps = [f"not prime: {'; '.join(composite)}" if composite else "no number in the range is a product"]
    steps.append(f"prime: {', '.join(map(str, primes))}" if primes else "no primes are left")
    units = end - start + 1
    ones = int(start <= 1 <= end)
    check = f"{units} numbers, {len(composite)} of them products{' and one is 1' if ones else ''}: "
    check += f"{units} - {len(composite)} - {ones} = {len(primes)}"
    plan = f"Write every number from {start} to {end} as a product where that is possible, and count the others."
    return Derivation(plan=plan, steps=tuple(steps), check=check, answer=str(len(primes)))


def count_bits(entry: dict[str, Any]) -> Derivation:
    """The largest power of two that fits is taken away until nothing is left."""
    number = rest = entry["metadata"]["number"]
    steps, powers = [], []
    while rest:
        power = 1 << (rest.bit_length() - 1)
        steps.append(f"{rest} - {power} = {rest - power}")
        powers.append(power)
        rest -= power
    check = f"{' + '.join(map(str, powers))} = {number}, a sum of {len(powers)} different powers of two"
    plan = "Take away the largest power of two that fits until 0 is left: each is one 1 bit."
    return Derivation(plan=plan, steps=tuple(steps), check=check, answer=str(len(powers)))


def base_conversion(entry: dict[str, Any]) -> Derivation:
    """To decimal by places, then by repeated division into the other base. Read from the question alone."""
    source, target = entry["metadata"]["source_base"], entry["metadata"]["target_base"]
    written = re.search(r"number ([0-9a-z]+) to", entry["question"])
    if written is None:
        raise ValueError(f"no number in {entry['question']!r}")
    digits = [_DIGITS.index(digit) for digit in written[1]]
    terms = [f"{digit} * {source ** (len(digits) - 1 - place)}" for place, digit in enumerate(digits)]
    value = sum(digit * source ** (len(digits) - 1 - place) for place, digit in enumerate(digits))
    steps = [f"in decimal: {' + '.join(terms)} = {value}"]
    rest = value
    out: list[int] = []
    while rest or not out:
        steps.append(
            f"{rest} mod {target} = {rest % target}" + (f", digit {_DIGITS[rest % target]}" if rest % target > 9 else "")
        )
        out.append(rest % target)
        rest //= target
    result = "".join(_DIGITS[digit] for digit in reversed(out))
    back = " + ".join(f"{digit} * {target**place}" for place, digit in reversed(list(enumerate(out))))
    read = "Read the number" if source == 10 else f"Convert from base {source} to decimal"
    plan = f"{read}, then divide by {target} and collect the remainders from last to first."
    return Derivation(plan=plan, steps=tuple(steps), check=f"back to decimal: {back} = {value}", answer=result)
