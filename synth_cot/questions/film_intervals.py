"""All intervals in which a thing of a drawn film can be seen."""

from __future__ import annotations

from synth_cot.known import Clip, Subject
from synth_cot.question import Ask, Evidence, Question, Rejection, pick
from synth_cot.questions.presences import cast, listed, presence, total

TASK = "reason.film.intervals"
_PROMPTS = (
    "When is the {it} on screen?",
    "Find all intervals in which the {it} can be seen.",
    "During which parts of the video is the {it} visible?",
)
FORM = "Answer as [[start, end], ...] in seconds."


def candidates(subject: Subject) -> list[Ask]:
    """One question for each thing."""
    return [Ask(task=TASK, ids=(one.id,)) for one in cast(subject)]


def build(subject: Subject, ask: Ask, seed: int) -> Question | Rejection:
    """See `synth_cot.question.Family`."""
    assert isinstance(subject, Clip)
    one = presence(subject, ask.ids[0])
    if total(one.spans) > 0.9 * (subject.end_s - subject.start_s):
        return Rejection(ask=ask, reason="trivial", detail=f"the {one.name} is there nearly all the time")
    prompt = pick(_PROMPTS, seed, TASK, subject.frames[0], one.id).format(it=one.name)
    return Question(
        ask=ask,
        prompt=f"{prompt} {FORM}",
        truth=listed(one.spans),
        verifier="intervals",
        evidence=Evidence(intervals=one.spans),
    )
