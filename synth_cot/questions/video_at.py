"""Which described scene is on screen at a moment: the middle of a scene, with up to three other scenes to choose from."""

from __future__ import annotations

from synth_cot.known import Clip, Subject
from synth_cot.question import Ask, Evidence, Question, Rejection, pick, shuffled
from synth_cot.questions.moments import LETTERS, since, unclear

TASK = "reason.video.at"
_PROMPTS = ("What does the video show at {moment} seconds?", "Which of these can be seen {moment} seconds into the video?")
_CLEAR_S = 0.5


def candidates(subject: Subject) -> list[Ask]:
    """One question for each scene, where there are at least two; the options are in an order chosen by hash."""
    if not isinstance(subject, Clip) or len(subject.scenes) < 2:
        return []
    asks = []
    for index, scene in enumerate(subject.scenes):
        others = [str(other) for other in range(len(subject.scenes)) if other != index]
        options = shuffled((str(index), *shuffled(others, TASK, scene.text)[:3]), TASK, scene.text, "options")
        moment = f"{since(subject, (scene.start + scene.end) / 2):.1f}"
        asks.append(Ask(task=TASK, place=subject.place, ids=options, value=moment, start_s=subject.start_s))
    return asks


def build(subject: Subject, ask: Ask, seed: int) -> Question | Rejection:
    """See `synth_cot.question.Family`."""
    assert isinstance(subject, Clip)
    for index in ask.ids:
        if wrong := unclear(subject, int(index)):
            return Rejection(ask=ask, reason=wrong[0], detail=wrong[1])
    moment = float(ask.value)
    options = [subject.scenes[int(index)] for index in ask.ids]
    on = [scene for scene in options if since(subject, scene.start) <= moment < since(subject, scene.end)]
    if len(on) != 1:
        return Rejection(ask=ask, reason="ambiguous", detail=f"{len(on)} of the scenes are on screen at {moment} s")
    if min(moment - since(subject, on[0].start), since(subject, on[0].end) - moment) < _CLEAR_S:
        return Rejection(ask=ask, reason="too_short", detail=f"{moment} s is within {_CLEAR_S} s of a cut")
    listed = " ".join(f"{letter}) {scene.text}" for letter, scene in zip(LETTERS, options, strict=False))
    stem = pick(_PROMPTS, seed, TASK, on[0].text).format(moment=ask.value)
    return Question(
        ask=ask,
        prompt=f"{stem} {listed} Answer with the letter.",
        truth=LETTERS[options.index(on[0])],
        verifier="option",
        evidence=Evidence(intervals=tuple((scene.start, scene.end) for scene in options)),
    )
