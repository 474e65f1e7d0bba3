"""Normalised text: equal after Unicode compatibility folding, case folding, and dropping outer quotes and spare white space.

Punctuation inside counts, because reading is what is asked. Short of equality the score is 1 - edit distance / longer length,
always below 1; texts above 2,000 characters are only compared for equality.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Any

from synth_cot.verifiers.answer_format import final_answer
from synth_cot.verifiers.verdict import Verdict

_LONGEST = 2_000
_QUOTES = "\"'`“”‘’«»"


def normalise(text: str) -> str:
    """The form in which texts are compared. Applying it twice changes nothing."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    plain = " ".join(folded.split())
    while len(plain) >= 2 and plain[0] in _QUOTES and plain[-1] in _QUOTES:
        plain = plain[1:-1].strip()
    return plain


def edit_distance(left: str, right: str) -> int:
    """Insertions, deletions and replacements of one character that turn one text into the other."""
    previous = list(range(len(right) + 1))
    for row, one in enumerate(left, start=1):
        current = [row]
        for column, other in enumerate(right, start=1):
            current.append(min(previous[column] + 1, current[-1] + 1, previous[column - 1] + (one != other)))
        previous = current
    return previous[-1]


@dataclass(frozen=True)
class TextVerifier:
    """1 for the same normalised text, else how similar it is."""

    name: str = "text"
    version: str = "1"
    needs: str = "nothing"

    def score(self, prediction: str, truth: Any) -> Verdict:
        """See `Verifier.score`; the truth is the text."""
        answer = final_answer(prediction)
        if answer is None:
            return Verdict(0.0, "malformed response")
        given, wanted = normalise(answer), normalise(str(truth))
        if given == wanted:
            return Verdict(1.0, "equal")
        longest = max(len(given), len(wanted))
        if longest > _LONGEST:
            return Verdict(0.0, "different")
        distance = edit_distance(given, wanted)
        return Verdict(1.0 - distance / longest, f"{distance} edits apart")


VERIFIER = TextVerifier()
