"""Answers about what this project drew, from the payload alone: by filtering rows and by walking the frames of a film.

The families compute with spans; here a film is looked at frame by frame, as a person would, so that neither repeats a slip of
the other.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import groupby
from typing import Any

from synth_cot.question import Ask


def picture(ask: Ask, kind: str, payload: dict[str, Any]) -> Any:
    """The truth of a ``reason.image`` task.

    Raises:
        ValueError: the task is unknown.
    """
    things = payload["things"]
    if kind == "count":
        return _number(things, ask.value)
    if kind == "difference":
        one, other = ask.value.split("-")
        return _number(things, one) - _number(things, other)
    chosen = [next(thing for thing in things if thing["id"] == one) for one in ask.ids]
    if kind == "locate":
        return [_thousandths(chosen[0]["box"], payload)]
    if kind == "relation":
        edge = {"further left": 0, "higher up": 1}[ask.value]
        return "A" if chosen[0]["box"][edge] < chosen[1]["box"][edge] else "B"
    raise ValueError(f"unknown task {ask.task}")


def _number(things: list[dict[str, Any]], group: str) -> int:
    wanted = {key: value for key, value in zip(("colour", "shape"), group.split("|"), strict=True) if value}
    return sum(all(thing[key] == value for key, value in wanted.items()) for thing in things)


def _thousandths(box: list[float], shown: dict[str, Any]) -> list[int]:
    sizes = (shown["width"], shown["height"], shown["width"], shown["height"])
    return [round(Fraction(str(side)) * 1000 / size) for side, size in zip(box, sizes, strict=True)]


def pair(ask: Ask, kind: str, payload: dict[str, Any]) -> Any:
    """The truth of a ``reason.pair`` task: found by comparing the two lists of things, not read from the list of edits.

    Raises:
        ValueError: the task is unknown.
    """
    before = {thing["id"]: thing for thing in payload["before"]["things"]}
    after = {thing["id"]: thing for thing in payload["after"]["things"]}
    found = {}
    for thing_id in before.keys() | after.keys():
        old, new = before.get(thing_id), after.get(thing_id)
        if old == new:
            continue
        boxes = [thing["box"] for thing in (old, new) if thing is not None]
        kind_of = "added" if old is None else "removed" if new is None else _what_changed(old, new)
        hull = [min(box[side] for box in boxes) for side in (0, 1)] + [max(box[side] for box in boxes) for side in (2, 3)]
        found[thing_id] = (kind_of, hull)
    if kind == "count":
        return len(found)
    if kind == "locate":
        return [_thousandths(hull, payload["after"]) for _, hull in found.values()]
    if kind == "kind":
        edit = next(edit for edit in payload["edits"] if edit["id"] == ask.ids[0])
        return "ABCD"[ask.value.split("|").index(found[edit["thing"]][0])]
    raise ValueError(f"unknown task {ask.task}")


def _what_changed(old: dict[str, Any], new: dict[str, Any]) -> str:
    changed = {key for key in ("shape", "colour", "box") if old[key] != new[key]}
    if len(changed) != 1:
        raise ValueError(f"thing {old['id']} changed in {sorted(changed)}")
    return {"colour": "recoloured", "box": "resized"}[changed.pop()]


def film(ask: Ask, kind: str, payload: dict[str, Any]) -> Any:
    """The truth of a ``reason.film`` task, from which things each frame shows.

    Raises:
        ValueError: the task is unknown.
    """
    step = Fraction(1) / Fraction(str(payload["fps_grid"]))
    points = [point for point, _ in payload["frames"]]
    seen = {
        one["id"]: [any(start <= float(point * step) < end for start, end in one["spans"]) for point in points]
        for one in payload["presences"]
    }
    names = {one["id"]: one["name"] for one in payload["presences"]}
    chosen = [seen[one] for one in ask.ids]
    if kind == "count":
        return sum(1 for shown, _ in groupby(chosen[0]) if shown)
    if kind == "intervals":
        return _runs(chosen[0], step)
    if kind in ("together", "meet"):
        both = [left and right for left, right in zip(*chosen, strict=True)]
        return _runs(both, step) if kind == "together" else "A" if any(both) else "B"
    if kind == "visible":
        point = round(Fraction(ask.value) / step)
        return sum(frames[point] for frames in seen.values())
    if kind == "longest":
        times = [sum(frames) for frames in chosen]
        return "ABCD"[times.index(max(times))]
    if kind == "sequence":
        return [names[one] for one in sorted(ask.ids, key=lambda one: seen[one].index(True))]
    if kind == "order":
        moments = (
            [frames.index(True) for frames in chosen]
            if ask.value == "before"
            else [frames[::-1].index(True) for frames in chosen]
        )
        return "A" if moments[0] < moments[1] else "B"
    raise ValueError(f"unknown task {ask.task}")


def film_clues(ask: Ask, payload: dict[str, Any]) -> list[list[float]]:
    """The intervals that show the answer to a ``reason.film`` question with options.

    Raises:
        ValueError: the task has no options.
    """
    spans = {one["id"]: [list(span) for span in one["spans"]] for one in payload["presences"]}
    if ask.task == "reason.film.order":
        found = [spans[one][0 if ask.value == "before" else -1] for one in ask.ids]
    elif ask.task in ("reason.film.meet", "reason.film.longest"):
        found = [span for one in ask.ids for span in spans[one]]
    else:
        raise ValueError(f"{ask.task} has no clues")
    return [list(span) for span in sorted({(start, end) for start, end in found})]


def _runs(frames: list[bool], step: Fraction) -> list[list[float]]:
    """First and one past the last frame of every unbroken run, in seconds."""
    runs, at = [], 0
    for shown, group in groupby(frames):
        count = len(list(group))
        if shown:
            runs.append([float(at * step), float((at + count) * step)])
        at += count
    return runs


def grid(ask: Ask, kind: str, payload: dict[str, Any]) -> Any:
    """The truth of a ``reason.table`` task.

    Raises:
        ValueError: the task is unknown.
    """
    if kind == "cell":
        row, column = (int(one) for one in ask.ids)
        return payload["rows"][row][column]
    values = [(int(row[int(ask.ids[0])]), row[0]) for row in payload["rows"]]
    if kind == "sum":
        return str(sum(value for value, _ in values))
    if kind == "most":
        return sorted(values)[-1 if ask.value == "largest" else 0][1]
    raise ValueError(f"unknown task {ask.task}")
