"""A teacher that works the answer out from what is known: plan, steps, check, answer. It never reads the question's truth.

The wording varies by hash of the question, so that a model learns the steps and not one template. The steps of screens, clips
and papers are derived here by family, those of problems in `synth_cot.stem`.
"""

from __future__ import annotations

from dataclasses import dataclass

from manifests.fingerprint import value_id
from synth_cot.derivation import Derivation
from synth_cot.forms import clue_intervals
from synth_cot.known import Clip, Grid, Pair, Paper, Picture, Problem, Screen, Subject
from synth_cot.question import Question, pick
from synth_cot.stem.generators import GENERATORS
from synth_cot.teachers import clips, films, papers, pictures, screens
from synth_cot.teachers.teacher import Reply

_PLANS = ("Plan: {plan}", "{plan}", "First, the plan. {plan}", "How to go about it: {plan}")
_STEPS = ("{number}. {step}", "Step {number}: {step}", "• {step}", "{step}")
_CHECKS = ("Check: {check}.", "To be sure: {check}.", "Verification: {check}.", "Let me check: {check}.")
_ENDS = ("So the answer is {answer}.", "The answer is {answer}.", "Therefore: {answer}.", "That gives {answer}.")


def derive(question: Question, subject: Subject) -> Derivation:
    """Steps and answer of a question about a subject.

    Raises:
        KeyError: there are no steps for its task.
    """
    if isinstance(subject, Problem):
        return GENERATORS[subject.generator].derive(subject.entry)
    if isinstance(subject, Screen):
        return screens.derive(question.ask, subject)
    if isinstance(subject, Clip):
        return (films if subject.presences else clips).derive(question.ask, subject)
    if isinstance(subject, Picture):
        return pictures.derive_picture(question.ask, subject)
    if isinstance(subject, Pair):
        return pictures.derive_pair(question.ask, subject)
    if isinstance(subject, Paper):
        return papers.derive_paper(question.ask, subject)
    if isinstance(subject, Grid):
        return papers.derive_grid(question.ask, subject)
    raise KeyError(f"nobody has steps for {question.ask.task}")


@dataclass(frozen=True)
class Programmatic:
    """See `synth_cot.teachers.teacher.Teacher`."""

    name: str = "programmatic/2"

    def write(self, question: Question, subject: Subject, *, seed: int) -> Reply | None:
        """See `Teacher.write`. None when the problem is one this teacher has no steps for."""
        try:
            worked = derive(question, subject)
        except (KeyError, ValueError, ZeroDivisionError):
            return None
        answer = worked.answer
        if question.ask.clues and isinstance(subject, Clip):
            answer = f"{answer} {clue_intervals(question, subject)}"
        if not question.ask.think:
            return Reply(text=f"<answer>{answer}</answer>")
        key = value_id([question.ask, question.prompt])
        style = pick(_STEPS, seed, key, "steps")
        lines = [
            pick(_PLANS, seed, key, "plan").format(plan=worked.plan),
            *(style.format(number=number, step=step) for number, step in enumerate(worked.steps, start=1)),
            pick(_CHECKS, seed, key, "check").format(check=worked.check),
            pick(_ENDS, seed, key, "end").format(answer=worked.answer),
        ]
        thought = "\n".join(lines)
        return Reply(text=f"<think>\n{thought}\n</think>\n<answer>{answer}</answer>")
