"""How often a thing appears in a drawn film: it was not there in the frame before, or the film begins with it."""

from __future__ import annotations

from synth_cot.known import Clip, Subject
from synth_cot.question import Ask, Evidence, Question, Rejection, pick
from synth_cot.questions.presences import cast, presence

TASK = "reason.film.count"
_PROMPTS = (
    "How many times does the {it} appear in this video?",
    "Count the separate appearances of the {it}.",
    "The {it} comes and goes. How often is it shown?",
)


def candidates(subject: Subject) -> list[Ask]:
    """One question for each thing."""
    return [Ask(task=TASK, ids=(one.id,)) for one in cast(subject)]


def build(subject: Subject, ask: Ask, seed: int) -> Question | Rejection:
    """See `synth_cot.question.Family`."""
    assert isinstance(subject, Clip)
    one = presence(subject, ask.ids[0])
    if len(one.spans) < 2:
        return Rejection(ask=ask, reason="trivial", detail=f"the {one.name} appears {len(one.spans)} times")
    prompt = pick(_PROMPTS, seed, TASK, subject.frames[0], one.id).format(it=one.name)
    return Question(
        ask=ask,
        prompt=f"{prompt} Answer with a number.",
        truth=str(len(one.spans)),
        verifier="count",
        evidence=Evidence(intervals=one.spans),
    )
