"""Which of two things of a drawn film is seen first, or last disappears. Refused when they do so at the same moment."""

from __future__ import annotations

from itertools import combinations

from synth_cot.known import Clip, Subject
from synth_cot.question import Ask, Evidence, Question, Rejection, pick, shuffled
from synth_cot.questions.presences import cast, presence

TASK = "reason.film.order"
_PROMPTS = {
    "before": ("Which of these appears first?", "Which of the two is seen before the other?"),
    "after": ("Which of these disappears last?", "Which of the two is seen after the other has gone for good?"),
}


def candidates(subject: Subject) -> list[Ask]:
    """Each pair, before and after."""
    pairs = combinations([one.id for one in cast(subject)], 2)
    return [Ask(task=TASK, ids=shuffled(pair, TASK, value), value=value) for pair in pairs for value in sorted(_PROMPTS)]


def build(subject: Subject, ask: Ask, seed: int) -> Question | Rejection:
    """See `synth_cot.question.Family`."""
    assert isinstance(subject, Clip)
    one, other = (presence(subject, thing_id) for thing_id in ask.ids)
    if ask.value == "before":
        moments, spans = (one.spans[0][0], other.spans[0][0]), (one.spans[0], other.spans[0])
    else:
        moments, spans = (-one.spans[-1][1], -other.spans[-1][1]), (one.spans[-1], other.spans[-1])
    if moments[0] == moments[1]:
        return Rejection(ask=ask, reason="too_close", detail=f"{one.name} and {other.name} do so at the same moment")
    stem = pick(_PROMPTS[ask.value], seed, TASK, subject.frames[0], *ask.ids)
    return Question(
        ask=ask,
        prompt=f"{stem} A) the {one.name} B) the {other.name}. Answer with the letter.",
        truth="A" if moments[0] < moments[1] else "B",
        verifier="option",
        evidence=Evidence(intervals=spans),
    )
