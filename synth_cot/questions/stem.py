"""Problems of `reasoning_gym`: the generator's own text and answer, for those generators whose steps we derive ourselves.

Refused: a problem whose answer our verifier does not read, and one that says its answer outright.
"""

from __future__ import annotations

from synth_cot.known import Problem, Subject
from synth_cot.question import Ask, Evidence, Question, Rejection
from synth_cot.stem.generators import GENERATORS

TASK = "stem"


def candidates(subject: Subject) -> list[Ask]:
    """The problem itself."""
    return [Ask(task=f"{TASK}.{subject.generator}", place=subject.place)] if isinstance(subject, Problem) else []


def build(subject: Subject, ask: Ask, seed: int) -> Question | Rejection:
    """See `synth_cot.question.Family`."""
    assert isinstance(subject, Problem)
    truth = str(subject.entry["answer"])
    if len(truth) > 500 or len(subject.question) > 1_500:
        return Rejection(
            ask=ask, reason="too_long", detail=f"question of {len(subject.question)}, answer of {len(truth)} characters"
        )
    if not truth:
        return Rejection(ask=ask, reason="no_answer", detail="the generator gives no answer")
    verifier = GENERATORS[subject.generator].verifier
    return Question(ask=ask, prompt=subject.question, truth=truth, verifier=verifier, evidence=Evidence())
