"""All intervals in which two things of a drawn film can be seen at the same time. Refused when they never meet."""

from __future__ import annotations

from itertools import combinations

from synth_cot.known import Clip, Subject
from synth_cot.question import Ask, Evidence, Question, Rejection, pick
from synth_cot.questions.film_intervals import FORM
from synth_cot.questions.presences import cast, common, listed, presence

TASK = "reason.film.together"
_PROMPTS = (
    "When are the {one} and the {other} on screen together?",
    "During which intervals can both the {one} and the {other} be seen?",
    "Find the times at which the {one} and the {other} are visible at once.",
)


def candidates(subject: Subject) -> list[Ask]:
    """One question for each pair."""
    return [Ask(task=TASK, ids=(one.id, other.id)) for one, other in combinations(cast(subject), 2)]


def build(subject: Subject, ask: Ask, seed: int) -> Question | Rejection:
    """See `synth_cot.question.Family`."""
    assert isinstance(subject, Clip)
    one, other = (presence(subject, thing_id) for thing_id in ask.ids)
    both = common(one.spans, other.spans)
    if not both:
        return Rejection(ask=ask, reason="trivial", detail=f"{one.name} and {other.name} are never seen together")
    prompt = pick(_PROMPTS, seed, TASK, subject.frames[0], *ask.ids).format(one=one.name, other=other.name)
    return Question(
        ask=ask, prompt=f"{prompt} {FORM}", truth=listed(both), verifier="intervals", evidence=Evidence(intervals=tuple(both))
    )
