"""Which of two described scenes comes first. Scenes that overlap in time are refused."""

from __future__ import annotations

from itertools import combinations

from synth_cot.known import Clip, Subject
from synth_cot.question import Ask, Evidence, Question, Rejection, pick, shuffled
from synth_cot.questions.moments import unclear

TASK = "reason.video.order"
_PROMPTS = {
    "first": (
        "Which of these happens first?",
        "Which comes earlier in the video?",
        "Which of these two does the video show first?",
    ),
    "last": (
        "Which of these happens later?",
        "Which comes later in the video?",
        "Which of these two does the video show last?",
    ),
}
_MOST_SCENES = 24


def candidates(subject: Subject) -> list[Ask]:
    """Each pair of scenes once, the options in an order chosen by hash."""
    if not isinstance(subject, Clip):
        return []
    indices = [str(index) for index in range(len(subject.scenes))][:_MOST_SCENES]
    asks = []
    for pair in combinations(indices, 2):
        texts = [subject.scenes[int(index)].text for index in pair]
        value = pick(("first", "last"), TASK, *texts)
        asks.append(Ask(task=TASK, place=subject.place, ids=shuffled(pair, TASK, *texts), value=value, start_s=subject.start_s))
    return asks


def build(subject: Subject, ask: Ask, seed: int) -> Question | Rejection:
    """See `synth_cot.question.Family`."""
    assert isinstance(subject, Clip)
    for index in ask.ids:
        if wrong := unclear(subject, int(index)):
            return Rejection(ask=ask, reason=wrong[0], detail=wrong[1])
    one, other = (subject.scenes[int(index)] for index in ask.ids)
    if min(one.end, other.end) > max(one.start, other.start):
        return Rejection(ask=ask, reason="ambiguous", detail=f"scenes {' and '.join(ask.ids)} overlap in time")
    stem = pick(_PROMPTS[ask.value], seed, TASK, one.text, other.text)
    wanted = min(one, other, key=lambda scene: scene.start) if ask.value == "first" else max(one, other, key=lambda s: s.start)
    return Question(
        ask=ask,
        prompt=f"{stem} A) {one.text} B) {other.text} Answer with the letter.",
        truth="A" if wanted is one else "B",
        verifier="option",
        evidence=Evidence(intervals=((one.start, one.end), (other.start, other.end))),
    )
