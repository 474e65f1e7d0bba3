"""Is a question fit to be asked? What holds for every family; each also refuses what is ambiguous or trivial in its way.

A prompt may not be empty, may not carry the tags of a response, and may not give the answer away.
"""

from __future__ import annotations

from synth_cot.known import Problem, Subject
from synth_cot.question import Question, Rejection

_TAGS = ("<think>", "</think>", "<answer>", "</answer>")


def check_query(question: Question, subject: Subject) -> Rejection | None:
    """Why a question is not asked, or None."""

    def refuse(reason: str, detail: str) -> Rejection:
        return Rejection(ask=question.ask, reason=reason, detail=detail)

    if not question.prompt.strip() or not question.truth.strip():
        return refuse("empty", "the prompt or the truth is empty")
    if any(tag in text for tag in _TAGS for text in (question.prompt, question.truth)):
        return refuse("tags", "the prompt or the truth holds the tags of a response")
    # A generator's text may state a short number by chance, and a list of options or items holds its answer by design.
    # That nothing is an answer is part of the form.
    told = question.verifier in ("boxes", "intervals", "text") and question.truth != "[]"
    if told and question.truth.casefold() in question.prompt.casefold() and not isinstance(subject, Problem):
        return refuse("given_away", f"the prompt holds the answer {question.truth[:80]!r}")
    return None
