"""Normalised text: equal after Unicode compatibility folding, case folding, one form of dashes and quotes, and dropping outer
quotes, spare white space and what cannot be seen (zero-width characters, soft hyphens).

Punctuation inside counts, because reading is what is asked. Short of equality the score is 1 - edit distance / longer length,
always below 1; texts above 2,000 characters are only compared for equality.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Any

import numpy as np

from synth_cot.verifiers.answer_format import final_answer
from synth_cot.verifiers.verdict import Verdict

_LONGEST = 2_000
_QUOTES = "\"'`«»"
# What a reader cannot tell apart, or cannot see at all.
_SAME = str.maketrans(
    {**dict.fromkeys("“”„‟", '"'), **dict.fromkeys("‘’‚‛′´", "'"), **dict.fromkeys("‐‑‒–—―−", "-")}
    | dict.fromkeys("\u00ad\u200b\u200c\u200d\u2060\ufeff", "")
)


def normalise(text: str) -> str:
    """The form in which texts are compared. Applying it twice changes nothing."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text.translate(_SAME)).casefold())
    plain = " ".join(folded.translate(_SAME).split())
    while len(plain) >= 2 and plain[0] in _QUOTES and plain[-1] in _QUOTES:
        plain = plain[1:-1].strip()
    return plain


def edit_distance(left: str, right: str) -> int:
    """Insertions, deletions and replacements of one character that turn one text into the other."""
    one, other = (np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32) for text in (left, right))
    steps = np.arange(len(other) + 1)
    row = steps.copy()
    for number, character in enumerate(one, start=1):
        replaced = row[:-1] + (other != character)
        best = np.concatenate([[number], np.minimum(replaced, row[1:] + 1)])
        row = np.minimum.accumulate(best - steps) + steps  # insertions, each one more than the cell before
    return int(row[-1])


@dataclass(frozen=True)
class TextVerifier:
    """1 for the same normalised text, else how similar it is."""

    name: str = "text"
    version: str = "2"
    needs: str = "numpy"

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
