"""Recordings of what was done on a screen: goal, then screenshot and action in turn, as one conversation (`gui.action`).

An action must lie where it says: its element on that screen, its point inside the element and the picture. A recording that
does not fit itself would teach wrong clicks, so it is quarantined whole. One that did not reach its goal is filtered.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from manifests.sample import Message, Origin, Part, Sample, Visual, text
from pipelines.duplicates import Signature
from pipelines.extraction import Extracted, Setting
from pipelines.items import Filtered, Quarantined
from pipelines.pictures import PictureStore, open_picture, store_picture
from pipelines.screens import Screen, read_screen
from pipelines.sidecars import clean, number, parse_object

ASK = (
    "Reach this goal step by step: {goal}\n"
    'Answer each screen with one action as JSON: {{"action": ..., "point": [x, y] in thousandths, "text": ...}}.'
)


def read_trace(setting: Setting) -> Extracted:
    """A ``trace.json`` and its screenshots.

    Raises:
        Quarantined: it is no trace, a screenshot is missing or of another size, or an action does not lie on its element.
        Filtered: the goal was not reached.
    """
    item = setting.item
    trace = parse_object(setting.path.read_bytes(), item.source)
    if trace.get("format") != "longreel-gui-trace/1":
        raise _bad(f"format is {trace.get('format')!r}, not 'longreel-gui-trace/1'")
    goal, steps = trace.get("goal"), trace.get("steps")
    if not isinstance(goal, str) or not goal.strip() or not isinstance(steps, list) or not steps:
        raise _bad("it has no goal or no steps")
    goal = clean(goal)
    store = PictureStore()
    messages: list[Message] = []
    told: list[dict[str, Any]] = []
    area = 0.0
    for place, step in enumerate(steps):
        if not isinstance(step, dict):
            raise _bad(f"step {place} is no object")
        shown, screen, media_id = _screen(step, place, setting, store)
        action = step.get("action")
        parts = (text(ASK.format(goal=goal)), shown) if place == 0 else (shown,)
        answer = _answer(action, screen, place)
        messages.append(Message(role="user", parts=parts))
        messages.append(Message(role="assistant", parts=(text(json.dumps(answer, ensure_ascii=False), shown.origin),)))
        area += screen.width * screen.height
        told.append(
            {
                "media_id": media_id,
                "width": screen.width,
                "height": screen.height,
                "elements": [element.to_json() for element in screen.elements],
                "action": action,
            }
        )
    if trace.get("success") is not True:
        raise Filtered("unsuccessful", "the recording did not reach its goal")
    pictures = tuple(sorted({step["media_id"] for step in told}))
    sample = Sample(task="gui.action", capabilities=("agent", "operation"), messages=tuple(messages), licence=item.licence)
    return Extracted(
        modality="trace",
        samples=[sample],
        store=store,
        signature=Signature(kind="exact", size=area, described=True, pictures=pictures),
        annotation=("trace", {"goal": goal, "app": clean(str(trace.get("app", ""))), "steps": told}),
        annotated_media=pictures,
    )


def _bad(detail: str) -> Quarantined:
    return Quarantined("check", "bad_trace", detail, "trace")


def _screen(step: dict[str, Any], place: int, setting: Setting, store: PictureStore) -> tuple[Part, Screen, str]:
    item, recipe = setting.item, setting.recipe
    name = step.get("screenshot")
    file = item.attachment(name) if isinstance(name, str) else None
    if file is None:
        raise Quarantined("check", "missing_screenshot", f"step {place} shows {name!r}, which is not beside the trace", "trace")
    try:
        picture = open_picture(Path(file.path))
    except Quarantined as problem:
        raise Quarantined(problem.stage, problem.reason, f"step {place}: {name}: {problem.detail}", "trace") from problem
    screen = read_screen(step, picture.size, f"step {place}", "trace")
    media_id, _ = store_picture(store, picture, recipe.visual, recipe.curate.stored_tokens_max, jpeg_quality=None)
    height, width = recipe.visual.image_size(picture.height, picture.width)
    whole = Origin(source_id=item.source_id, box=(0.0, 0.0, float(screen.width), float(screen.height)))
    return Part(kind="image", visuals=(Visual(media_id=media_id, height=height, width=width),), origin=whole), screen, media_id


def _answer(action: Any, screen: Screen, place: int) -> dict[str, Any]:
    """An action as the model says it, once it is known to lie on its element."""
    if not isinstance(action, dict) or not isinstance(action.get("type"), str):
        raise _bad(f"step {place} has no action with a type")
    answer: dict[str, Any] = {"action": action["type"]}
    element, point, words = action.get("element"), action.get("point"), action.get("text")
    if point is not None:
        values = [number(value) for value in point] if isinstance(point, list) and len(point) == 2 else [None]
        if any(value is None for value in values):
            raise _bad(f"step {place}: point {point!r} is no pair of numbers")
        x, y = (float(value) for value in values if value is not None)
        if not (0 <= x < screen.width and 0 <= y < screen.height):
            detail = f"step {place}: point {point} lies outside the picture of {screen.width}x{screen.height} px"
            raise Quarantined("check", "action_outside", detail, "trace")
        answer["point"] = screen.point(x, y)
    if element is not None:
        found = next((each for each in screen.elements if each.id == element), None)
        if found is None:
            raise Quarantined("check", "unknown_element", f"step {place}: no element {element!r} on its screen", "trace")
        x0, y0, x1, y1 = found.box
        if point is not None and not (x0 <= x <= x1 and y0 <= y <= y1):
            detail = f"step {place}: point {point} lies outside element {element!r} with box {list(found.box)}"
            raise Quarantined("check", "action_outside", detail, "trace")
    if words is not None:
        if not isinstance(words, str):
            raise _bad(f"step {place}: the action's text is {type(words).__name__}")
        answer["text"] = clean(words)
    return answer
