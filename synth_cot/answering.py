"""How a question gets its response: worked out from the annotation, or asked of a model and then doubted.

A model's responses are judged one by one (`synth_cot.checks`), the share that passes is the question's pass rate, and the first
that passes goes on: the question is asked once more with the evidence masked, and must not be answered right then; doubtful
maths is put before a reviewer. What is not answered yet is asked for first (`Waiting`), and the work on the source done again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from manifests.sample import Part
from manifests.synth_spec import SynthSpec, TeacherSpec
from synth_cot.asking.composing import answer_request, masked_request, model_name, review_request, route, speaks_to_models
from synth_cot.asking.request import Answer, Request
from synth_cot.checks.copying import copied_words
from synth_cot.checks.process import check_process
from synth_cot.checks.response import check_response
from synth_cot.forms import in_form, without_clues
from synth_cot.known import Known, Subject
from synth_cot.question import Question, Rejection
from synth_cot.teachers.programmatic import Programmatic
from synth_cot.teachers.teacher import Teacher
from synth_cot.verifiers import get
from synth_cot.verifiers.answer_format import final_answer, parse

Find = Callable[[Request], Answer | None]
"""Looks an answer up; None when it has to be asked for."""

DOUBTFUL_RATE = 0.5


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """What has to be asked before a question can be decided."""

    requests: tuple[Request, ...]


@dataclass(kw_only=True)
class Answered:
    """What came of a question.

    Attributes:
        teacher: name and revision.
        text: the accepted response; "" when the question is rejected.
        score: of the verifier.
        pass_rate: share of the responses that passed; None where only one way to respond was tried.
        rejection: why no response is kept, or None.
        requests: rows of `manifests.schemas.REQUESTS`.
    """

    teacher: str
    text: str = ""
    score: float = 0.0
    pass_rate: float | None = None
    rejection: Rejection | None = None
    requests: list[dict[str, Any]] = field(default_factory=list)

    @property
    def usd(self) -> float:
        """What all requests cost."""
        return round(sum(row["usd"] for row in self.requests), 9)


class Answering:
    """Gets responses to questions.

    Args:
        find: looks up what models answered.
        teacher: who writes where no model is asked; the programmatic teacher.
    """

    def __init__(self, spec: SynthSpec, find: Find, teacher: Teacher | None = None) -> None:
        self.spec, self.find = spec, find
        self.programmatic = Programmatic() if teacher is None else teacher

    def teacher_of(self, task: str) -> TeacherSpec | None:
        """The model that is asked about a task; None when its answers are worked out."""
        return route(task, self.spec.teachers)

    def answer(self, question: Question, subject: Subject, known: Known, parts: tuple[Part, ...]) -> Answered | Waiting:
        """The response to a question, or what has to be asked first."""
        teacher = self.teacher_of(question.ask.task)
        if teacher is None:
            return self._worked_out(question, subject, known)
        return _Asked(self, teacher, question, subject, known, parts).answer()

    def _worked_out(self, question: Question, subject: Subject, known: Known) -> Answered:
        found = Answered(teacher=self.programmatic.name)
        reply = self.programmatic.write(question, subject, seed=self.spec.seed)
        if reply is None:
            found.rejection = Rejection(ask=question.ask, reason="no_response", detail=f"{found.teacher} has no answer")
            return found
        verdict, refused = check_response(reply.text, question, subject, known)
        found.rejection = refused or check_process(reply.text, question, subject, known)
        found.text, found.score = reply.text, verdict.score
        return found


class _Asked:
    """One question put to one model."""

    def __init__(
        self,
        owner: Answering,
        teacher: TeacherSpec,
        question: Question,
        subject: Subject,
        known: Known,
        parts: tuple[Part, ...],
    ) -> None:
        self.find, self.spec, self.teacher = owner.find, owner.spec, teacher
        self.question, self.subject, self.known, self.parts = question, subject, known, parts
        self.source_id = known.source.source_id
        self.found = Answered(teacher=f"{teacher.name}/{model_name(teacher)}/{teacher.revision}")

    def answer(self) -> Answered | Waiting:
        if words := speaks_to_models(self.parts):
            return self._rejected("speaks_to_models", f"the text addresses a model: {words[:80]!r}")
        requests = tuple(
            answer_request(self.question, self.source_id, self.parts, self.teacher, sample)
            for sample in range(self.teacher.samples)
        )
        answers = [self.find(request) for request in requests]
        if missing := tuple(r for r, answer in zip(requests, answers, strict=True) if answer is None):
            return Waiting(requests=missing)
        return self._judge(list(zip(requests, [answer for answer in answers if answer is not None], strict=True)))

    def _judge(self, asked: list[tuple[Request, Answer]]) -> Answered | Waiting:
        best: tuple[str, float] | None = None
        reasons: list[tuple[str, str]] = []
        right = 0
        for request, answer in asked:
            row = answer.row(request)
            self.found.requests.append(row)
            if answer.error is not None:
                row["reason"] = row["reason"] or "no_response"
                reasons.append((row["reason"], answer.error))
                continue
            text = in_form(answer.text, think=self.question.ask.think)
            score, refused = self._check(text)
            if refused is None:
                right += 1
                row["outcome"] = "right" if best else "accepted"
                best = best or (text, score)
            else:
                row["outcome"], row["reason"], row["detail"] = "rejected", refused.reason, refused.detail
                reasons.append((refused.reason, refused.detail))
        tried = sum(answer.error is None for _, answer in asked)
        self.found.pass_rate = right / tried if tried else None
        if best is None:
            of = f"0 of {len(asked)} responses pass; the first: " if len(asked) > 1 else ""
            return self._rejected(reasons[0][0], of + reasons[0][1])
        if right / tried > self.spec.pass_rate_max:
            return self._rejected("too_easy", f"{right} of {tried} responses are right")
        self.found.text, self.found.score = best
        return self._doubted()

    def _check(self, text: str) -> tuple[float, Rejection | None]:
        """The score of a response in its form, and why it is not kept."""
        verdict, refused = check_response(text, self.question, self.subject, self.known)
        refused = refused or check_process(text, self.question, self.subject, self.known, self.teacher.tolerance)
        if refused is None and (copied := copied_words(text, self.parts)):
            refused = Rejection(ask=self.question.ask, reason="copied_text", detail=f"it repeats the material: {copied[:80]!r}")
        return verdict.score, refused

    def _doubted(self) -> Answered | Waiting:
        """Asks again with the evidence masked, and for a review, where that applies."""
        masked = (
            masked_request(self.question, self.subject, self.source_id, self.parts, self.teacher) if self.teacher.mask else None
        )
        review = (
            review_request(self.question, self.source_id, self.found.text, self.teacher)
            if self.teacher.review and self._doubtful()
            else None
        )
        answers = {request.request_id: self.find(request) for request in (masked, review) if request is not None}
        missing = tuple(r for r in (masked, review) if r is not None and answers[r.request_id] is None)
        if missing:
            return Waiting(requests=missing)
        if masked is not None and (refused := self._still_right(masked, answers[masked.request_id])):
            return refused
        if review is not None and (refused := self._unsound(review, answers[review.request_id])):
            return refused
        return self.found

    def _still_right(self, request: Request, answer: Answer | None) -> Answered | None:
        assert answer is not None
        row = answer.row(request)
        self.found.requests.append(row)
        if answer.error is not None and not answer.cut:
            return self._rejected("no_masked_response", answer.error)
        given = final_answer(answer.text)
        bare = without_clues(given)[0] if given is not None and self.question.ask.clues else given
        row["outcome"] = "changed"
        if bare is not None and get(self.question.verifier).score(bare, self.question.truth).right:
            row["outcome"] = "unchanged"
            return self._rejected("evidence_unused", f"with its evidence masked it still answers {bare[:80]!r}")
        return None

    def _doubtful(self) -> bool:
        """Maths that was rarely right, or whose answer only agrees after algebra."""
        if self.question.verifier != "math":
            return False
        response = parse(self.found.text)
        plain = response is not None and response.answer.strip() == self.question.truth.strip()
        return not plain or (self.found.pass_rate or 0.0) < DOUBTFUL_RATE

    def _unsound(self, request: Request, answer: Answer | None) -> Answered | None:
        assert answer is not None
        row = answer.row(request)
        self.found.requests.append(row)
        if answer.error is not None:
            return self._rejected("no_review", answer.error)
        said = (final_answer(answer.text) or "").strip().strip(".").casefold()
        row["outcome"] = "sound" if said == "sound" else "flawed"
        return None if said == "sound" else self._rejected("review", f"a second review calls the solution {said[:40]!r}")

    def _rejected(self, reason: str, detail: str) -> Answered:
        for row in self.found.requests:
            if row["outcome"] == "accepted":
                row["outcome"], row["reason"], row["detail"] = "rejected", reason, detail
        self.found.text = ""
        self.found.rejection = Rejection(ask=self.question.ask, reason=reason, detail=detail)
        return self.found
