"""Is every step supported? Statements are recomputed; cited boxes, intervals, pages and quotations must exist.

For counts the number of distinct pieces of evidence cited must be the answer itself: each thing counted was pointed at.
"""

from __future__ import annotations

import json
import re
from fractions import Fraction
from typing import Any

from synth_cot.checks.claims import examine
from synth_cot.checks.response import tenth
from synth_cot.known import Known, Problem, Subject
from synth_cot.question import Question, Rejection
from synth_cot.verifiers.answer_format import parse

_BOX = re.compile(r"\[(\d+), (\d+), (\d+), (\d+)\]")
_INTERVAL = re.compile(r"\[(\d+\.\d), (\d+\.\d)\]")
_QUOTE = re.compile(r"“([^”]*)”")
_PAGE = re.compile(r"\bpage (\d+)\b")


def check_process(reply: str, question: Question, subject: Subject, known: Known) -> Rejection | None:
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
    cited = [tuple(map(int, box)) for box in _BOX.findall(thought)]
    times = [(float(start), float(end)) for start, end in _INTERVAL.findall(thought)]
    if isinstance(subject, Problem):
        source = subject.question
        if not checked:
            return refuse("no_checked_step", "no step states anything that can be recomputed")
    else:
        source = " ".join(_texts(known.payload))
        boxes, intervals, pages = _evidence(question, known.payload)
        if missing := [box for box in cited if box not in boxes]:
            return refuse("no_such_box", f"{list(missing[0])} is no control of the screen")
        if absent := [pair for pair in times if pair not in intervals]:
            return refuse("no_such_interval", f"{list(absent[0])} is no scene or shot of the video")
        if unknown := [page for page in _PAGE.findall(thought) if int(page) not in pages]:
            return refuse("no_such_page", f"there is no page {unknown[0]}")
        if not (checked or cited or times or _PAGE.search(thought)):
            return refuse("no_checked_step", "no step points at evidence")
    for quote in _QUOTE.findall(thought):
        if quote not in source:
            return refuse("no_such_text", f"“{quote[:80]}” stands nowhere in the source")
    if question.ask.task.endswith(".count"):
        distinct = len(set(cited)) if cited else len(set(times))
        if str(distinct) != question.truth or distinct != len(cited or times):
            return refuse(
                "count_not_shown",
                f"{distinct} different things are pointed at among {len(cited or times)}, not {question.truth}",
            )
    return None


def _texts(payload: Any) -> list[str]:
    """Every string of a payload, white space folded."""
    if isinstance(payload, str):
        return [" ".join(payload.split())]
    inner = payload.values() if isinstance(payload, dict) else payload if isinstance(payload, list) else ()
    return [text for value in inner for text in _texts(value)]


def _evidence(question: Question, payload: dict[str, Any]) -> tuple[set[Any], set[Any], set[int]]:
    """All boxes in 0-1000 coordinates, intervals in seconds of the clip, and pages that a response may cite."""
    ask = question.ask
    screen = payload["steps"][int(ask.place)] if "steps" in payload else payload
    boxes = {
        tuple(
            round(Fraction(str(side)) * 1000 / extent)
            for side, extent in zip(item["box"], [screen["width"], screen["height"]] * 2, strict=True)
        )
        for item in screen.get("elements", ())
    }
    pairs = [(scene["start"], scene["end"]) for scene in payload.get("scenes", ())] + [
        tuple(shot) for shot in payload.get("shots", ())
    ]
    intervals = {(tenth(start, ask.start_s), tenth(end, ask.start_s)) for start, end in pairs}
    return boxes, intervals, {page["page"] for page in payload.get("pages", ())}


def evidence_json(question: Question) -> str:
    """What is stored with a sample: the ask as a value, and where its truth can be seen."""
    value = {
        "ask": vars(question.ask),
        "boxes": question.evidence.boxes,
        "intervals": question.evidence.intervals,
        "pages": question.evidence.pages,
    }
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
