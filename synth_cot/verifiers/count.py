"""Exact count: the answer names one whole number, in digits or as words up to ninety-nine, and it is the right one.

An answer that names two different numbers is wrong, even when one of them is right: it did not decide.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Any

from synth_cot.verifiers.answer_format import final_answer
from synth_cot.verifiers.verdict import Verdict

_WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_NUMBER = re.compile(r"(?<![\w.,])[-−]?\d+(?:,\d{3})*(?:\.0+)?(?![\w]|[.,]\d)")
_WORD = re.compile(rf"\b(?:({'|'.join(_TENS)})(?:[-\s]+({'|'.join(_WORDS[1:10])}))?|({'|'.join(_WORDS)}))\b", re.IGNORECASE)
_LONGEST = 1_000


def numbers(text: str) -> set[int]:
    """The whole numbers that a text names."""
    found = {int(match.replace("−", "-").replace(",", "").split(".")[0]) for match in _NUMBER.findall(text)}
    return found | {_spoken(*(part.lower() for part in match)) for match in _WORD.findall(text)}


def _spoken(tens: str, ones: str, other: str) -> int:
    return 20 + 10 * _TENS.index(tens) + (_WORDS.index(ones) if ones else 0) if tens else _WORDS.index(other)


@dataclass(frozen=True)
class CountVerifier:
    """1 for the right whole number, else 0."""

    name: str = "count"
    version: str = "2"
    needs: str = "nothing"

    def score(self, prediction: str, truth: Any) -> Verdict:
        """See `Verifier.score`; the truth is a whole number or its digits."""
        wanted = int(str(truth))
        answer = final_answer(prediction)
        if answer is None:
            return Verdict(0.0, "malformed response")
        if len(answer) > _LONGEST or re.search(r"\d", _NUMBER.sub("", unicodedata.normalize("NFKC", answer))):
            return Verdict(0.0, "not a whole number")
        if re.search(r"\d\s*(?:%|percent)", answer):
            return Verdict(0.0, "a share is no count")
        found = numbers(unicodedata.normalize("NFKC", answer))
        if len(found) != 1:
            return Verdict(0.0, f"names {len(found)} numbers" if found else "not a whole number")
        given = found.pop()
        return Verdict(1.0, "equal") if given == wanted else Verdict(0.0, f"{given} is not {wanted}")


VERIFIER = CountVerifier()
