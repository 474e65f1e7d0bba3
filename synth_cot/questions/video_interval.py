"""During which interval of a video a described scene happens (temporal grounding).

Refused when the scene is nearly the whole clip: then there is nothing to find.
"""

from __future__ import annotations

from synth_cot.known import Clip, Subject
from synth_cot.question import Ask, Evidence, Question, Rejection, pick
from synth_cot.questions.moments import span, unclear

TASK = "reason.video.interval"
_PROMPTS = (
    "When does this happen in the video: “{text}”",
    "Find the interval in which this can be seen: “{text}”",
    "Between which moments does the video show this: “{text}”",
)


def candidates(subject: Subject) -> list[Ask]:
    """One question for each scene."""
    if not isinstance(subject, Clip):
        return []
    return [
        Ask(task=TASK, place=subject.place, ids=(str(index),), start_s=subject.start_s) for index in range(len(subject.scenes))
    ]


def build(subject: Subject, ask: Ask, seed: int) -> Question | Rejection:
    """See `synth_cot.question.Family`."""
    assert isinstance(subject, Clip)
    index = int(ask.ids[0])
    if wrong := unclear(subject, index):
        return Rejection(ask=ask, reason=wrong[0], detail=wrong[1])
    scene = subject.scenes[index]
    if scene.end - scene.start > 0.9 * (subject.end_s - subject.start_s):
        return Rejection(ask=ask, reason="trivial", detail=f"scene {index} is nearly the whole clip")
    stem = pick(_PROMPTS, seed, subject.form.name, TASK, scene.text).format(text=scene.text)
    return Question(
        ask=ask,
        prompt=f"{stem} Answer as [[start, end]] in seconds.",
        truth=f"[{span(subject, scene.start, scene.end)}]",
        verifier="intervals",
        evidence=Evidence(intervals=((scene.start, scene.end),)),
    )
