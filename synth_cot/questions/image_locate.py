"""Where the one thing of its colour and shape stands on a drawn picture: its box in 0-1000 coordinates."""

from __future__ import annotations

from synth_cot.known import Picture, Subject
from synth_cot.question import Ask, Evidence, Question, Rejection, pick, relative_box
from synth_cot.questions.drawn import unique

TASK = "reason.image.locate"
_PROMPTS = ("Where is the {it}?", "Find the {it}.", "Give the bounding box of the {it}.", "Point at the {it}.")


def candidates(subject: Subject) -> list[Ask]:
    """One question for each thing."""
    return [Ask(task=TASK, ids=(thing.id,)) for thing in subject.things] if isinstance(subject, Picture) else []


def build(subject: Subject, ask: Ask, seed: int) -> Question | Rejection:
    """See `synth_cot.question.Family`."""
    assert isinstance(subject, Picture)
    thing = subject.thing(ask.ids[0])
    if thing not in unique(subject):
        return Rejection(ask=ask, reason="ambiguous", detail=f"there is more than one {thing.name}")
    prompt = pick(_PROMPTS, seed, subject.media_id, TASK, thing.id).format(it=thing.name)
    box = relative_box(thing.box, subject.width, subject.height)
    return Question(
        ask=ask,
        prompt=f"{prompt} Answer as [[x0, y0, x1, y1]] in 0-1000 coordinates.",
        truth=f"[{list(box)}]",
        verifier="boxes",
        evidence=Evidence(boxes=(thing.box,)),
    )
