"""Which row has the largest, or the smallest, number in a column. Refused when two rows share it."""

from __future__ import annotations

from synth_cot.known import Grid, Subject
from synth_cot.question import Ask, Evidence, Question, Rejection, pick
from synth_cot.questions.cells import numbers, wrong

TASK = "reason.table.most"
_PROMPTS = {
    "largest": ("Which row has the largest “{column}”?", "Who or what comes first when sorted by “{column}”, largest on top?"),
    "smallest": ("Which row has the smallest “{column}”?", "Where is “{column}” lowest?"),
}


def candidates(subject: Subject) -> list[Ask]:
    """Both ends of each column beside the first."""
    if not isinstance(subject, Grid):
        return []
    columns = range(1, len(subject.columns))
    return [
        Ask(task=TASK, place=subject.place, ids=(str(column),), value=end) for column in columns for end in sorted(_PROMPTS)
    ]


def build(subject: Subject, ask: Ask, seed: int) -> Question | Rejection:
    """See `synth_cot.question.Family`."""
    assert isinstance(subject, Grid)
    column = subject.columns[int(ask.ids[0])]
    if refused := wrong(subject, column, *(row[0] for row in subject.rows)):
        return Rejection(ask=ask, reason=refused[0], detail=refused[1])
    found = numbers(subject, column)
    if found is None or len(found) < 2:
        return Rejection(ask=ask, reason="no_numbers", detail=f"{column!r} is no column of several whole numbers")
    end = max(found) if ask.value == "largest" else min(found)
    if found.count(end) > 1:
        return Rejection(ask=ask, reason="ambiguous", detail=f"{found.count(end)} rows have {end}")
    prompt = pick(_PROMPTS[ask.value], seed, subject.media_id, TASK, column).format(column=column)
    return Question(
        ask=ask,
        prompt=f"{prompt} Answer with the name in the first column.",
        truth=subject.rows[found.index(end)][0],
        verifier="text",
        evidence=Evidence(pages=() if subject.page is None else (subject.page,)),
    )
