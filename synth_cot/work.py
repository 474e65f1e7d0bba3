"""All the work on one source as a pure function: questions, responses, checks, rows. Any engine can map it over sources.

The order of questions is by hash, and of each task as many are kept as the recipe allows for one subject; every question that
was considered before that is either a sample or a row of ``dropped``. Of a task that a model answers, so many are asked as may
be kept: what comes of one does not decide whether the next is asked, so that all are asked at once. While answers are missing
the outcome says which; the same source is then worked on again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from manifests.fingerprint import canonical_json, unit_hash
from manifests.recipe import Recipe
from manifests.sample import Part, Reasoning
from manifests.shards import MediaItem
from synth_cot import samples
from synth_cot.answering import Answered, Answering, Waiting
from synth_cot.asking.request import Request
from synth_cot.checks.process import evidence_json
from synth_cot.checks.query import check_query
from synth_cot.forms import shaped
from synth_cot.known import Known, Problem, Query, Subject
from synth_cot.made.sources import Made, draw_source
from synth_cot.made.sources import source_row as drawn_row
from synth_cot.provenance import claims
from synth_cot.query_files import Asked
from synth_cot.query_files import source_row as query_row
from synth_cot.question import Ask, Family, Question, Rejection
from synth_cot.questions import families
from synth_cot.stem.generators import source_row as problem_row
from synth_cot.verifiers import get

Item = Known | Made | Asked
"""What there is to work on: something known, something that is yet to be drawn, or a user's question."""

NearBenchmark = Callable[[str, Sequence[str], Sequence[MediaItem]], str | None]
"""Of a question, the names of its pictures, and pictures not stored yet: which benchmark item they nearly copy, or None."""


@dataclass(kw_only=True)
class Outcome:
    """The rows that one source gave, and how its questions fared.

    ``asked`` = rows of ``samples`` + rows of ``dropped``. A source of this step has a row in ``sources``, and what it was drawn
    from in ``annotations`` and ``media``. ``costs`` has an entry for each question that was answered, right or wrong. While
    ``waiting`` is not empty, nothing else of the outcome counts but ``media``.
    """

    source: str
    source_id: str
    samples: list[dict[str, Any]] = field(default_factory=list)
    lineage: list[dict[str, Any]] = field(default_factory=list)
    dropped: list[dict[str, Any]] = field(default_factory=list)
    sources: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    media: list[MediaItem] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    costs: list[dict[str, Any]] = field(default_factory=list)
    waiting: list[Request] = field(default_factory=list)
    asked: int = 0


class Worker:
    """Answers the questions about sources.

    Args:
        answering: where responses come from.
        stored: height and width in pixels of the stored pictures.
        fingerprint: what the rows carry.
        near_benchmark: says which item of evaluation data a question with its pictures nearly copies.
    """

    def __init__(
        self,
        recipe: Recipe,
        answering: Answering,
        stored: samples.StoredSizes,
        fingerprint: str,
        near_benchmark: NearBenchmark | None = None,
    ) -> None:
        self.recipe, self.answering, self.stored, self.fingerprint = recipe, answering, stored, fingerprint
        self.near_benchmark = near_benchmark

    def work(self, item: Item) -> Outcome:
        """Every sample of one source. The same source gives the same rows, whatever came before."""
        if isinstance(item, Made):
            drawn = draw_source(item, self.recipe)
            outcome = self._work(drawn.known, drawn.pictures)
            outcome.annotations, outcome.media = [drawn.annotation], list(drawn.pictures)
            outcome.sources = [drawn_row(drawn)]
            return outcome
        if isinstance(item, Asked):
            outcome = self._work(item.known, item.pictures)
            outcome.media, outcome.sources = list(item.pictures), [query_row(item)]
            return outcome
        outcome = self._work(item, ())
        if item.subjects and isinstance(item.subjects[0], Problem):
            outcome.sources = [problem_row(item)]
        return outcome

    def _work(self, known: Known, own: Sequence[MediaItem]) -> Outcome:
        """The work on a source; ``own`` are pictures that came with it and are not stored yet."""
        outcome = Outcome(source=known.source.source, source_id=known.source.source_id)
        taken: set[str] = set()
        for subject in known.subjects:
            for family in families():
                self._ask(family, subject, known, own, outcome, taken)
        return outcome

    def _ask(
        self, family: Family, subject: Subject, known: Known, own: Sequence[MediaItem], outcome: Outcome, taken: set[str]
    ) -> None:
        spec = self.recipe.synth
        # A problem is one question; how many are asked of a generator is `SynthSpec.stem_problems`.
        drawn = known.payload.get("maker") is not None
        limit = 1 if isinstance(subject, Problem | Query) else spec.questions_per_made if drawn else spec.questions_per_item
        asks = sorted(
            family.candidates(subject), key=lambda ask: unit_hash(spec.seed, known.source.source_id, canonical_json(ask))
        )
        kept: Counter[str] = Counter()
        for ask in asks:
            if kept[ask.task] >= limit:
                continue
            outcome.asked += 1
            prepared = self._prepare(family, subject, ask, known, own)
            if isinstance(prepared, Rejection):
                outcome.dropped.append(dropped_row(known, prepared))
                continue
            question, parts = prepared
            if self.answering.teacher_of(ask.task) is not None:
                kept[ask.task] += 1
            answered = self.answering.answer(question, subject, known, parts)
            if isinstance(answered, Waiting):
                outcome.waiting += answered.requests
                continue
            row = self._row(question, subject, known, parts, answered, outcome, taken)
            if isinstance(row, Rejection):
                outcome.dropped.append(dropped_row(known, row))
            else:
                kept[ask.task] += self.answering.teacher_of(ask.task) is None
                taken.add(row["sample_id"])
                outcome.samples.append(row)
            _book(outcome, answered, ask.task, None if isinstance(row, Rejection) else row["sample_id"])

    def _prepare(
        self, family: Family, subject: Subject, ask: Ask, known: Known, own: Sequence[MediaItem]
    ) -> tuple[Question, tuple[Part, ...]] | Rejection:
        """The question in its form and what is shown with it; or why it is not asked."""
        recipe = self.recipe
        question = family.build(subject, ask, recipe.synth.seed)
        if isinstance(question, Rejection):
            return question
        question = shaped(question, subject, known.source.source_id, recipe.synth)
        if refused := check_query(question, subject):
            return refused
        stored = {one.media_id: (one.height, one.width) for one in own} or self.stored
        try:
            parts = samples.shown(subject, known.source, question, recipe, stored)
        except samples.Unshowable as error:
            return Rejection(ask=ask, reason=error.reason, detail=error.detail)
        if hidden := samples.unseen(subject, question, parts):
            return Rejection(ask=ask, reason="unseen", detail=hidden)
        if self.near_benchmark is not None:
            media_ids = list(dict.fromkeys(visual.media_id for part in parts for visual in part.visuals))
            if copied := self.near_benchmark(question.prompt, media_ids, own):
                return Rejection(ask=ask, reason="benchmark", detail=copied)
        return question, parts

    def _row(
        self,
        question: Question,
        subject: Subject,
        known: Known,
        parts: tuple[Part, ...],
        answered: Answered,
        outcome: Outcome,
        taken: set[str],
    ) -> dict[str, Any] | Rejection:
        if answered.rejection is not None:
            return answered.rejection
        recipe, verifier = self.recipe, get(question.verifier)
        reasoning = Reasoning(
            teacher=answered.teacher, verifier=verifier.name, verifier_version=verifier.version, truth=question.truth,
            score=answered.score, evidence=evidence_json(question, claims(question, subject, known, parts)),
            cost_usd=answered.usd,
        )  # fmt: skip
        quality = {} if answered.pass_rate is None else {"pass_rate": answered.pass_rate}
        sample = samples.make(question, subject, known.source, parts, answered.text, reasoning, quality)
        if sample.sample_id in taken:
            return Rejection(ask=question.ask, reason="duplicate_sample", detail=f"{sample.sample_id} is already there")
        tokens = samples.rendered(sample, recipe)
        bucket = recipe.buckets.context(tokens.cost.total)
        if bucket is None:
            detail = f"{tokens.cost.total} tokens fit no context bucket"
            return Rejection(ask=question.ask, reason="over_context", detail=detail)
        outcome.lineage += samples.lineage_rows(sample, tokens)
        return samples.sample_row(sample, tokens, known.source, subject, bucket, recipe, self.fingerprint)


def _book(outcome: Outcome, answered: Answered, task: str, sample_id: str | None) -> None:
    """Notes what a question cost, whatever came of it."""
    for row in answered.requests:
        row["sample_id"] = sample_id
    outcome.requests += answered.requests
    outcome.costs.append(
        {"task": task, "teacher": answered.teacher, "pass_rate": answered.pass_rate, **totals(answered.requests)}
    )


def totals(requests: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What requests took together."""
    return {
        "requests": len(requests),
        "prompt_tokens": sum(row["prompt_tokens"] or 0 for row in requests),
        "completion_tokens": sum(row["completion_tokens"] or 0 for row in requests),
        "seconds": round(sum(row["seconds"] for row in requests), 3),
        "usd": round(sum(row["usd"] for row in requests), 9),
    }


_STAGES = {
    "duplicate_sample": "duplicates", "duplicate_problem": "duplicates", "over_context": "bucket", "over_share": "mixture",
}  # fmt: skip


def dropped_row(known: Known, rejection: Rejection, sample_id: str | None = None) -> dict[str, Any]:
    """The row of `manifests.schemas.DROPPED` for a question that gave no sample, or none of its own."""
    return drop(known.source.source, known.source.source_id, rejection.ask.task, rejection.reason, rejection.detail, sample_id)


def drop(source: str, source_id: str, task: str, reason: str, detail: str, sample_id: str | None = None) -> dict[str, Any]:
    """A row of `manifests.schemas.DROPPED`."""
    return {
        "source": source,
        "source_id": source_id,
        "sample_id": sample_id,
        "task": task,
        "stage": _STAGES.get(reason, "verify"),
        "reason": reason,
        "detail": detail,
    }
