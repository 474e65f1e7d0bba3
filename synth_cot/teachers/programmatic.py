"""A teacher that works the answer out from what is known: plan, steps, check, answer. It never reads the question's truth.

The wording varies by hash of the question, so that a model learns the steps and not one template. The steps of screens, clips
and papers are derived here by family, those of problems in `synth_cot.stem`.
"""

from __future__ import annotations

from dataclasses import dataclass

from manifests.fingerprint import value_id
from synth_cot.derivation import Derivation
from synth_cot.known import Clip, Paper, Problem, Screen, Subject
from synth_cot.question import Question, pick
from synth_cot.stem.generators import GENERATORS
from synth_cot.teachers import clips, screens
from synth_cot.teachers.teacher import Reply

_PLANS = ("Plan: {plan}", "{plan}", "First, the plan. {plan}", "How to go about it: {plan}")
_STEPS = ("{number}. {step}", "Step {number}: {step}", "• {step}", "{step}")
_CHECKS = ("Check: {check}.", "To be sure: {check}.", "Verification: {check}.", "Let me check: {check}.")
_ENDS = ("So the answer is {answer}.", "The answer is {answer}.", "Therefore: {answer}.", "That gives {answer}.")


def derive(question: Question, subject: Subject) -> Derivation:
    """Steps and answer of a question about a subject."""
    if isinstance(subject, Problem):
        return GENERATORS[subject.generator].derive(subject.entry)
    if isinstance(subject, Screen):
        return screens.derive(question.ask, subject)
    if isinstance(subject, Clip):
        return clips.derive(question.ask, subject)
    return _derive_page(question, subject)


def _derive_page(question: Question, paper: Paper) -> Derivation:
    wanted = question.ask.value
    steps, found = [], []
    for page in paper.pages:
        if str(page.number) in question.ask.ids:
            begins = " ".join(page.text.split()).casefold().startswith(" ".join(wanted.split()).casefold())
            steps.append(f"page {page.number} {'begins' if begins else 'does not begin'} with it")
            if begins:
                found.append(page.number)
    return Derivation(
        plan="Look at how each page begins.",
        steps=tuple(steps),
        check=f"{len(found)} page begins so",
        answer=", ".join(map(str, found)),
    )


@dataclass(frozen=True)
class Programmatic:
    """See `synth_cot.teachers.teacher.Teacher`."""

    name: str = "programmatic/1"

    def write(self, question: Question, subject: Subject, *, think: bool, seed: int) -> Reply | None:
        """See `Teacher.write`. None when the problem is one this teacher has no steps for."""
        try:
            worked = derive(question, subject)
        except (KeyError, ValueError, ZeroDivisionError):
            return None
        if not think:
            return Reply(text=f"<answer>{worked.answer}</answer>")
        key = value_id([question.ask, question.prompt])
        style = pick(_STEPS, seed, key, "steps")
        lines = [
            pick(_PLANS, seed, key, "plan").format(plan=worked.plan),
            *(style.format(number=number, step=step) for number, step in enumerate(worked.steps, start=1)),
            pick(_CHECKS, seed, key, "check").format(check=worked.check),
            pick(_ENDS, seed, key, "end").format(answer=worked.answer),
        ]
        thought = "\n".join(lines)
        return Reply(text=f"<think>\n{thought}\n</think>\n<answer>{worked.answer}</answer>")
