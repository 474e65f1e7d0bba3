"""Whether two things of a drawn film can ever be seen at the same time: yes or no."""

from __future__ import annotations

from itertools import combinations

from synth_cot.known import Clip, Subject
from synth_cot.question import Ask, Evidence, Question, Rejection, pick
from synth_cot.questions.presences import cast, common, presence

TASK = "reason.film.meet"
_PROMPTS = (
    "Are the {one} and the {other} ever on screen at the same time?",
    "Is there a moment at which both the {one} and the {other} can be seen?",
)


def candidates(subject: Subject) -> list[Ask]:
    """One question for each pair."""
    return [Ask(task=TASK, ids=(one.id, other.id)) for one, other in combinations(cast(subject), 2)]


def build(subject: Subject, ask: Ask, seed: int) -> Question | Rejection:
    """See `synth_cot.question.Family`."""
    assert isinstance(subject, Clip)
    one, other = (presence(subject, thing_id) for thing_id in ask.ids)
    stem = pick(_PROMPTS, seed, TASK, subject.frames[0], *ask.ids).format(one=one.name, other=other.name)
    return Question(
        ask=ask,
        prompt=f"{stem} A) yes B) no. Answer with the letter.",
        truth="A" if common(one.spans, other.spans) else "B",
        verifier="option",
        evidence=Evidence(intervals=(*one.spans, *other.spans)),
    )
