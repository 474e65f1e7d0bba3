"""The things of a drawn film in the order in which they first appear. Refused when two appear at the same moment."""

from __future__ import annotations

from synth_cot.known import Clip, Subject
from synth_cot.question import Ask, Evidence, Question, Rejection, pick, shuffled
from synth_cot.questions.presences import cast, presence

TASK = "reason.film.sequence"
_PROMPTS = (
    "List these in the order in which they first appear: {them}.",
    "Put these in order of their first appearance: {them}.",
)


def candidates(subject: Subject) -> list[Ask]:
    """The one question."""
    found = cast(subject)
    return [Ask(task=TASK, ids=shuffled([one.id for one in found], TASK, str(found)))] if len(found) > 2 else []


def build(subject: Subject, ask: Ask, seed: int) -> Question | Rejection:
    """See `synth_cot.question.Family`."""
    assert isinstance(subject, Clip)
    chosen = [presence(subject, thing_id) for thing_id in ask.ids]
    placed = sorted(chosen, key=lambda one: one.spans[0][0])
    if len({one.spans[0][0] for one in chosen}) < len(chosen):
        return Rejection(ask=ask, reason="too_close", detail="two things appear at the same moment")
    stem = pick(_PROMPTS, seed, TASK, subject.frames[0]).format(them=", ".join(one.name for one in chosen))
    return Question(
        ask=ask,
        prompt=f"{stem} Answer with their names, separated by commas.",
        truth=", ".join(one.name for one in placed),
        verifier="order",
        evidence=Evidence(intervals=tuple(one.spans[0] for one in placed)),
    )
