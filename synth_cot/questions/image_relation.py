"""Which of two things stands further left, or higher up, on a drawn picture. Refused when they differ by less than 5 %."""

from __future__ import annotations

from itertools import combinations

from synth_cot.known import Picture, Subject
from synth_cot.question import Ask, Evidence, Question, Rejection, pick, shuffled
from synth_cot.questions.drawn import unique

TASK = "reason.image.relation"
RELATIONS = ("further left", "higher up")
_PROMPTS = {
    "further left": ("Which of these begins further left?", "Whose left edge lies further left?"),
    "higher up": ("Which of these begins higher up?", "Whose top edge lies higher in the picture?"),
}


def candidates(subject: Subject) -> list[Ask]:
    """Pairs of things that are named alone, under each relation."""
    if not isinstance(subject, Picture):
        return []
    pairs = combinations([thing.id for thing in unique(subject)], 2)
    return [
        Ask(task=TASK, ids=shuffled(pair, subject.media_id, TASK, relation), value=relation)
        for pair in pairs
        for relation in RELATIONS
    ]


def build(subject: Subject, ask: Ask, seed: int) -> Question | Rejection:
    """See `synth_cot.question.Family`."""
    assert isinstance(subject, Picture)
    one, other = (subject.thing(thing_id) for thing_id in ask.ids)
    axis, extent = (0, subject.width) if ask.value == "further left" else (1, subject.height)
    gap = other.box[axis] - one.box[axis]
    if abs(gap) < 0.05 * extent:
        return Rejection(ask=ask, reason="too_close", detail=f"{one.name} and {other.name} begin {abs(gap):g} px apart")
    stem = pick(_PROMPTS[ask.value], seed, subject.media_id, TASK, *ask.ids)
    return Question(
        ask=ask,
        prompt=f"{stem} A) the {one.name} B) the {other.name}. Answer with the letter.",
        truth="A" if gap > 0 else "B",
        verifier="option",
        evidence=Evidence(boxes=(one.box, other.box)),
    )
