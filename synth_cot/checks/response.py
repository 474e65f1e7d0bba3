"""Is the answer right? The truth is recomputed from the raw payload and the `Ask` (`synth_cot.checks.recompute`).

The final answer is parsed from the written response and scored by its verifier against the recomputed truth; for a generated
problem the generator's own scorer must agree as well. Only a score of 1 passes.
"""

from __future__ import annotations

from typing import Any

from synth_cot.checks.recompute import recompute, recompute_clues
from synth_cot.forms import without_clues
from synth_cot.known import Known, Problem, Query, Subject
from synth_cot.question import Question, Rejection
from synth_cot.stem.generators import gym_score
from synth_cot.verifiers import Verdict, get
from synth_cot.verifiers.answer_format import parse


def check_response(reply: str, question: Question, subject: Subject, known: Known) -> tuple[Verdict, Rejection | None]:
    """The verdict on a written response, and why it is not kept, or None."""

    def refuse(verdict: Verdict, reason: str, detail: str) -> tuple[Verdict, Rejection]:
        return verdict, Rejection(ask=question.ask, reason=reason, detail=detail)

    form = get("format").score(reply, "think" if question.ask.think else "direct")
    response = parse(reply)
    if not form.right or response is None:
        return refuse(form, "wrong_format", form.reason)
    answer, clues = without_clues(response.answer) if question.ask.clues else (response.answer, None)
    try:
        truth = _truth(question, subject, known)
        verdict = get(question.verifier).score(answer, truth)
        shown = recompute_clues(question.ask, known.payload) if question.ask.clues else []
    except (ValueError, KeyError, IndexError) as error:
        return refuse(Verdict(0.0, str(error)), "no_truth", str(error))
    if not verdict.right:
        return refuse(verdict, "wrong_answer", f"{answer[:80]!r}: {verdict.reason}")
    if question.ask.clues and not (seen := get("intervals").score(clues or "none", shown)).right:
        return refuse(seen, "wrong_clues", f"{(clues or 'none')[:80]}: {seen.reason}")
    stated = get(question.verifier).score(answer, question.truth)
    if not stated.right:
        return refuse(stated, "truths_differ", f"the question says {question.truth[:80]!r}, the annotation {str(truth)[:80]!r}")
    if isinstance(subject, Problem) and (theirs := gym_score(subject, answer)) != 1.0:
        return refuse(
            Verdict(0.0, "generator disagrees"),
            "generator_disagrees",
            f"reasoning-gym scores {answer[:80]!r} {theirs}",
        )
    return verdict, None


def _truth(question: Question, subject: Subject, known: Known) -> Any:
    if isinstance(subject, Problem):
        return str(subject.entry["answer"])
    return subject.answer if isinstance(subject, Query) else recompute(question.ask, known.payload)
