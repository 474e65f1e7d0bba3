"""One option of several, by its letter or, where the truth gives the options, by its words.

``B``, ``(b)``, ``B) the blue one``, ``Option B``, ``The correct answer is **B**.``, ``\\boxed{B}``, ``B, because ...`` all
say B. What could be meant otherwise says nothing: a letter that only begins a sentence ("A button"), two letters ("A or B",
"B, not A"), a denial. The truth is a letter, or ``{"answer": "B", "options": {"A": "red", "B": "blue"}}`` or its JSON.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from synth_cot.verifiers.answer_format import final_answer
from synth_cot.verifiers.plain_text import normalise
from synth_cot.verifiers.verdict import Verdict

_LONGEST = 1_000
_DRESS = re.compile(r"\\(?:boxed|text|mathrm|textbf|mathbf)\s*|[${}*_`\"'“”‘’]")
_LEAD = re.compile(
    r"(?:so|thus|hence|therefore|i\s+think|i\s+believe)?,?\s*"
    r"(?:(?:the|my)\s+)?(?:(?:correct|right|best|final)\s+)?(?:(?:answer|option|choice|letter)(?:\s+(?:option|choice))?\s*"
    r"(?:is|:|=|would\s+be)?\s*:?\s*(?:(?:option|choice|letter)\s+)?|i(?:\s+would)?\s+(?:choose|pick|select|go\s+with)\s+(?:option\s+)?)",
    re.I,
)
_LETTER = re.compile(
    r"[(\[]?\s*([A-Za-z])\s*(?P<end>[)\].:]+|(?=,?\s*(?:because|since|as\b))|(?=\s+is\s+(?:correct|right))|\s*$)"
)
_OTHER = re.compile(r"(?<![A-Za-z'])(?:\(([A-Za-z])\)|([A-Z])(?=[).:,;]|\s*$)|(?<=\bor )([A-Z])\b|(?<=\band )([A-Z])\b)")
_DENIAL = re.compile(r"\b(?:not|neither|nor|isn't|wrong|incorrect)\b", re.I)


def letter(text: str) -> str | None:
    """The capital letter that a text chooses, or None."""
    if len(text) > _LONGEST:
        return None
    plain = " ".join(_DRESS.sub("", text).split())
    lead = _LEAD.match(plain)
    rest = plain[lead.end() :] if lead else plain
    match = _LETTER.match(rest)
    if match is None:
        return None
    chosen, after = match[1].upper(), rest[match.end() :]
    others = {found.upper() for groups in _OTHER.findall(after) for found in groups if found}
    if others - {chosen} or (lead is not None and _DENIAL.search(lead[0])) or _DENIAL.match(after.lstrip(" ,:")):
        return None
    return chosen


def _truth(value: Any) -> tuple[str, dict[str, str]]:
    given = value
    if isinstance(value, str) and value.lstrip().startswith("{"):
        given = json.loads(value)
    options = (
        {str(key).upper(): normalise(str(text)) for key, text in given.get("options", {}).items()}
        if isinstance(given, dict)
        else {}
    )
    wanted = letter(str(given.get("answer", "") if isinstance(given, dict) else given))
    if wanted is None or (options and wanted not in options):
        raise ValueError(f"the truth {value!r} is not one option letter")
    return wanted, options


@dataclass(frozen=True)
class OptionVerifier:
    """1 for the right option, else 0."""

    name: str = "option"
    version: str = "2"
    needs: str = "nothing"

    def score(self, prediction: str, truth: Any) -> Verdict:
        """See `Verifier.score`; the truth is one letter, or a letter with the options."""
        wanted, options = _truth(truth)
        answer = final_answer(prediction)
        if answer is None:
            return Verdict(0.0, "malformed response")
        named = [key for key, words in options.items() if words and words == normalise(answer.rstrip(". "))]
        given = named[0] if len(named) == 1 else letter(answer)
        if given is None:
            return Verdict(0.0, "chooses no option")
        if options and given not in options:
            return Verdict(0.0, f"there is no option {given}")
        return Verdict(1.0, "equal") if given == wanted else Verdict(0.0, f"{given} is not {wanted}")


VERIFIER = OptionVerifier()
