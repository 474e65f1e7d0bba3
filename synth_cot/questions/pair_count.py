"""In how many places two pictures differ; light, blur and noise do not count. Pairs without a difference are asked too."""

from __future__ import annotations

from synth_cot.known import Pair, Subject
from synth_cot.question import Ask, Evidence, Question, Rejection, pick

TASK = "reason.pair.count"
_PROMPTS = (
    "How many things differ between these two pictures?",
    "Compare the two pictures. In how many places was something changed?",
    "Count the differences between the first and the second picture.",
)
NOT_COUNTED = "Light, blur and noise do not count."


def candidates(subject: Subject) -> list[Ask]:
    """The one question."""
    return [Ask(task=TASK)] if isinstance(subject, Pair) else []


def build(subject: Subject, ask: Ask, seed: int) -> Question | Rejection:
    """See `synth_cot.question.Family`."""
    assert isinstance(subject, Pair)
    prompt = pick(_PROMPTS, seed, subject.before.media_id, TASK)
    return Question(
        ask=ask,
        prompt=f"{prompt} {NOT_COUNTED} Answer with a number.",
        truth=str(len(subject.edits)),
        verifier="count",
        evidence=Evidence(boxes=tuple(edit.box for edit in subject.edits)),
    )
