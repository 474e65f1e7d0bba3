"""Named controls from top to bottom, or from left to right: three to five, each clearly apart from the next."""

from __future__ import annotations

from itertools import pairwise

from synth_cot.known import Screen, Subject
from synth_cot.question import Ask, Evidence, Question, Rejection, pick, shuffled
from synth_cot.questions.controls import NAMES, called, unnamed

TASK = "reason.gui.order"
DIRECTIONS = ("from top to bottom", "from left to right")
_PROMPTS = ("List these {direction}: {them}.", "Put these in order {direction}: {them}.", "Sort {direction}: {them}.")


def candidates(subject: Subject) -> list[Ask]:
    """A few hash-chosen sets of controls in each direction."""
    if not isinstance(subject, Screen):
        return []
    named = [element.id for element in subject.elements if element.text and element.role in NAMES]
    asks = []
    for number, direction in enumerate(DIRECTIONS * 3):
        chosen = shuffled(named, subject.media_id, TASK, number)[: 3 + number // 2]
        if len(chosen) >= 3:
            asks.append(Ask(task=TASK, place=subject.place, ids=chosen, value=direction))
    return list(dict.fromkeys(asks))


def build(subject: Subject, ask: Ask, seed: int) -> Question | Rejection:
    """See `synth_cot.question.Family`."""
    assert isinstance(subject, Screen)
    chosen = [subject.element(element_id) for element_id in ask.ids]
    for element in chosen:
        if wrong := unnamed(subject, element):
            return Rejection(ask=ask, reason=wrong[0], detail=wrong[1])
        if any(character in element.text for character in ",;>×→[](){}") or "->" in element.text:
            return Rejection(ask=ask, reason="unquotable", detail=f"{element.text!r} of {element.id} cannot stand in a list")
    if len({element.text.casefold() for element in chosen}) < len(chosen):
        return Rejection(ask=ask, reason="ambiguous", detail=f"{', '.join(ask.ids)} share a text")
    axis, extent = (1, subject.height) if ask.value == "from top to bottom" else (0, subject.width)
    placed = sorted(chosen, key=lambda element: element.box[axis])
    if any(after.box[axis] - before.box[axis] <= 0.02 * extent for before, after in pairwise(placed)):
        return Rejection(ask=ask, reason="too_close", detail=f"of {', '.join(ask.ids)} two begin at nearly the same place")
    names = ", ".join(called(element) for element in chosen)
    prompt = pick(_PROMPTS, seed, subject.media_id, TASK, *ask.ids).format(direction=ask.value, them=names)
    truth = ", ".join(element.text for element in placed)
    evidence = Evidence(boxes=tuple(element.box for element in placed))
    form = "Answer with their texts, separated by commas."
    return Question(ask=ask, prompt=f"{prompt} {form}", truth=truth, verifier="order", evidence=evidence)
