"""Which page of a document begins with a line, asked over the text of a run of its pages.

Refused when the line is short, begins several pages, stands a second time anywhere in the run, or is not in the text the corpus
holds: the model must be able to find it, and only once.
"""

from __future__ import annotations

from synth_cot.known import Paper, Subject
from synth_cot.question import Ask, Evidence, Question, Rejection, pick
from synth_cot.questions.runs import chosen, run_around, unfit

TASK = "reason.document.page"
_PROMPTS = (
    "Which page begins with “{line}”?",
    "On which page is “{line}” the first line?",
    "Find the page that starts with “{line}”. What is its number?",
)
_SHORTEST, _LONGEST = 8, 120


def candidates(subject: Subject) -> list[Ask]:
    """One question for each page with its neighbours: three to six pages of at most 12,000 characters."""
    if not isinstance(subject, Paper):
        return []
    asks = []
    for index, page in enumerate(subject.pages):
        if run := run_around(subject, index):
            asks.append(Ask(task=TASK, ids=tuple(str(one.number) for one in run), value=page.first_line))
    return asks


def build(subject: Subject, ask: Ask, seed: int) -> Question | Rejection:
    """See `synth_cot.question.Family`."""
    assert isinstance(subject, Paper)
    line = " ".join(ask.value.split())
    if not _SHORTEST <= len(line) <= _LONGEST or any(quote in line for quote in "“”"):
        return Rejection(ask=ask, reason="unquotable", detail=f"the first line has {len(line)} characters, or quotation marks")
    run = chosen(subject, ask.ids)
    if refused := unfit(run):
        return Rejection(ask=ask, reason=refused[0], detail=refused[1])
    texts = [" ".join(page.text.split()) for page in run]
    begins = [page.number for page, text in zip(run, texts, strict=True) if text.casefold().startswith(line.casefold())]
    if len(begins) != 1 or sum(text.casefold().count(line.casefold()) for text in texts) != 1:
        return Rejection(
            ask=ask, reason="ambiguous", detail=f"the line begins {len(begins)} pages of the run, or stands elsewhere in it"
        )
    prompt = pick(_PROMPTS, seed, TASK, line).format(line=line)
    evidence = Evidence(pages=(begins[0],))
    return Question(
        ask=ask, prompt=f"{prompt} Answer with a number.", truth=str(begins[0]), verifier="count", evidence=evidence
    )
