"""Where a named control stands: one box in 0-1000 coordinates. Only controls that role and text name alone are asked for."""

from __future__ import annotations

from synth_cot.known import Screen, Subject
from synth_cot.question import Ask, Evidence, Question, Rejection, pick, relative_box
from synth_cot.questions.controls import NAMES, called, unnamed

TASK = "reason.gui.locate"
_PROMPTS = (
    "Where is {it}?",
    "Find {it} on this screen.",
    "Give the bounding box of {it}.",
    "Locate {it}.",
)
_FORM = "Answer as [[x0, y0, x1, y1]] in 0-1000 coordinates."


def candidates(subject: Subject) -> list[Ask]:
    """One question for each control that has a text."""
    if not isinstance(subject, Screen):
        return []
    return [
        Ask(task=TASK, place=subject.place, ids=(element.id,))
        for element in subject.elements
        if element.text and element.role in NAMES
    ]


def build(subject: Subject, ask: Ask, seed: int) -> Question | Rejection:
    """See `synth_cot.question.Family`."""
    assert isinstance(subject, Screen)
    element = subject.element(ask.ids[0])
    if wrong := unnamed(subject, element):
        return Rejection(ask=ask, reason=wrong[0], detail=wrong[1])
    prompt = pick(_PROMPTS, seed, subject.media_id, TASK, element.id).format(it=called(element))
    box = relative_box(element.box, subject.width, subject.height)
    return Question(
        ask=ask, prompt=f"{prompt} {_FORM}", truth=f"[{list(box)}]", verifier="boxes", evidence=Evidence(boxes=(element.box,))
    )
