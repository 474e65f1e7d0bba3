"""A set of time intervals ``[[start, end], ...]`` in seconds; ``m:ss``, and ``from 1 s to 2.5 s`` or ``1:02 - 1:10`` where
the whole answer is of that form, are read too.

Score = 0.9 x temporal IoU of the two unions + 0.1 x closeness. Closeness is s / (s + d): d is the Wasserstein-1 distance
between the two unions taken as uniform distributions over time, s the mean of their lengths. IoU alone is 0 for every miss;
with the second term a near miss scores above a far one. The score is 1 only for equal unions, and is symmetric. Two empty
sets agree.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

from synth_cot.verifiers.answer_format import final_answer
from synth_cot.verifiers.verdict import Verdict

Interval = tuple[float, float]
_TIME = r"\d+(?::\d{1,2}){0,2}(?:\.\d+)?"
_PAIR = re.compile(rf"\[\s*\"?({_TIME})\"?\s*(?:s\s*)?,\s*\"?({_TIME})\"?\s*(?:s\s*)?\]")
_SPAN = re.compile(rf"(?:from\s+)?({_TIME})\s*(?:s|sec|seconds)?\s*(?:-|–|—|to|until)\s*({_TIME})\s*(?:s|sec|seconds)?", re.I)
_BETWEEN_SPANS = re.compile(r"[\s,;.]|and")
_MOST = 1_000
_DISTANCE_WEIGHT = 0.1


def seconds(text: str) -> float:
    """``75.5``, ``1:15.5`` or ``0:01:15.5`` as seconds."""
    total = 0.0
    for piece in text.split(":"):
        total = total * 60 + float(piece)
    return total


def parse_intervals(text: str) -> list[Interval] | None:
    """Every interval of a text; None when it holds none and is not an empty list, or one ends before it starts."""
    pairs = _PAIR.findall(text)
    if not pairs and not _BETWEEN_SPANS.sub("", _SPAN.sub("", text)):
        pairs = _SPAN.findall(text)
    found = [(seconds(start), seconds(end)) for start, end in pairs]
    if any(not (end > start and math.isfinite(end)) for start, end in found):
        return None
    return found if found or re.fullmatch(r"\s*\[\s*\]\s*", text) else None


def union(intervals: list[Interval]) -> list[Interval]:
    """The same time as disjoint intervals in rising order."""
    merged: list[Interval] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def length(intervals: list[Interval]) -> float:
    """Seconds covered by disjoint intervals."""
    return math.fsum(end - start for start, end in intervals)


def overlap(left: list[Interval], right: list[Interval]) -> float:
    """Seconds covered by both of two sets of disjoint intervals."""
    return math.fsum(max(0.0, min(a[1], b[1]) - max(a[0], b[0])) for a in left for b in right)


def _covered(intervals: list[Interval], moment: float) -> float:
    return math.fsum(max(0.0, min(end, moment) - start) for start, end in intervals) / length(intervals)


def distance(left: list[Interval], right: list[Interval]) -> float:
    """Wasserstein-1 distance in seconds between two sets of disjoint intervals: the area between their cumulative shares."""
    moments = sorted({moment for interval in (*left, *right) for moment in interval})
    gaps = [_covered(left, moment) - _covered(right, moment) for moment in moments]
    area = 0.0
    for before, after, start, end in zip(gaps, gaps[1:], moments, moments[1:], strict=False):
        if before * after >= 0:
            area += (abs(before) + abs(after)) / 2 * (end - start)
        else:  # the shares cross inside: two triangles
            area += (before * before + after * after) / (abs(before) + abs(after)) / 2 * (end - start)
    return area


def _truth(value: Any) -> list[Interval]:
    wanted = [(float(start), float(end)) for start, end in (json.loads(value) if isinstance(value, str) else value)]
    if wrong := [pair for pair in wanted if not pair[1] > pair[0]]:
        raise ValueError(f"the true interval {wrong[0]} does not end after it starts")
    return wanted


@dataclass(frozen=True)
class IntervalsVerifier:
    """1 for the same time, else how much is shared and how near the rest lies."""

    name: str = "intervals"
    version: str = "2"
    needs: str = "nothing"

    def score(self, prediction: str, truth: Any) -> Verdict:
        """See `Verifier.score`; the truth is a list of ``[start, end]`` in seconds or its JSON."""
        wanted = union(_truth(truth))
        answer = final_answer(prediction)
        found = None if answer is None else parse_intervals(answer)
        if found is None:
            return Verdict(0.0, "malformed response" if answer is None else "no intervals, or one that ends before it starts")
        if len(found) > _MOST:
            return Verdict(0.0, f"{len(found)} intervals are more than {_MOST}")
        given = union(found)
        if given == wanted:
            return Verdict(1.0, "equal")
        if not given or not wanted:
            return Verdict(0.0, f"{len(given)} intervals for {len(wanted)}")
        shared = overlap(given, wanted)
        lengths = length(given) + length(wanted)
        share = min(1.0, shared / (lengths - shared))
        apart = distance(given, wanted)
        close = (lengths / 2) / (lengths / 2 + apart)
        score = (1 - _DISTANCE_WEIGHT) * share + _DISTANCE_WEIGHT * close
        return Verdict(min(score, math.nextafter(1.0, 0.0)), f"IoU {share:.3f}, {apart:.2f} s apart")


VERIFIER = IntervalsVerifier()
