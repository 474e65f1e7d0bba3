"""Which of two described scenes lasts longer. Refused when they differ by less than a second or less than a fifth."""

from __future__ import annotations

from itertools import combinations

from synth_cot.known import Clip, Subject
from synth_cot.question import Ask, Evidence, Question, Rejection, pick, shuffled
from synth_cot.questions.moments import since, unclear

TASK = "reason.video.duration"
_PROMPTS = (
    "Which of these scenes lasts longer?",
    "Which scene takes more time in the video?",
    "Which of the two is shown longer?",
)
_MOST_SCENES = 24


def candidates(subject: Subject) -> list[Ask]:
    """Each pair of scenes once, the options in an order chosen by hash."""
    if not isinstance(subject, Clip):
        return []
    indices = [str(index) for index in range(len(subject.scenes))][:_MOST_SCENES]
    return [
        Ask(
            task=TASK,
            place=subject.place,
            ids=shuffled(pair, TASK, *(subject.scenes[int(index)].text for index in pair)),
            start_s=subject.start_s,
        )
        for pair in combinations(indices, 2)
    ]


def build(subject: Subject, ask: Ask, seed: int) -> Question | Rejection:
    """See `synth_cot.question.Family`."""
    assert isinstance(subject, Clip)
    for index in ask.ids:
        if wrong := unclear(subject, int(index)):
            return Rejection(ask=ask, reason=wrong[0], detail=wrong[1])
    one, other = (subject.scenes[int(index)] for index in ask.ids)
    lengths = [since(subject, scene.end) - since(subject, scene.start) for scene in (one, other)]
    if max(lengths) - min(lengths) < 1.0 or max(lengths) < 1.2 * min(lengths):
        return Rejection(ask=ask, reason="too_close", detail=f"scenes {' and '.join(ask.ids)} last nearly the same time")
    stem = pick(_PROMPTS, seed, TASK, one.text, other.text)
    return Question(
        ask=ask,
        prompt=f"{stem} A) {one.text} B) {other.text} Answer with the letter.",
        truth="A" if lengths[0] > lengths[1] else "B",
        verifier="option",
        evidence=Evidence(intervals=((one.start, one.end), (other.start, other.end))),
    )
