"""Where two pictures differ: a box for each place, none for a pair without a difference.

The box of a change in size holds the thing before and after it.
"""

from __future__ import annotations

from synth_cot.known import Pair, Subject
from synth_cot.question import Ask, Evidence, Question, Rejection, pick, relative_box
from synth_cot.questions.pair_count import NOT_COUNTED

TASK = "reason.pair.locate"
_PROMPTS = (
    "Where do these two pictures differ?",
    "Give the boxes of all differences between the two pictures.",
    "Find every place where something was changed from the first picture to the second.",
)
_FORM = "Answer as [[x0, y0, x1, y1], ...] in 0-1000 coordinates, [] if nothing differs."


def candidates(subject: Subject) -> list[Ask]:
    """The one question."""
    return [Ask(task=TASK)] if isinstance(subject, Pair) else []


def build(subject: Subject, ask: Ask, seed: int) -> Question | Rejection:
    """See `synth_cot.question.Family`."""
    assert isinstance(subject, Pair)
    size = subject.after.width, subject.after.height
    boxes = [list(relative_box(edit.box, *size)) for edit in sorted(subject.edits, key=lambda edit: (edit.box[1], edit.box[0]))]
    return Question(
        ask=ask,
        prompt=f"{pick(_PROMPTS, seed, subject.before.media_id, TASK)} {NOT_COUNTED} {_FORM}",
        truth=str(boxes),
        verifier="boxes",
        evidence=Evidence(boxes=tuple(edit.box for edit in subject.edits)),
    )
