"""Reasoning that repeats the material instead of reasoning about it: what an injected text would have a model write."""

from __future__ import annotations

import re
from collections.abc import Sequence

from manifests.sample import Part
from synth_cot.verifiers.answer_format import parse

RUN = 12
"""So many words in a row, outside of quotations, are copied."""

_QUOTED = re.compile(r"“[^”]*”")
_WORD = re.compile(r"\w+")


def copied_words(text: str, parts: Sequence[Part]) -> str | None:
    """A run of words of the material that the reasoning repeats without quoting it, or None."""
    response = parse(text)
    if response is None or response.think is None:
        return None
    thought = [word.casefold() for word in _WORD.findall(_QUOTED.sub(" “” ", response.think))]
    material = [word.casefold() for part in parts for word in _WORD.findall(part.text or "")]
    known = {tuple(material[start : start + RUN]) for start in range(len(material) - RUN + 1)}
    for start in range(len(thought) - RUN + 1):
        if tuple(thought[start : start + RUN]) in known:
            return " ".join(thought[start : start + RUN])
    return None
