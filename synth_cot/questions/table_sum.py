"""What the numbers of a column add up to. Refused for a column with anything but whole numbers, or fewer than two."""

from __future__ import annotations

from synth_cot.known import Grid, Subject
from synth_cot.question import Ask, Evidence, Question, Rejection, pick
from synth_cot.questions.cells import numbers, wrong

TASK = "reason.table.sum"
_PROMPTS = (
    "What is the total of the column “{column}”?",
    "Add up all numbers under “{column}”.",
    "What do the values of “{column}” come to?",
)


def candidates(subject: Subject) -> list[Ask]:
    """One question for each column beside the first."""
    if not isinstance(subject, Grid):
        return []
    return [Ask(task=TASK, place=subject.place, ids=(str(column),)) for column in range(1, len(subject.columns))]


def build(subject: Subject, ask: Ask, seed: int) -> Question | Rejection:
    """See `synth_cot.question.Family`."""
    assert isinstance(subject, Grid)
    column = subject.columns[int(ask.ids[0])]
    if refused := wrong(subject, column, *(row[0] for row in subject.rows)):
        return Rejection(ask=ask, reason=refused[0], detail=refused[1])
    found = numbers(subject, column)
    if found is None or len(found) < 2:
        return Rejection(ask=ask, reason="no_numbers", detail=f"{column!r} is no column of several whole numbers")
    prompt = pick(_PROMPTS, seed, subject.media_id, TASK, column).format(column=column)
    evidence = Evidence(pages=() if subject.page is None else (subject.page,))
    truth = str(sum(found))
    return Question(ask=ask, prompt=f"{prompt} Answer with a number.", truth=truth, verifier="math", evidence=evidence)
