"""On which pages of a run a word stands: two at least, not all. Whole words, whatever their case."""

from __future__ import annotations

import re

from manifests.fingerprint import unit_hash
from synth_cot.known import Paper, Subject
from synth_cot.question import Ask, Evidence, Question, Rejection, pick
from synth_cot.questions.runs import chosen, run_around, unfit

TASK = "reason.document.mentions"
_PROMPTS = (
    "On which pages does the word “{word}” stand?",
    "List every page that holds the word “{word}”.",
    "Find all pages on which “{word}” can be read.",
)
_WORD = re.compile(r"\b[A-Za-z]{6,}\b")
_WORDS_PER_RUN = 6


def candidates(subject: Subject) -> list[Ask]:
    """A few words of each page, chosen by hash, over the run around it."""
    if not isinstance(subject, Paper):
        return []
    asks = []
    for index, page in enumerate(subject.pages):
        run = run_around(subject, index)
        words = sorted({word.casefold() for word in _WORD.findall(page.text)}, key=lambda word: (unit_hash(TASK, word), word))
        ids = tuple(str(one.number) for one in run)
        asks += [Ask(task=TASK, ids=ids, value=word) for word in words[: _WORDS_PER_RUN if run else 0]]
    return list(dict.fromkeys(asks))


def build(subject: Subject, ask: Ask, seed: int) -> Question | Rejection:
    """See `synth_cot.question.Family`."""
    assert isinstance(subject, Paper)
    run = chosen(subject, ask.ids)
    if refused := unfit(run):
        return Rejection(ask=ask, reason=refused[0], detail=refused[1])
    found = [page.number for page in run if ask.value in {word.casefold() for word in _WORD.findall(page.text)}]
    if not 2 <= len(found) < len(run):
        return Rejection(ask=ask, reason="trivial", detail=f"{ask.value!r} stands on {len(found)} of {len(run)} pages")
    prompt = pick(_PROMPTS, seed, TASK, *ask.ids, ask.value).format(word=ask.value)
    return Question(
        ask=ask,
        prompt=f"{prompt} Answer with the page numbers in rising order, separated by commas.",
        truth=", ".join(map(str, found)),
        verifier="order",
        evidence=Evidence(pages=tuple(found)),
    )
