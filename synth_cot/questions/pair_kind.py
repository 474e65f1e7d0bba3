"""What happened at one place from the first picture to the second: removed, added, recoloured or resized."""

from __future__ import annotations

from synth_cot.known import Pair, Subject
from synth_cot.question import Ask, Evidence, Question, Rejection, pick, relative_box, shuffled

TASK = "reason.pair.kind"
KINDS = {
    "added": "something was added",
    "recoloured": "something changed its colour",
    "removed": "something was removed",
    "resized": "something changed its size",
}
_PROMPTS = (
    "What happened in the region {box} from the first picture to the second?",
    "Compare both pictures in the region {box}. What changed?",
)


def candidates(subject: Subject) -> list[Ask]:
    """One question for each edit; ``value`` lists the options in order."""
    if not isinstance(subject, Pair):
        return []
    return [
        Ask(task=TASK, ids=(edit.id,), value="|".join(shuffled(sorted(KINDS), subject.before.media_id, edit.id)))
        for edit in subject.edits
    ]


def build(subject: Subject, ask: Ask, seed: int) -> Question | Rejection:
    """See `synth_cot.question.Family`."""
    assert isinstance(subject, Pair)
    edit = next(edit for edit in subject.edits if edit.id == ask.ids[0])
    options = ask.value.split("|")
    listed = " ".join(f"{letter}) {KINDS[kind]}" for letter, kind in zip("ABCD", options, strict=True))
    box = list(relative_box(edit.box, subject.after.width, subject.after.height))
    stem = pick(_PROMPTS, seed, subject.before.media_id, TASK, edit.id).format(box=box)
    return Question(
        ask=ask,
        prompt=f"{stem} {listed}. Answer with the letter.",
        truth="ABCD"[options.index(edit.kind)],
        verifier="option",
        evidence=Evidence(boxes=(edit.box,)),
    )
