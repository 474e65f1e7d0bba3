"""Is every step supported? Statements are recomputed; what is pointed at must exist, and hold what is said to be there.

A line that quotes words and points at a box or an interval claims that the words are there. For counts the number of distinct
places pointed at must be the answer itself: each thing counted was shown. A teacher that looks at pictures cannot know a box to
the thousandth, so it may miss by ``tolerance``: a place counts as the known one it overlaps most, if their IoU reaches
1 - ``tolerance``. The teachers that work from the annotation get no tolerance.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from synth_cot.checks.citations import Citable, citable
from synth_cot.checks.claims import examine
from synth_cot.known import Known, Problem, Query, Subject
from synth_cot.question import Question, Rejection
from synth_cot.verifiers.answer_format import parse

_BOX = re.compile(r"\[(\d+), (\d+), (\d+), (\d+)\]")
_INTERVAL = re.compile(r"\[(\d+(?:\.\d+)?), (\d+(?:\.\d+)?)\]")
_QUOTE = re.compile(r"“([^”]*)”")
_PAGE = re.compile(r"\bpage (\d+)\b")
_PAGE_SAYS = re.compile(r"\bpage (\d+) (begins with|does not begin with|holds|does not hold) “([^”]*)”")
_CELL = re.compile(r"“([^”]*)” under “([^”]*)”: “([^”]*)”")
_COUNTED = ("count", "visible")


def check_process(reply: str, question: Question, subject: Subject, known: Known, tolerance: float = 0.0) -> Rejection | None:
    """Why the reasoning of a response is not kept, or None. A direct answer has no steps to check."""
    response = parse(reply)
    if response is None or response.think is None:
        return None
    thought = response.think

    def refuse(reason: str, detail: str) -> Rejection:
        return Rejection(ask=question.ask, reason=reason, detail=detail)

    checked, wrong = examine(thought)
    if wrong:
        return refuse("false_step", wrong[0])
    if isinstance(subject, Problem | Query):
        return _check_text(thought, subject.question if isinstance(subject, Problem) else subject.prompt, checked, refuse)
    places = citable(question.ask, known.payload)
    pages = [int(page) for page in _PAGE.findall(thought)]
    if unknown := [page for page in pages if page not in places.pages]:
        return refuse("no_such_page", f"there is no page {unknown[0]}")
    pointed: list[tuple[str, Any]] = []
    for line in thought.splitlines():
        quotes = _QUOTE.findall(line)
        for box in _BOX.findall(line):
            place = _nearest(tuple(map(int, box)), places.boxes, tolerance)
            if place is None:
                return refuse("no_such_box", f"[{', '.join(box)}] is nothing that is known on the picture")
            if not _holds(places.boxes[place], quotes):
                return refuse("not_there", f"[{', '.join(box)}] does not hold “{quotes[0][:80]}”")
            pointed.append((quotes[0] if quotes else "", place))
        for pair in _INTERVAL.findall(line):
            place = _nearest(tuple(map(float, pair)), places.intervals, tolerance)
            if place is None:
                return refuse("no_such_interval", f"[{', '.join(pair)}] is no known interval of the video")
            if not _holds(places.intervals[place], quotes):
                return refuse("not_there", f"[{', '.join(pair)}] does not show “{quotes[0][:80]}”")
            pointed.append((quotes[0] if quotes else "", place))
        if untrue := _untrue(line, places):
            return refuse(*untrue)
        for quote in quotes:
            if quote.casefold() not in places.words:
                return refuse("no_such_text", f"“{quote[:80]}” stands nowhere in the source")
    if not (checked or pointed or pages or _CELL.search(thought)):
        return refuse("no_checked_step", "no step points at evidence")
    if question.ask.task.rsplit(".", 1)[-1] in _COUNTED and (question.truth != "0" or pointed):
        distinct = len(set(pointed))
        if str(distinct) != question.truth or distinct != len(pointed):
            return refuse(
                "count_not_shown",
                f"{distinct} different things are pointed at among {len(pointed)}, not {question.truth}",
            )
    return None


def _check_text(thought: str, source: str, checked: int, refuse: Any) -> Rejection | None:
    if not checked:
        refused: Rejection = refuse("no_checked_step", "no step states anything that can be recomputed")
        return refused
    for quote in _QUOTE.findall(thought):
        if quote not in source:
            missing: Rejection = refuse("no_such_text", f"“{quote[:80]}” stands nowhere in the source")
            return missing
    return None


def _nearest(given: tuple[float, ...], places: Iterable[Any], tolerance: float) -> Any:
    """The known place that is meant, or None: itself, or within the tolerance the one it overlaps most."""
    known = set(places)
    if given in known:
        return given
    best = max(sorted(known), key=lambda place: _overlap(given, place), default=None) if tolerance else None
    return best if best is not None and _overlap(given, best) >= 1 - tolerance else None


def _overlap(left: tuple[float, ...], right: tuple[float, ...]) -> float:
    """Intersection over union of two boxes or two intervals."""
    half = len(left) // 2
    shared = size_left = size_right = 1.0
    for axis in range(half):
        shared *= max(0.0, min(left[axis + half], right[axis + half]) - max(left[axis], right[axis]))
        size_left *= max(0.0, left[axis + half] - left[axis])
        size_right *= max(0.0, right[axis + half] - right[axis])
    union = size_left + size_right - shared
    return shared / union if union > 0 else 0.0


def _holds(words: set[str], quotes: list[str]) -> bool:
    """Whether a place with these words can be what a line with these quotes points at."""
    return not words or not quotes or any(known.startswith(quote) for known in words for quote in quotes)


def _untrue(line: str, places: Citable) -> tuple[str, str] | None:
    """Reason and detail when a line says of a page or a table's cell what is not so."""
    for number, says, quote in _PAGE_SAYS.findall(line):
        text, wanted = places.pages.get(int(number), "").casefold(), " ".join(quote.split()).casefold()
        found = (
            text.startswith(wanted) if "begin" in says else re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", text) is not None
        )
        if found == ("not" in says):
            return "not_there", f"it is not so that page {number} {says} “{quote[:80]}”"
    for row, column, cell in _CELL.findall(line):
        if places.cells.get((row, column)) != cell:
            return "not_there", f"“{row[:40]}” has {places.cells.get((row, column))!r} under “{column[:40]}”, not “{cell[:40]}”"
    return None


def evidence_json(question: Question, claims: list[dict[str, Any]]) -> str:
    """What is stored with a sample: the ask as a value, where its truth can be seen, and the provenance of each claim."""
    value = {
        "ask": vars(question.ask),
        "boxes": question.evidence.boxes,
        "intervals": question.evidence.intervals,
        "pages": question.evidence.pages,
        "claims": claims,
    }
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
