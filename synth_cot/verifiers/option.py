"""One option of several, by its letter: ``B``, ``(B)``, ``B.``, ``B) the blue one`` and ``Option B`` all say B.

A letter that only begins a sentence ("A button") is not a choice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from synth_cot.verifiers.answer_format import final_answer
from synth_cot.verifiers.verdict import Verdict

_CHOICE = re.compile(
    r"\s*(?:(?:the\s+)?(?:option|answer|choice)\s*(?:is)?\s*:?\s*)?[(\[*\"']*([A-Za-z])(?:[)\].:*\"']+(?:\s.*)?|\s*)$",
    re.I | re.S,
)


def letter(text: str) -> str | None:
    """The capital letter that a text chooses, or None."""
    match = _CHOICE.match(text)
    return None if match is None else match[1].upper()


@dataclass(frozen=True)
class OptionVerifier:
    """1 for the right letter, else 0."""

    name: str = "option"
    version: str = "1"
    needs: str = "nothing"

    def score(self, prediction: str, truth: Any) -> Verdict:
        """See `Verifier.score`; the truth is one letter."""
        wanted = letter(str(truth))
        if wanted is None:
            raise ValueError(f"the truth {truth!r} is not one option letter")
        answer = final_answer(prediction)
        if answer is None:
            return Verdict(0.0, "malformed response")
        given = letter(answer)
        if given is None:
            return Verdict(0.0, "chooses no option")
        return Verdict(1.0, "equal") if given == wanted else Verdict(0.0, f"{given} is not {wanted}")


VERIFIER = OptionVerifier()
