"""How many shots a whole video has. Refused when it is a single shot, or when a shot has no stored frame to be seen in."""

from __future__ import annotations

from synth_cot.known import Clip, Subject
from synth_cot.question import Ask, Evidence, Question, Rejection, pick
from synth_cot.questions.moments import since

TASK = "reason.video.count"
_MOST = 40
_PROMPTS = (
    "How many shots does this video consist of? A new shot begins at every cut.",
    "Count the shots of this video: how many uninterrupted takes are there?",
    "The video is cut several times. Into how many shots?",
)


def candidates(subject: Subject) -> list[Ask]:
    """One question for a whole video."""
    if not isinstance(subject, Clip) or not subject.whole or subject.presences:
        return []
    return [Ask(task=TASK, place=subject.place, start_s=subject.start_s)]


def build(subject: Subject, ask: Ask, seed: int) -> Question | Rejection:
    """See `synth_cot.question.Family`."""
    assert isinstance(subject, Clip)
    shots = subject.shots
    if len(shots) < 2:
        return Rejection(ask=ask, reason="trivial", detail=f"{len(shots)} shot")
    if len(shots) > _MOST:
        return Rejection(ask=ask, reason="too_many", detail=f"{len(shots)} shots, more than {_MOST}")
    for start, end in shots:
        if not since(subject, start) < since(subject, end):
            return Rejection(
                ask=ask, reason="too_short", detail=f"the shot {start}-{end} s is shorter than a tenth of a second"
            )
        if not any(start <= point / subject.fps < end for point in subject.frames):
            return Rejection(ask=ask, reason="unseen", detail=f"no stored frame shows the shot {start}-{end} s")
    prompt = pick(_PROMPTS, seed, TASK, str(shots))
    return Question(
        ask=ask,
        prompt=f"{prompt} Answer with a number.",
        truth=str(len(shots)),
        verifier="count",
        evidence=Evidence(intervals=shots),
    )
