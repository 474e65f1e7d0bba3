"""All the work on one source as a pure function: questions, responses, checks, rows. Any engine can map it over sources.

The order of questions is by hash, and of each task as many are kept as the recipe allows for one subject; every question that
was considered before that is either a sample or a row of ``dropped``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from manifests.fingerprint import canonical_json, unit_hash
from manifests.recipe import Recipe
from manifests.sample import Reasoning
from manifests.shards import MediaItem
from synth_cot import samples
from synth_cot.checks.process import check_process, evidence_json
from synth_cot.checks.query import check_query
from synth_cot.checks.response import check_response
from synth_cot.forms import shaped
from synth_cot.known import Known, Problem, Query, Subject
from synth_cot.made.sources import Made, draw_source
from synth_cot.made.sources import source_row as drawn_row
from synth_cot.provenance import claims
from synth_cot.query_files import Asked
from synth_cot.query_files import source_row as query_row
from synth_cot.question import Ask, Family, Rejection
from synth_cot.questions import families
from synth_cot.stem.generators import source_row as problem_row
from synth_cot.teachers.teacher import Teacher
from synth_cot.verifiers import get

Item = Known | Made | Asked
"""What there is to work on: something known, something that is yet to be drawn, or a user's question."""


@dataclass(kw_only=True)
class Outcome:
    """The rows that one source gave, and how its questions fared.

    ``asked`` = rows of ``samples`` + rows of ``dropped``. A source of this step has a row in ``sources``, and what it was drawn
    from in ``annotations`` and ``media``.
    """

    source: str
    source_id: str
    samples: list[dict[str, Any]] = field(default_factory=list)
    lineage: list[dict[str, Any]] = field(default_factory=list)
    dropped: list[dict[str, Any]] = field(default_factory=list)
    sources: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    media: list[MediaItem] = field(default_factory=list)
    asked: int = 0


class Worker:
    """Answers the questions about sources.

    Args:
        stored: height and width in pixels of the stored pictures.
        fingerprint: what the rows carry.
    """

    def __init__(self, recipe: Recipe, teacher: Teacher, stored: samples.StoredSizes, fingerprint: str) -> None:
        self.recipe, self.teacher, self.stored, self.fingerprint = recipe, teacher, stored, fingerprint

    def work(self, item: Item) -> Outcome:
        """Every sample of one source. The same source gives the same rows, whatever came before."""
        if isinstance(item, Made):
            drawn = draw_source(item, self.recipe)
            outcome = self._work(drawn.known, {one.media_id: (one.height, one.width) for one in drawn.pictures})
            outcome.annotations, outcome.media = [drawn.annotation], list(drawn.pictures)
            outcome.sources = [drawn_row(drawn)]
            return outcome
        if isinstance(item, Asked):
            outcome = self._work(item.known, {one.media_id: (one.height, one.width) for one in item.pictures})
            outcome.media, outcome.sources = list(item.pictures), [query_row(item)]
            return outcome
        outcome = self._work(item, self.stored)
        if item.subjects and isinstance(item.subjects[0], Problem):
            outcome.sources = [problem_row(item)]
        return outcome

    def _work(self, known: Known, stored: samples.StoredSizes) -> Outcome:
        outcome = Outcome(source=known.source.source, source_id=known.source.source_id)
        taken: set[str] = set()
        for subject in known.subjects:
            for family in families():
                self._ask(family, subject, known, stored, outcome, taken)
        return outcome

    def _ask(
        self, family: Family, subject: Subject, known: Known, stored: samples.StoredSizes, outcome: Outcome, taken: set[str]
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
            row = self._sample(family, subject, ask, known, stored, outcome, taken)
            if isinstance(row, Rejection):
                outcome.dropped.append(dropped_row(known, row))
            else:
                kept[ask.task] += 1
                taken.add(row["sample_id"])
                outcome.samples.append(row)

    def _sample(
        self,
        family: Family,
        subject: Subject,
        ask: Ask,
        known: Known,
        stored: samples.StoredSizes,
        outcome: Outcome,
        taken: set[str],
    ) -> dict[str, Any] | Rejection:
        recipe = self.recipe
        question = family.build(subject, ask, recipe.synth.seed)
        if isinstance(question, Rejection):
            return question
        question = shaped(question, subject, known.source.source_id, recipe.synth)
        if refused := check_query(question, subject):
            return refused
        try:
            parts = samples.shown(subject, known.source, question, recipe, stored)
        except samples.Unshowable as error:
            return Rejection(ask=ask, reason=error.reason, detail=error.detail)
        if hidden := samples.unseen(subject, question, parts):
            return Rejection(ask=ask, reason="unseen", detail=hidden)
        reply = self.teacher.write(question, subject, seed=recipe.synth.seed)
        if reply is None:
            return Rejection(ask=ask, reason="no_response", detail=f"{self.teacher.name} has no answer")
        verdict, refused = check_response(reply.text, question, subject, known)
        refused = refused or check_process(reply.text, question, subject, known)
        if refused is not None:
            return refused
        verifier = get(question.verifier)
        reasoning = Reasoning(
            teacher=self.teacher.name, verifier=verifier.name, verifier_version=verifier.version, truth=question.truth,
            score=verdict.score, evidence=evidence_json(question, claims(question, subject, known, parts)),
            cost_usd=reply.cost_usd,
        )  # fmt: skip
        sample = samples.make(question, subject, known.source, parts, reply.text, reasoning, {})
        if sample.sample_id in taken:
            return Rejection(ask=ask, reason="duplicate_sample", detail=f"{sample.sample_id} is already there")
        tokens = samples.rendered(sample, recipe)
        bucket = recipe.buckets.context(tokens.cost.total)
        if bucket is None:
            return Rejection(ask=ask, reason="over_context", detail=f"{tokens.cost.total} tokens fit no context bucket")
        outcome.lineage += samples.lineage_rows(sample, tokens)
        return samples.sample_row(sample, tokens, known.source, subject, bucket, recipe, self.fingerprint)


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
