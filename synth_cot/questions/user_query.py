"""A user's own question, from a file of questions with answers (`synth_cot.query_files`). Refused when it is long."""

from __future__ import annotations

from synth_cot.known import Query, Subject
from synth_cot.question import Ask, Evidence, Question, Rejection

TASK = "query"
_LONGEST = 8_000


def candidates(subject: Subject) -> list[Ask]:
    """The question itself."""
    return [Ask(task=f"{TASK}.{subject.task}", place=subject.place)] if isinstance(subject, Query) else []


def build(subject: Subject, ask: Ask, seed: int) -> Question | Rejection:
    """See `synth_cot.question.Family`."""
    assert isinstance(subject, Query)
    if len(subject.prompt) > _LONGEST:
        return Rejection(ask=ask, reason="too_long", detail=f"the question has {len(subject.prompt)} characters")
    return Question(ask=ask, prompt=subject.prompt, truth=subject.answer, verifier=subject.verifier, evidence=Evidence())
