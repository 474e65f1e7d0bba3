"""A sequence: the right items in the right order.

Items are separated by commas, semicolons, line breaks, arrows, ``>`` or ``×``; brackets, quotes, bullets, the numbers of a
numbered list and an ``and`` before the last item are dropped; numbers compare by value. The score is the longest common
subsequence over the longer length, which is 1 only for equal sequences, and is symmetric.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, DecimalException
from typing import Any

from synth_cot.verifiers.answer_format import final_answer
from synth_cot.verifiers.plain_text import normalise
from synth_cot.verifiers.verdict import Verdict

_SEPARATOR = re.compile(r"\s*(?:->|→|[,;\n>×])\s*")
_NUMBERED = re.compile(r"(\d+)\s*[.)]\s+(?=\S)")
_CLOSED = {"[": "]", "(": ")", "{": "}"}
_BULLET = re.compile(r"[-*•]\s+(?=\S)")
_LONGEST = 2_000


def items(value: Any) -> list[str]:
    """The items of a sequence given as text or as a list, in their compared form."""
    pieces = (
        [str(piece) for piece in value]
        if isinstance(value, list | tuple)
        else _SEPARATOR.split(str(value).strip().strip("[](){}"))
    )
    if not isinstance(value, list | tuple):
        pieces = _listed([piece.strip() for piece in pieces if piece.strip()])
    plain = [normalise(piece.strip().strip("[](){}")) for piece in pieces]
    return [_number(piece) for piece in plain if piece]


def _listed(pieces: list[str]) -> list[str]:
    """The pieces without the marks of a list, where every one carries them."""
    numbers = [_NUMBERED.match(piece) for piece in pieces]
    if pieces and [match and int(match[1]) for match in numbers] == list(range(1, len(pieces) + 1)):
        return [_NUMBERED.sub("", piece, count=1) for piece in pieces]
    if pieces and all(_BULLET.match(piece) for piece in pieces):
        return [_BULLET.sub("", piece, count=1) for piece in pieces]
    if len(pieces) > 2 and pieces[-1].startswith("and "):
        return [*pieces[:-1], pieces[-1][4:]]
    return pieces


def _number(piece: str) -> str:
    try:
        number = Decimal(piece.replace("−", "-"))
        return str(number.normalize() + 0) if number.is_finite() else piece
    except DecimalException:
        return piece


def common_subsequence(left: list[str], right: list[str]) -> int:
    """The length of the longest sequence that both contain in order."""
    previous = [0] * (len(right) + 1)
    for one in left:
        current = [0]
        for column, other in enumerate(right, start=1):
            current.append(previous[column - 1] + 1 if one == other else max(previous[column], current[-1]))
        previous = current
    return previous[-1]


@dataclass(frozen=True)
class OrderVerifier:
    """1 for the same items in the same order, else the share that stands in order."""

    name: str = "order"
    version: str = "2"
    needs: str = "nothing"

    def score(self, prediction: str, truth: Any) -> Verdict:
        """See `Verifier.score`; the truth is a list of items or its text."""
        answer = final_answer(prediction)
        if answer is None:
            return Verdict(0.0, "malformed response")
        if answer[:1] in _CLOSED and not answer.endswith(_CLOSED[answer[0]]):
            return Verdict(0.0, "a list that is not closed")
        given, wanted = items(answer), items(truth)
        if given == wanted:
            return Verdict(1.0, "equal")
        longest = max(len(given), len(wanted))
        if longest > _LONGEST:
            return Verdict(0.0, "different")
        common = common_subsequence(given, wanted)
        return Verdict(common / longest, f"{common} of {longest} items in order")


VERIFIER = OrderVerifier()
