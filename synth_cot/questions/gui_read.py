"""What the control in a region says. Refused where a second control shares the region: it would be unclear which is meant."""

from __future__ import annotations

from synth_cot.known import Screen, Subject
from synth_cot.question import Ask, Evidence, Question, Rejection, pick, relative_box
from synth_cot.questions.controls import NAMES, area, shared, wrong_box

TASK = "reason.gui.read"
_LONGEST = 200
_PROMPTS = (
    "What does the {name} at {box} say?",
    "Read the text of the {name} in the region {box}.",
    "Which words stand in the {name} at {box}?",
)
_READABLE = ("button", "link", "tab", "text", "textbox", "combobox", "menuitem")


def candidates(subject: Subject) -> list[Ask]:
    """One question for each control whose text stands inside its own box."""
    if not isinstance(subject, Screen):
        return []
    return [
        Ask(task=TASK, place=subject.place, ids=(element.id,))
        for element in subject.elements
        if element.text and element.role in _READABLE
    ]


def build(subject: Subject, ask: Ask, seed: int) -> Question | Rejection:
    """See `synth_cot.question.Family`."""
    assert isinstance(subject, Screen)
    element = subject.element(ask.ids[0])
    if wrong := wrong_box(subject, element):
        return Rejection(ask=ask, reason="wrong_box", detail=wrong)
    if len(element.text) > _LONGEST:
        return Rejection(ask=ask, reason="too_long", detail=f"{element.id} holds {len(element.text)} characters")
    if element.role == "button" and element.text == element.text.lower() and not _spoken(element.text):
        return Rejection(ask=ask, reason="not_shown", detail=f"{element.text!r} of {element.id} looks like the name of an icon")
    for other in subject.elements:
        if other.id != element.id and shared(other.box, element.box) > 0.2 * min(area(other.box), area(element.box)):
            return Rejection(ask=ask, reason="ambiguous", detail=f"{other.id} shares the region of {element.id}")
    box = list(relative_box(element.box, subject.width, subject.height))
    prompt = pick(_PROMPTS, seed, subject.media_id, TASK, element.id).format(name=NAMES[element.role][0], box=box)
    evidence = Evidence(boxes=(element.box,))
    form = "Answer with the text only."
    return Question(ask=ask, prompt=f"{prompt} {form}", truth=element.text, verifier="text", evidence=evidence)


def _spoken(text: str) -> bool:
    """Icons carry class names such as ``ui-spinner-up`` or ``trash``: a hyphenless word a person reads has no such form."""
    return text.isdigit() or (" " in text and "-" not in text and "_" not in text)
