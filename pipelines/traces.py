"""Recordings of what was done on a screen: goal, then screenshot and action in turn.

Three kinds of samples: the whole recording as one conversation (`gui.action`); each step alone, with what was done before told
in words (`gui.next_action`); and two screenshots in a row, between which something was done that has to be told
(`gui.operation`).

An action must lie where it says: its element on that screen, its point inside the element and the picture. A recording that
does not fit itself would teach wrong clicks, so it is quarantined whole: `pipelines.trace_alignment` has the checks that take
two screenshots. One that did not reach its goal is filtered.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from manifests.sample import Message, Origin, Part, Sample, Visual, text
from pipelines.duplicates import Signature
from pipelines.extraction import Drop, Extracted, Setting
from pipelines.items import Filtered, Quarantined
from pipelines.pictures import PictureStore, open_picture, store_picture
from pipelines.screen_questions import name as called
from pipelines.screens import Element, Screen, read_screen
from pipelines.sidecars import clean, number, parse_object
from pipelines.trace_alignment import Effect, check_effects, check_order, effect

ASK = (
    "Reach this goal step by step: {goal}\n"
    'Answer each screen with one action as JSON: {{"action": ..., "point": [x, y] in thousandths, "text": ...}}.'
)
ASK_NEXT = (
    "The goal: {goal}\nDone so far: {done}\n"
    'What is the next action? Answer as JSON: {{"action": ..., "point": [x, y] in thousandths, "text": ...}}.'
)
ASK_OPERATION = "These are two screens in a row. What was done on the first one?"


@dataclass(frozen=True, kw_only=True)
class _Step:
    """A step as read: ``answer`` is its action as the model says it, ``element`` what it is about."""

    name: str
    shown: Part
    screen: Screen
    media_id: str
    picture: Image.Image
    action: dict[str, Any]
    answer: dict[str, Any]
    element: Element | None

    def told(self) -> str | None:
        """The action in words; None for one that cannot be told from the screens, or whose element has no name."""
        kind, words = self.answer["action"], json.dumps(self.answer.get("text", ""), ensure_ascii=False)
        if kind == "press" and self.answer.get("text"):
            return f"The key {words} was pressed."
        if self.element is None or (not self.element.text and kind != "type"):
            return None
        there = f"the {called(self.element)}" if self.element.text else f"the {self.element.role}"
        match kind:
            case "click" | "double_click" | "long_press":
                done = {"click": "clicked", "double_click": "double-clicked", "long_press": "pressed for long"}[kind]
                return f"{there[0].upper()}{there[1:]} was {done}."
            case "type" if self.answer.get("text"):
                # A field's text is its content or its placeholder: that it will change is the point, so the role names it.
                return f"The text {words} was typed into the {self.element.role} at {self.answer.get('point', 'its place')}."
            case "select" if self.answer.get("text"):
                return f"{words} was selected in {there}."
        return None


def read_trace(setting: Setting) -> Extracted:
    """A ``trace.json`` and its screenshots.

    Raises:
        Quarantined: it is no trace, a screenshot is missing or of another size, an action does not lie on its element, or the
            screenshots are not those of the actions.
        Filtered: the goal was not reached.
    """
    item = setting.item
    trace = parse_object(setting.path.read_bytes(), item.source)
    if trace.get("format") != "longreel-gui-trace/1":
        raise _bad(f"format is {trace.get('format')!r}, not 'longreel-gui-trace/1'")
    goal, listed = trace.get("goal"), trace.get("steps")
    if not isinstance(goal, str) or not goal.strip() or not isinstance(listed, list) or not listed:
        raise _bad("it has no goal or no steps")
    goal = clean(goal)
    store = PictureStore()
    steps: list[_Step] = []
    effects: list[Effect] = []
    for place, entry in enumerate(listed):
        if not isinstance(entry, dict):
            raise _bad(f"step {place} is no object")
        step = _step(entry, place, setting, store)
        if steps:
            before = steps[-1]
            box = None if before.element is None else before.element.box
            effects.append(effect(place - 1, before.answer["action"], box, before.picture, step.picture))
            steps[-1] = _without_picture(before)
        steps.append(step)
    check_order([step.name for step in steps], [step.answer["action"] for step in steps])
    check_effects(effects)
    if trace.get("success") is not True:
        raise Filtered("unsuccessful", "the recording did not reach its goal")
    told = [
        {
            "media_id": step.media_id,
            "width": step.screen.width,
            "height": step.screen.height,
            "elements": [element.to_json() for element in step.screen.elements],
            "action": step.action,
        }
        for step in steps
    ]
    pictures = tuple(sorted({step.media_id for step in steps}))
    operations, drops = _operations(steps, effects, item.licence)
    shown = {step.name for step in steps}
    unused = sorted(attached.role for attached in item.attached if attached.role not in shown)
    if unused:
        detail = f"{len(unused)} screenshots beside the trace belong to no step, first: {unused[0]}"
        drops.append(Drop(task="gui.action", stage="filter", reason="unused_screenshot", detail=detail))
    return Extracted(
        modality="trace",
        samples=[_conversation(goal, steps, item.licence), *_next_actions(goal, steps, item.licence), *operations],
        store=store,
        signature=Signature(
            kind="exact",
            size=float(sum(step.screen.width * step.screen.height for step in steps)),
            described=True,
            pictures=pictures,
        ),
        annotation=("trace", {"goal": goal, "app": clean(str(trace.get("app", ""))), "steps": told}),
        annotated_media=pictures,
        drops=drops,
    )


def _without_picture(step: _Step) -> _Step:
    """A recording may have hundreds of steps; only two decoded screenshots are needed at a time."""
    return replace(step, picture=Image.new("1", (1, 1)))


def _said(step: _Step) -> Part:
    return text(json.dumps(step.answer, ensure_ascii=False), step.shown.origin)


def _conversation(goal: str, steps: list[_Step], licence: str) -> Sample:
    messages: list[Message] = []
    for place, step in enumerate(steps):
        parts = (text(ASK.format(goal=goal)), step.shown) if place == 0 else (step.shown,)
        messages.append(Message(role="user", parts=parts))
        messages.append(Message(role="assistant", parts=(_said(step),)))
    return Sample(task="gui.action", capabilities=("agent", "operation"), messages=tuple(messages), licence=licence)


def _next_actions(goal: str, steps: list[_Step], licence: str) -> list[Sample]:
    """Each step alone, up to the first whose history cannot be told in words."""
    samples = []
    history: list[str] = []
    for step in steps:
        question = ASK_NEXT.format(goal=goal, done=" ".join(history) or "nothing.")
        messages = (
            Message(role="user", parts=(step.shown, text(question))),
            Message(role="assistant", parts=(_said(step),)),
        )
        samples.append(Sample(task="gui.next_action", capabilities=("agent", "operation"), messages=messages, licence=licence))
        told = step.told()
        if told is None:
            break
        history.append(told)
    return samples


def _operations(steps: list[_Step], effects: list[Effect], licence: str) -> tuple[list[Sample], list[Drop]]:
    """What was done between each two screenshots, where it shows and can be told."""
    samples: list[Sample] = []
    drops: list[Drop] = []
    for seen in effects:
        step, after = steps[seen.step], steps[seen.step + 1]
        if not seen.aligned:
            reason = {"none": "no_visible_change", "elsewhere": "change_elsewhere"}[seen.change]
            detail = f"step {seen.step}: after {step.answer['action']!r} the next screenshot shows no change where it acted"
            drops.append(Drop(task="gui.operation", stage="filter", reason=reason, detail=detail))
            continue
        told = step.told()
        if told is None or not seen.expected:
            continue
        messages = (
            Message(role="user", parts=(step.shown, after.shown, text(ASK_OPERATION))),
            Message(role="assistant", parts=(text(told, step.shown.origin),)),
        )
        samples.append(
            Sample(task="gui.operation", capabilities=("operation_description",), messages=messages, licence=licence)
        )
    return samples, drops


def _bad(detail: str) -> Quarantined:
    return Quarantined("check", "bad_trace", detail, "trace")


def _step(step: dict[str, Any], place: int, setting: Setting, store: PictureStore) -> _Step:
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
    answer, element = _answer(step.get("action"), screen, place)
    return _Step(
        name=file.role,
        shown=Part(kind="image", visuals=(Visual(media_id=media_id, height=height, width=width),), origin=whole),
        screen=screen,
        media_id=media_id,
        picture=picture,
        action=step["action"],
        answer=answer,
        element=element,
    )


def _answer(action: Any, screen: Screen, place: int) -> tuple[dict[str, Any], Element | None]:
    """An action as the model says it, once it is known to lie on its element, and the element."""
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
    found: Element | None = None
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
    return answer, found
