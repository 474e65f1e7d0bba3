"""Choices that depend on nothing but what they are named by: a stream of hashes instead of a generator with hidden state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from manifests.fingerprint import unit_hash

Option = TypeVar("Option")


class Dice:
    """Throws in a row; equal names give equal rows."""

    def __init__(self, *name: object) -> None:
        self.name, self.thrown = name, 0

    def unit(self) -> float:
        """A number in [0, 1)."""
        self.thrown += 1
        return unit_hash("dice", *self.name, self.thrown)

    def between(self, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``, both included."""
        return low + int(self.unit() * (high - low + 1))

    def pick(self, options: Sequence[Option]) -> Option:
        """One of the options."""
        return options[self.between(0, len(options) - 1)]

    def some(self, options: Sequence[Option], count: int) -> list[Option]:
        """Different options in the order thrown, at most ``count``."""
        left = list(options)
        return [left.pop(self.between(0, len(left) - 1)) for _ in range(min(count, len(left)))]
