"""Which of two lines a reader of a run of pages meets first: each is the first line of its page and stands there alone."""

from __future__ import annotations

from synth_cot.known import Paper, Subject
from synth_cot.question import Ask, Evidence, Question, Rejection, pick, shuffled
from synth_cot.questions.runs import chosen, run_around, unfit

TASK = "reason.document.order"
_PROMPTS = ("Which of these lines comes first in the document?", "Reading page by page, which line do you meet first?")
_SHORTEST, _LONGEST = 8, 120


def candidates(subject: Subject) -> list[Ask]:
    """Each page with the one two pages on; ``value`` names them in the order of the options."""
    if not isinstance(subject, Paper):
        return []
    asks = []
    for index, page in enumerate(subject.pages[:-2]):
        run, other = run_around(subject, index), subject.pages[index + 2]
        if other in run:
            options = shuffled((str(page.number), str(other.number)), TASK, page.first_line, other.first_line)
            asks.append(Ask(task=TASK, ids=tuple(str(one.number) for one in run), value="|".join(options)))
    return asks


def build(subject: Subject, ask: Ask, seed: int) -> Question | Rejection:
    """See `synth_cot.question.Family`."""
    assert isinstance(subject, Paper)
    run = chosen(subject, ask.ids)
    if refused := unfit(run):
        return Rejection(ask=ask, reason=refused[0], detail=refused[1])
    pages = [next(page for page in run if str(page.number) == number) for number in ask.value.split("|")]
    texts = [" ".join(page.text.split()).casefold() for page in run]
    lines = [" ".join(page.first_line.split()) for page in pages]
    for page, line in zip(pages, lines, strict=True):
        if not _SHORTEST <= len(line) <= _LONGEST or any(quote in line for quote in "“”"):
            return Rejection(ask=ask, reason="unquotable", detail=f"the first line has {len(line)} characters, or quotes")
        alone = sum(text.count(line.casefold()) for text in texts) == 1
        if not alone or not texts[run.index(page)].startswith(line.casefold()):
            return Rejection(ask=ask, reason="ambiguous", detail=f"the first line of page {page.number} stands elsewhere, too")
    stem = pick(_PROMPTS, seed, TASK, *lines)
    return Question(
        ask=ask,
        prompt=f"{stem} A) “{lines[0]}” B) “{lines[1]}” Answer with the letter.",
        truth="A" if pages[0].number < pages[1].number else "B",
        verifier="option",
        evidence=Evidence(pages=tuple(page.number for page in pages)),
    )
