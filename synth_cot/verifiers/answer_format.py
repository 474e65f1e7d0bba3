"""The form of a response: ``<think>...</think><answer>...</answer>``, or ``<answer>...</answer>`` alone.

Each tag stands exactly once, thinking first, nothing but white space outside, and neither part is empty. `final_answer` is how
every other verifier gets at what it scores.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from synth_cot.verifiers.verdict import Verdict

_RESPONSE = re.compile(r"\s*(?:<think>(?P<think>.*?)</think>)?\s*<answer>(?P<answer>.*?)</answer>\s*", re.DOTALL)
_TAG = re.compile(r"</?(?:think|answer)>")


@dataclass(frozen=True)
class Response:
    """A response in its parts; ``think`` is None for a direct answer."""

    think: str | None
    answer: str


def parse(text: str) -> Response | None:
    """The parts of a well-formed response; None when the form is wrong."""
    match = _RESPONSE.fullmatch(text)
    if match is None or len(_TAG.findall(text)) != (2 if match["think"] is None else 4):
        return None
    think = None if match["think"] is None else match["think"].strip()
    answer = match["answer"].strip()
    return None if think == "" or answer == "" else Response(think=think, answer=answer)


def final_answer(prediction: str) -> str | None:
    """The answer of a response, or the whole text when it carries no tags; None when tags are there but wrong."""
    if _TAG.search(prediction) is None:
        return prediction.strip()
    response = parse(prediction)
    return None if response is None else response.answer


@dataclass(frozen=True)
class FormatVerifier:
    """1 for a well-formed response, else 0. The truth is ``think``, ``direct`` or ``any``: which form is asked for."""

    name: str = "format"
    version: str = "1"
    needs: str = "nothing"

    def score(self, prediction: str, truth: Any = "any") -> Verdict:
        """Whether the whole text has the form asked for.

        Raises:
            ValueError: an unknown form is asked for.
        """
        if truth not in ("any", "think", "direct"):
            raise ValueError(f"unknown form {truth!r}: one of any, think, direct")
        response = parse(prediction)
        if response is None:
            return Verdict(0.0, "not <think>...</think><answer>...</answer>")
        if truth != "any" and (response.think is not None) != (truth == "think"):
            return Verdict(0.0, f"asked for {truth}, got {'direct' if response.think is None else 'think'}")
        return Verdict(1.0, "well formed")


VERIFIER = FormatVerifier()
