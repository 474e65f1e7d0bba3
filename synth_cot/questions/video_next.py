"""Which scene comes directly before, or after, another one: scenes that follow one another without a gap."""

from __future__ import annotations

from synth_cot.known import Clip, Subject
from synth_cot.question import Ask, Evidence, Question, Rejection, pick, shuffled
from synth_cot.questions.moments import LETTERS, unclear

TASK = "reason.video.next"
_PROMPTS = {
    "after": ("What comes directly after this scene: “{text}”", "Which scene follows this one: “{text}”"),
    "before": ("What comes directly before this scene: “{text}”", "Which scene leads to this one: “{text}”"),
}
_GAP_S = 0.1


def candidates(subject: Subject) -> list[Ask]:
    """Each scene with its neighbour; ``ids`` are the scene and then the options in order."""
    if not isinstance(subject, Clip) or len(subject.scenes) < 3:
        return []
    asks = []
    for index, scene in enumerate(subject.scenes):
        for value, neighbour in (("after", index + 1), ("before", index - 1)):
            if 0 <= neighbour < len(subject.scenes):
                others = [str(other) for other in range(len(subject.scenes)) if other not in (index, neighbour)]
                options = shuffled((str(neighbour), *shuffled(others, TASK, scene.text, value)[:3]), TASK, scene.text)
                asks.append(
                    Ask(task=TASK, place=subject.place, ids=(str(index), *options), value=value, start_s=subject.start_s)
                )
    return asks


def build(subject: Subject, ask: Ask, seed: int) -> Question | Rejection:
    """See `synth_cot.question.Family`."""
    assert isinstance(subject, Clip)
    for index in ask.ids:
        if wrong := unclear(subject, int(index)):
            return Rejection(ask=ask, reason=wrong[0], detail=wrong[1])
    scene, *options = (subject.scenes[int(index)] for index in ask.ids)
    touching = [
        abs(one.start - scene.end) <= _GAP_S if ask.value == "after" else abs(scene.start - one.end) <= _GAP_S
        for one in options
    ]
    if touching.count(True) != 1:
        return Rejection(ask=ask, reason="ambiguous", detail=f"{touching.count(True)} of the options touch the scene")
    listed = " ".join(f"{letter}) {one.text}" for letter, one in zip(LETTERS, options, strict=False))
    stem = pick(_PROMPTS[ask.value], seed, TASK, scene.text).format(text=scene.text)
    neighbour = options[touching.index(True)]
    return Question(
        ask=ask,
        prompt=f"{stem} {listed} Answer with the letter.",
        truth=LETTERS[touching.index(True)],
        verifier="option",
        evidence=Evidence(intervals=((scene.start, scene.end), (neighbour.start, neighbour.end))),
    )
