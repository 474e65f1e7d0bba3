"""Which of two named controls is larger, or stands further left or higher. Refused when the difference is too small to see."""

from __future__ import annotations

from itertools import combinations

from synth_cot.known import Element, Screen, Subject
from synth_cot.question import Ask, Evidence, Question, Rejection, pick, shuffled
from synth_cot.questions.controls import NAMES, area, called, unnamed

TASK = "reason.gui.compare"
RELATIONS = ("larger", "further left", "higher up")
_PROMPTS = {
    "larger": ("Which covers more of the screen", "Which of the two is larger", "Which takes up the larger area"),
    "further left": ("Which of the two begins further left", "Whose left edge lies further left"),
    "higher up": ("Which of the two begins higher up", "Whose top edge lies higher on the screen"),
}
_MOST_CONTROLS = 12


def candidates(subject: Subject) -> list[Ask]:
    """Pairs of the first controls with text, under every relation."""
    if not isinstance(subject, Screen):
        return []
    named = [element.id for element in subject.elements if element.text and element.role in NAMES][:_MOST_CONTROLS]
    pairs = [shuffled(pair, subject.media_id, TASK) for pair in combinations(named, 2)]
    return [Ask(task=TASK, place=subject.place, ids=pair, value=relation) for pair in pairs for relation in RELATIONS]


def build(subject: Subject, ask: Ask, seed: int) -> Question | Rejection:
    """See `synth_cot.question.Family`."""
    assert isinstance(subject, Screen)
    one, other = (subject.element(element_id) for element_id in ask.ids)
    for element in (one, other):
        if wrong := unnamed(subject, element):
            return Rejection(ask=ask, reason=wrong[0], detail=wrong[1])
    first = _first_wins(subject, one, other, ask.value)
    if first is None:
        return Rejection(ask=ask, reason="too_close", detail=f"{one.id} and {other.id} hardly differ in what is {ask.value}")
    stem = pick(_PROMPTS[ask.value], seed, subject.media_id, TASK, *ask.ids, ask.value)
    prompt = f"{stem}? A) {called(one)} B) {called(other)}. Answer with the letter."
    return Question(
        ask=ask, prompt=prompt, truth="A" if first else "B", verifier="option", evidence=Evidence(boxes=(one.box, other.box))
    )


def _first_wins(screen: Screen, one: Element, other: Element, relation: str) -> bool | None:
    """Whether the first control has more of the relation; None when the difference is below 30% of area or 3% of the screen."""
    if relation == "larger":
        sizes = area(one.box), area(other.box)
        return sizes[0] > sizes[1] if max(sizes) > 1.3 * min(sizes) else None
    axis, extent = (0, screen.width) if relation == "further left" else (1, screen.height)
    gap = other.box[axis] - one.box[axis]
    return gap > 0 if abs(gap) > 0.03 * extent else None
