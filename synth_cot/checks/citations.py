"""What a response may point at: every box, interval and page of a source, and what can be said to be there.

Boxes are in 0-1000 coordinates, intervals in seconds of the clip to a tenth. A place holds *words*: the text of a control, the
description of a scene, the name of a thing; a place without words (a shot, an empty text field) may be pointed at, and nothing
is claimed of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from synth_cot.checks.recompute import tenth, thousandths
from synth_cot.question import Ask

Box = tuple[int, ...]
Span = tuple[float, float]


@dataclass(kw_only=True)
class Citable:
    """Places by kind, each with the words that stand there; cells by the names of row and column.

    ``words`` is everything that may be quoted at all, in small letters.
    """

    boxes: dict[Box, set[str]] = field(default_factory=lambda: defaultdict(set))
    intervals: dict[Span, set[str]] = field(default_factory=lambda: defaultdict(set))
    pages: dict[int, str] = field(default_factory=dict)
    cells: dict[tuple[str, str], str] = field(default_factory=dict)
    words: str = ""


def citable(ask: Ask, payload: dict[str, Any]) -> Citable:
    """Everything in a source that an answer to ``ask`` may cite."""
    found = Citable()
    shown = payload["steps"][int(ask.place)] if "steps" in payload else payload
    for element in shown.get("elements", ()):
        _put(found.boxes, tuple(thousandths(element["box"], shown)), " ".join(element["text"].split()))
    for picture in (shown, shown.get("before", {}), shown.get("after", {})):
        for thing in picture.get("things", ()):
            _put(found.boxes, tuple(thousandths(thing["box"], picture)), _name(thing))
    for edit in shown.get("edits", ()):
        for side in ("before", "after"):
            for thing in shown[side]["things"]:
                if thing["id"] == edit["thing"]:
                    _put(found.boxes, tuple(thousandths(edit["box"], shown["after"])), _name(thing))
    for scene in shown.get("scenes", ()):
        span = tenth(scene["start"], ask.start_s), tenth(scene["end"], ask.start_s)
        _put(found.intervals, span, " ".join(scene["text"].split()))
    for shot in shown.get("shots", ()):
        _put(found.intervals, (tenth(shot[0], ask.start_s), tenth(shot[1], ask.start_s)), "")
    _films(found, shown)
    table = payload["tables"][int(ask.place)] if ask.task.startswith("reason.table") and "tables" in payload else payload
    for row in table.get("rows", ()):
        found.cells |= {(row[0], column): cell for column, cell in zip(table["columns"], row, strict=True)}
    texts = payload.get("texts", {})
    for page in payload.get("pages", ()):
        words = " ".join(texts.get(str(page["page"]), "").split())
        found.pages[page["page"]] = words or " ".join((page["first_line"] or "").split())
    found.words = " ".join(_strings(payload)).casefold()
    return found


def _films(found: Citable, payload: dict[str, Any]) -> None:
    """A thing's spans, and where two things are seen at once."""
    spans = [
        (one["name"], tenth(start, 0.0), tenth(end, 0.0)) for one in payload.get("presences", ()) for start, end in one["spans"]
    ]
    for name, start, end in spans:
        _put(found.intervals, (start, end), name)
        for other, begin, stop in spans:
            if name != other and max(start, begin) < min(end, stop):
                _put(found.intervals, (max(start, begin), min(end, stop)), name)


def _put(places: dict[Any, set[str]], place: Any, words: str) -> None:
    places[place].update({words} - {""})


def _name(thing: dict[str, Any]) -> str:
    return f"{thing['colour']} {thing['shape']}"


def _strings(value: Any) -> Iterator[str]:
    """Every string of a payload, white space folded, and the names of its things."""
    if isinstance(value, str):
        yield " ".join(value.split())
    elif isinstance(value, dict):
        if "colour" in value and "shape" in value:
            yield _name(value)
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
