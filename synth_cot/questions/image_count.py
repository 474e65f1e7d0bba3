"""How many things of a colour, a shape or both a drawn picture shows. None and one are refused: there is nothing to count."""

from __future__ import annotations

from synth_cot.known import Picture, Subject
from synth_cot.question import Ask, Evidence, Question, Rejection, pick
from synth_cot.questions.drawn import groups, matching, plural

TASK = "reason.image.count"
_PROMPTS = (
    "How many {many} are in this picture?",
    "Count the {many}.",
    "What is the number of {many} here?",
    "Look closely: how many {many} do you see?",
)


def candidates(subject: Subject) -> list[Ask]:
    """One question for each group."""
    return [Ask(task=TASK, value=group) for group in groups(subject)] if isinstance(subject, Picture) else []


def build(subject: Subject, ask: Ask, seed: int) -> Question | Rejection:
    """See `synth_cot.question.Family`."""
    assert isinstance(subject, Picture)
    found = matching(subject, ask.value)
    if len(found) < 2:
        return Rejection(ask=ask, reason="trivial", detail=f"{len(found)} {plural(ask.value)} on the picture")
    prompt = pick(_PROMPTS, seed, subject.media_id, TASK, ask.value).format(many=plural(ask.value))
    evidence = Evidence(boxes=tuple(thing.box for thing in found))
    return Question(
        ask=ask, prompt=f"{prompt} Answer with a number.", truth=str(len(found)), verifier="count", evidence=evidence
    )
