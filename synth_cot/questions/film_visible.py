"""How many things a drawn film shows at a moment that lies half a frame away from every change."""

from __future__ import annotations

from synth_cot.known import Clip, Subject
from synth_cot.question import Ask, Evidence, Question, Rejection, pick
from synth_cot.questions.presences import cast

TASK = "reason.film.visible"
_PROMPTS = (
    "How many things are on screen at {moment} seconds?",
    "Stop the video at {moment} seconds. How many things can be seen?",
)


def candidates(subject: Subject) -> list[Ask]:
    """One question for each frame."""
    if not isinstance(subject, Clip) or not cast(subject):
        return []
    return [Ask(task=TASK, value=f"{point / subject.fps:.1f}") for point in sorted(subject.frames)]


def build(subject: Subject, ask: Ask, seed: int) -> Question | Rejection:
    """See `synth_cot.question.Family`."""
    assert isinstance(subject, Clip)
    moment = float(ask.value)
    spans = [span for one in subject.presences for span in one.spans if span[0] <= moment < span[1]]
    if len(spans) < 2:
        return Rejection(ask=ask, reason="trivial", detail=f"{len(spans)} things at {moment} s")
    prompt = pick(_PROMPTS, seed, TASK, subject.frames[0], ask.value).format(moment=ask.value)
    return Question(
        ask=ask,
        prompt=f"{prompt} Answer with a number.",
        truth=str(len(spans)),
        verifier="count",
        evidence=Evidence(intervals=tuple(spans)),
    )
