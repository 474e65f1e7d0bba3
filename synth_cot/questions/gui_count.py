"""How many controls of one kind a screen shows.

Refused: none or one (nothing to count), more than 40, and controls that nearly cover one another, which no eye tells apart.
"""

from __future__ import annotations

from itertools import combinations

from synth_cot.known import Screen, Subject
from synth_cot.question import Ask, Evidence, Question, Rejection, pick
from synth_cot.questions.controls import NAMES, overlap, wrong_box

TASK = "reason.gui.count"
_MOST = 40
_PROMPTS = (
    "How many {many} does this screen show?",
    "Count the {many} on this screen.",
    "Look at the screenshot. What is the number of {many}?",
    "How many {many} can you see here?",
)


def candidates(subject: Subject) -> list[Ask]:
    """One question for each role on the screen. Plain text is not counted: where one text ends is a matter of layout."""
    if not isinstance(subject, Screen):
        return []
    roles = sorted({element.role for element in subject.elements} & NAMES.keys() - {"text"})
    return [Ask(task=TASK, place=subject.place, value=role) for role in roles]


def build(subject: Subject, ask: Ask, seed: int) -> Question | Rejection:
    """See `synth_cot.question.Family`."""
    assert isinstance(subject, Screen)
    found = [element for element in subject.elements if element.role == ask.value]
    if len(found) < 2:
        return Rejection(ask=ask, reason="trivial", detail=f"{len(found)} {ask.value} on the screen")
    if len(found) > _MOST:
        return Rejection(ask=ask, reason="too_many", detail=f"{len(found)} {ask.value}, more than {_MOST}")
    for element in found:
        if wrong := wrong_box(subject, element):
            return Rejection(ask=ask, reason="wrong_box", detail=wrong)
    for one, other in combinations(found, 2):
        if overlap(one.box, other.box) > 0.5:
            return Rejection(ask=ask, reason="ambiguous", detail=f"{one.id} and {other.id} cover one another")
    prompt = pick(_PROMPTS, seed, subject.media_id, TASK, ask.value).format(many=NAMES[ask.value][1])
    evidence = Evidence(boxes=tuple(element.box for element in found))
    return Question(
        ask=ask, prompt=f"{prompt} Answer with a number.", truth=str(len(found)), verifier="count", evidence=evidence
    )
