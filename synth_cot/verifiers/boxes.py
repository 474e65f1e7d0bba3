"""A set of boxes ``[[x0, y0, x1, y1], ...]`` in 0-1000 coordinates of the picture (x of its width, y of its height).

Predicted and true boxes are matched one to one so that the sum of IoU is largest (Hungarian algorithm); the score is that sum
over the larger number of boxes, so a missing box, a spare one and a duplicate all cost. A duplicate (IoU of 0.9 with an
earlier box of its set) beyond those of the other set counts once more: repeating a box is worse than guessing another. Two
empty sets agree. A box without area, or outside 0-1000, overlaps nothing but still counts.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from synth_cot.verifiers.answer_format import final_answer
from synth_cot.verifiers.verdict import Verdict

Box = tuple[float, float, float, float]
_NUMBER = r"-?\d+(?:\.\d+)?"
_BOX = re.compile(rf"\[\s*({_NUMBER})\s*,\s*({_NUMBER})\s*,\s*({_NUMBER})\s*,\s*({_NUMBER})\s*\]")
_MOST = 500
_DUPLICATE = 0.9


def parse_boxes(text: str) -> list[Box] | None:
    """Every box of a text; None when it holds none and is not an empty list."""
    found: list[Box] = [(float(a), float(b), float(c), float(d)) for a, b, c, d in _BOX.findall(text)]
    return found if found or re.fullmatch(r"\s*\[\s*\]\s*", text) else None


def proper(box: Box) -> bool:
    """Whether a box has an area and lies in 0-1000."""
    x0, y0, x1, y1 = box
    return 0 <= x0 < x1 <= 1000 and 0 <= y0 < y1 <= 1000


def iou(left: Box, right: Box) -> float:
    """Intersection over union of two boxes; 0 when either is not proper."""
    if not proper(left) or not proper(right):
        return 0.0
    width = min(left[2], right[2]) - max(left[0], right[0])
    height = min(left[3], right[3]) - max(left[1], right[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    whole = (left[2] - left[0]) * (left[3] - left[1]) + (right[2] - right[0]) * (right[3] - right[1]) - shared
    return min(1.0, shared / whole)


def duplicates(boxes: list[Box]) -> int:
    """How many boxes repeat an earlier one."""
    return sum(any(iou(box, earlier) >= _DUPLICATE for earlier in boxes[:place]) for place, box in enumerate(boxes))


def _truth(value: Any) -> list[Box]:
    boxes = json.loads(value) if isinstance(value, str) else value
    wanted = [(float(a), float(b), float(c), float(d)) for a, b, c, d in boxes]
    wrong = [box for box in wanted if not proper(box) or not all(map(math.isfinite, box))]
    if wrong:
        raise ValueError(f"the true box {wrong[0]} has no area or lies outside 0-1000")
    return wanted


@dataclass(frozen=True)
class BoxesVerifier:
    """1 for the same set of boxes, else the summed IoU of the best matching over the larger count."""

    name: str = "boxes"
    version: str = "2"
    needs: str = "numpy and scipy"

    def score(self, prediction: str, truth: Any) -> Verdict:
        """See `Verifier.score`; the truth is a list of boxes or its JSON."""
        wanted = _truth(truth)
        answer = final_answer(prediction)
        given = None if answer is None else parse_boxes(answer)
        if given is None:
            return Verdict(0.0, "malformed response" if answer is None else "no boxes")
        if len(given) > _MOST:
            return Verdict(0.0, f"{len(given)} boxes are more than {_MOST}")
        if not given and not wanted:
            return Verdict(1.0, "both empty")
        if not given or not wanted:
            return Verdict(0.0, f"{len(given)} boxes for {len(wanted)}")
        overlaps = np.array([[iou(one, other) for other in wanted] for one in given])
        rows, columns = linear_sum_assignment(overlaps, maximize=True)
        matched = overlaps[rows, columns]
        repeated = abs(duplicates(given) - duplicates(wanted))
        score = float(min(1.0, math.fsum(matched) / (max(len(given), len(wanted)) + repeated)))
        reason = f"{len(given)} boxes for {len(wanted)}, least matched IoU {float(matched.min()):.3f}"
        return Verdict(score, f"{reason}, {repeated} repeated" if repeated else reason)


VERIFIER = BoxesVerifier()
