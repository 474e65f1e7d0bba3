"""What an answer points at, to be drawn over its picture: boxes and points of the answer, boxes and intervals of the evidence.

Everything here comes from text that a model or a file wrote: only finite numbers in their range get through, and no text does.
Coordinates are thousandths of the picture's width and height.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

MARKS_MAX = 40
_BOX = re.compile(r"\[\s*(\d{1,4}(?:\.\d+)?(?:\s*,\s*\d{1,4}(?:\.\d+)?){3})\s*\]")
_POINT = re.compile(r'"point"\s*:\s*\[\s*(\d{1,4}(?:\.\d+)?\s*,\s*\d{1,4}(?:\.\d+)?)\s*\]')
_SPAN = re.compile(r"\[\s*(\d{1,6}(?:\.\d+)?)\s*,\s*(\d{1,6}(?:\.\d+)?)\s*\]")
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)

Box = tuple[float, float, float, float]
Span = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A rectangle of the answer or of the evidence, or a small one around a point of the answer."""

    kind: Literal["answer", "evidence", "point"]
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Where the truth of a verified answer stands: boxes in pixels of the source, intervals in its seconds, pages."""

    boxes: tuple[Box, ...] = ()
    intervals: tuple[Span, ...] = ()
    pages: tuple[int, ...] = ()


def read_evidence(text: str | None) -> Evidence:
    """The evidence of a sample; what is malformed is left out."""
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return Evidence()
    if not isinstance(value, dict):
        return Evidence()
    boxes = [tuple(map(float, box)) for box in _lists(value.get("boxes"), 4)]
    spans = [tuple(map(float, span)) for span in _lists(value.get("intervals"), 2)]
    pages = value.get("pages")
    return Evidence(
        boxes=tuple(box for box in boxes if box[0] < box[2] and box[1] < box[3])[:MARKS_MAX],  # type: ignore[arg-type]
        intervals=tuple(span for span in spans if span[0] <= span[1])[:MARKS_MAX],  # type: ignore[arg-type]
        pages=tuple(page for page in pages if _number(page) and page == int(page))[:MARKS_MAX]
        if isinstance(pages, list)
        else (),
    )


def evidence_marks(evidence: Evidence, frame: tuple[float, float, float, float] | None) -> list[Mark]:
    """The evidence's boxes on a picture that shows ``frame`` of its source, in pixels."""
    if frame is None or frame[0] >= frame[2] or frame[1] >= frame[3]:
        return []
    across, down = 1000 / (frame[2] - frame[0]), 1000 / (frame[3] - frame[1])
    found = [
        _clipped("evidence", (x0 - frame[0]) * across, (y0 - frame[1]) * down, (x1 - frame[0]) * across, (y1 - frame[1]) * down)
        for x0, y0, x1, y1 in evidence.boxes
    ]
    return [mark for mark in found if mark is not None]


def answer_marks(text: str) -> list[Mark]:
    """Boxes ``[x0, y0, x1, y1]`` and points in thousandths that the answer names; its ``<answer>`` alone where it has one."""
    part = _ANSWER.search(text)
    said = part.group(1) if part else text
    found = [_clipped("answer", *map(float, match.group(1).split(","))) for match in _BOX.finditer(said)]
    for match in _POINT.finditer(said):
        x, y = map(float, match.group(1).split(","))
        found.append(_clipped("point", x - 25, y - 20, x + 25, y + 20))
    return [mark for mark in found if mark is not None][:MARKS_MAX]


def answer_spans(text: str) -> list[Span]:
    """Intervals ``[start, end]`` in seconds that the answer names."""
    part = _ANSWER.search(text)
    pairs = ((float(a), float(b)) for a, b in _SPAN.findall(part.group(1) if part else text))
    return [(a, b) for a, b in pairs if a <= b][:MARKS_MAX]


def _clipped(kind: Literal["answer", "evidence", "point"], x0: float, y0: float, x1: float, y1: float) -> Mark | None:
    if not (x0 < x1 and y0 < y1 and x0 < 1000 and y0 < 1000 and x1 > 0 and y1 > 0):
        return None
    x0, y0, x1, y1 = max(x0, 0.0), max(y0, 0.0), min(x1, 1000.0), min(y1, 1000.0)
    return Mark(kind=kind, x=round(x0, 1), y=round(y0, 1), width=round(x1 - x0, 1), height=round(y1 - y0, 1))


def _lists(value: Any, size: int) -> Iterator[list[float]]:
    for item in value if isinstance(value, list) else ():
        if isinstance(item, list) and len(item) == size and all(map(_number, item)):
            yield item


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and abs(value) < 1e9
