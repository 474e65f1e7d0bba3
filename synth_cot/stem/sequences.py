"""Derivations of sorting and filtering: what is picked at each step, and a chain of comparisons that proves the order."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

from synth_cot.derivation import Derivation


def _chain(items: list[str], keys: list[Any]) -> str:
    text = items[0]
    for (before, after), item in zip(pairwise(keys), items[1:], strict=True):
        text += f" {'=' if before == after else '<' if before < after else '>'} {item}"
    return text


def number_sorting(entry: dict[str, Any]) -> Derivation:
    """Selection sort: the smallest (largest) of what is left, again and again."""
    left = list(entry["metadata"]["original_numbers"])
    falling = entry["metadata"]["direction"] == "descending"
    placed, steps = [], []
    while left:
        best = max(left, key=Fraction) if falling else min(left, key=Fraction)
        if len(left) > 1:
            steps.append(f"the {'largest' if falling else 'smallest'} of {', '.join(left)} is {best}")
        left.remove(best)
        placed.append(best)
    check = _chain(placed, [Fraction(one) for one in placed])
    plan = f"Pick the {'largest' if falling else 'smallest'} number that is left until none is."
    return Derivation(plan=plan, steps=tuple(steps), check=check, answer=str(placed))


def number_filtering(entry: dict[str, Any]) -> Derivation:
    """Number by number: compared with the bound, then kept or removed."""
    given, bound = entry["metadata"]["original_numbers"], entry["metadata"]["filter_value"]
    action, relation = entry["metadata"]["operation"].split("_")
    kept, steps = [], []
    for one in given:
        value, limit = Fraction(one), Fraction(bound)
        sign = "<" if value < limit else ">" if value > limit else "="
        hit = value > limit if relation == "larger" else value < limit
        stays = hit == (action == "keep")
        steps.append(f"{one} {sign} {bound}: {'keep' if stays else 'remove'}")
        if stays:
            kept.append(one)
    plan = f"Compare every number with {bound} and {action} those that are {relation}."
    removed = len(given) - len(kept)
    return Derivation(plan=plan, steps=tuple(steps), check=f"{len(kept)} + {removed} = {len(given)} numbers", answer=str(kept))


def word_sorting(entry: dict[str, Any]) -> Derivation:
    """Selection sort by code points (capitals before small letters), proved by a chain of comparisons."""
    left = list(entry["metadata"]["transformed_words"])
    falling = entry["metadata"]["direction"] == "descending"
    placed, steps = [], []
    while left:
        best = max(left) if falling else min(left)
        if len(left) > 1:
            steps.append(f"{'last' if falling else 'first'} of {', '.join(left)}: {best}")
        left.remove(best)
        placed.append(best)
    check = _chain([f"“{word}”" for word in placed], list(placed))
    plan = f"Pick the {'last' if falling else 'first'} word by code points until none is left; capitals come first."
    return Derivation(plan=plan, steps=tuple(steps), check=check, answer=", ".join(placed))
