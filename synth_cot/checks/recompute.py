"""The truth once more: worked out from the raw payload and the `Ask`, by code that no family of questions shares.

Two independent ways to one answer are what lets a sample be trusted; so nothing here may import from `synth_cot.questions`.
"""

from __future__ import annotations

import math
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from typing import Any

from synth_cot.checks.recompute_drawn import film, film_clues, grid, pair, picture
from synth_cot.question import Ask


def recompute(ask: Ask, payload: dict[str, Any]) -> Any:
    """The truth of an ask about an annotated source, in the form its verifier reads.

    Raises:
        ValueError: the ask has no single answer, or is of an unknown task.
    """
    family, kind = ask.task.split(".")[1:]
    if family == "gui":
        return _screen(ask, kind, payload["steps"][int(ask.place)] if ask.place else payload)
    if family == "video":
        return _clip(ask, kind, payload)
    if family == "document":
        return _document(ask, kind, payload)
    if family == "table":
        return grid(ask, kind, payload["tables"][int(ask.place)] if ask.place else payload)
    if family in ("image", "pair", "film"):
        return {"image": picture, "pair": pair, "film": film}[family](ask, kind, payload)
    raise ValueError(f"unknown task {ask.task}")


def recompute_clues(ask: Ask, payload: dict[str, Any]) -> list[list[float]]:
    """The intervals that show the answer to a question with options about a video.

    Raises:
        ValueError: the task has none.
    """
    if ask.task.startswith("reason.film."):
        return film_clues(ask, payload)
    scenes = [scene for scene in payload["scenes"] if scene["start"] >= ask.start_s]
    chosen = [scenes[int(one)] for one in ask.ids]
    if ask.task == "reason.video.next":
        right = recompute(ask, payload)
        chosen = [chosen[0], chosen[1 + "ABCDE".index(right)]]
    return [list(span) for span in sorted({(tenth(s["start"], ask.start_s), tenth(s["end"], ask.start_s)) for s in chosen})]


def _document(ask: Ask, kind: str, payload: dict[str, Any]) -> Any:
    if kind == "page":
        return _only([p["page"] for p in payload["pages"] if str(p["page"]) in ask.ids and p["first_line"] == ask.value], ask)
    if kind == "order":
        left, right = (int(number) for number in ask.value.split("|"))
        return _letter(left < right, left > right, ask)
    if kind == "mentions":
        words = {number: _plain_words(payload["texts"][number]) for number in ask.ids}
        return [number for number in sorted(ask.ids, key=int) if ask.value in words[number]]
    raise ValueError(f"unknown task {ask.task}")


def _plain_words(text: str) -> set[str]:
    """Words of six ASCII letters and more, in small letters; digits, underscores and other letters join words."""
    spaced = "".join(mark if mark.isalnum() or mark == "_" else " " for mark in text)
    return {word.lower() for word in spaced.split() if len(word) >= 6 and word.isascii() and word.isalpha()}


def _only(found: list[Any], ask: Ask) -> Any:
    if len(found) != 1:
        raise ValueError(f"{len(found)} answers to {ask}")
    return found[0]


def _screen(ask: Ask, kind: str, screen: dict[str, Any]) -> Any:
    by_id = {str(element["id"]): element for element in screen["elements"]}
    chosen = [by_id[one] for one in ask.ids]
    if kind == "count":
        return len([1 for element in by_id.values() if element["role"] == ask.value])
    if kind == "locate":
        return [thousandths(chosen[0]["box"], screen)]
    if kind == "read":
        return " ".join(chosen[0]["text"].split())
    if kind == "order":
        axis = {"from top to bottom": 1, "from left to right": 0}[ask.value]
        return [" ".join(element["text"].split()) for element in sorted(chosen, key=lambda element: element["box"][axis])]
    if kind == "compare":
        left, right = (element["box"] for element in chosen)
        if ask.value == "larger":
            sizes = [(box[2] - box[0]) * (box[3] - box[1]) for box in (left, right)]
            return _letter(sizes[0] > sizes[1], sizes[0] < sizes[1], ask)
        axis = {"further left": 0, "higher up": 1}[ask.value]
        return _letter(left[axis] < right[axis], left[axis] > right[axis], ask)
    raise ValueError(f"unknown task {ask.task}")


def thousandths(box: list[float], shown: dict[str, Any]) -> list[int]:
    """A box in pixels of a picture as 0-1000 coordinates."""
    extents = [Decimal(str(shown["width"])), Decimal(str(shown["height"]))] * 2
    return [
        int((1000 * Decimal(str(side)) / extent).to_integral_value(ROUND_HALF_EVEN))
        for side, extent in zip(box, extents, strict=True)
    ]


def _letter(first: bool, second: bool, ask: Ask) -> str:
    if first == second:
        raise ValueError(f"no answer to {ask}")
    return "A" if first else "B"


def _clip(ask: Ask, kind: str, video: dict[str, Any]) -> Any:
    if kind == "count":
        return len(video["shots"])
    inside = [
        s for s in video["scenes"] if s["start"] >= ask.start_s and (not ask.place or s["end"] <= _window_end(ask, video))
    ]
    times = [tuple(tenth(scene[key], ask.start_s) for key in ("start", "end")) for scene in inside]
    chosen = [times[int(one)] for one in ask.ids]
    if kind == "interval":
        return [list(chosen[0])]
    if kind == "at":
        moment = float(ask.value)
        return _only([letter for letter, (begin, end) in zip("ABCDE", chosen, strict=False) if begin <= moment < end], ask)
    if kind == "next":
        # The neighbour in time is the scene with the next number; families look at where scenes touch.
        wanted = int(ask.ids[0]) + (1 if ask.value == "after" else -1)
        return "ABCDE"[ask.ids[1:].index(str(wanted))]
    (begin, end), (other_begin, other_end) = chosen
    if kind == "order":
        first = begin < other_begin if ask.value == "first" else begin > other_begin
        return _letter(first, not first and begin != other_begin, ask)
    if kind == "duration":
        return _letter(end - begin > other_end - other_begin, end - begin < other_end - other_begin, ask)
    raise ValueError(f"unknown task {ask.task}")


def tenth(seconds: float, start_s: float) -> float:
    """Seconds from the start of a clip, to a tenth; a half is rounded up."""
    return math.floor((Fraction(str(seconds)) - Fraction(str(start_s))) * 10 + Fraction(1, 2)) / 10


def _window_end(ask: Ask, video: dict[str, Any]) -> float:
    number = int(ask.place)
    # Windows of one video are of one length, so the start of the window after the first is that length times its number.
    return float(video["duration_s"]) if number == 0 else min(float(video["duration_s"]), ask.start_s * (number + 1) / number)
