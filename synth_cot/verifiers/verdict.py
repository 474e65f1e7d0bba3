"""What a verifier is and what it says: a score in [0, 1] and the reason for it.

A score of 1 means right. Less says how near the answer came, where its kind has a notion of near; a filter accepts only 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Verdict:
    """How right an answer is, and why."""

    score: float
    reason: str

    def __post_init__(self) -> None:
        if not 0.0 <= self.score <= 1.0:
            raise ValueError(f"score {self.score} is not in [0, 1]")

    @property
    def right(self) -> bool:
        """Whether nothing is wrong with the answer."""
        return self.score == 1.0


class Verifier(Protocol):
    """Compares an answer with the truth.

    Attributes:
        name: what `synth_cot.verifiers.get` calls it.
        version: rises whenever a score could change.
        needs: the packages or features of the machine that it depends on.
    """

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def needs(self) -> str: ...

    def score(self, prediction: str, truth: Any) -> Verdict:
        """``prediction`` is model output and may be anything; it never raises for it.

        Raises:
            ValueError: the truth itself is not of this verifier's kind.
        """
        ...
