"""What stands in a named row and column of a table. Refused where a row, a column or the cell cannot be quoted."""

from __future__ import annotations

from synth_cot.known import Grid, Subject
from synth_cot.question import Ask, Evidence, Question, Rejection, pick
from synth_cot.questions.cells import wrong

TASK = "reason.table.cell"
_PROMPTS = (
    "What stands in the column “{column}” of the row “{row}”?",
    "Look up “{row}” in this table. What does it say under “{column}”?",
    "Read the cell of row “{row}” and column “{column}”.",
)


def candidates(subject: Subject) -> list[Ask]:
    """One question for each cell beside the first column; ``ids`` are the row's number and the column's."""
    if not isinstance(subject, Grid):
        return []
    return [
        Ask(task=TASK, place=subject.place, ids=(str(row), str(column)))
        for row in range(len(subject.rows))
        for column in range(1, len(subject.columns))
    ]


def build(subject: Subject, ask: Ask, seed: int) -> Question | Rejection:
    """See `synth_cot.question.Family`."""
    assert isinstance(subject, Grid)
    row, column = subject.rows[int(ask.ids[0])], int(ask.ids[1])
    if refused := wrong(subject, row[0], subject.columns[column], row[column]):
        return Rejection(ask=ask, reason=refused[0], detail=refused[1])
    prompt = pick(_PROMPTS, seed, subject.media_id, TASK, *ask.ids).format(row=row[0], column=subject.columns[column])
    return Question(
        ask=ask,
        prompt=f"{prompt} Answer with the text of the cell only.",
        truth=row[column],
        verifier="text",
        evidence=Evidence(pages=() if subject.page is None else (subject.page,)),
    )
