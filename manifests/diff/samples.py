"""Samples of two corpora, by id: as an id is the hash of task and content, equal ids are the same words and pictures.

One join makes a cube of tasks, buckets and splits with counts; every table is a sum over it. The cube has as many rows as
combinations occur, whatever the number of samples.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from manifests.diff.sides import Sides


@dataclass(kw_only=True)
class Tally:
    """Samples and tokens on either side: in both, only in B (added), only in A (removed)."""

    a: int = 0
    b: int = 0
    same: int = 0
    added: int = 0
    removed: int = 0
    tokens_a: int = 0
    tokens_b: int = 0


@dataclass(kw_only=True)
class TaskChange(Tally):
    """Samples of one task."""

    task: str


@dataclass(kw_only=True)
class BucketChange(Tally):
    """Samples of one context and duration bucket; one that changed its bucket is removed from one and added to the other."""

    context: str
    duration: str | None


@dataclass(kw_only=True)
class SampleChanges(Tally):
    """Samples compared.

    Attributes:
        crossings: samples in both whose split differs, by direction.
        rebucketed: samples in both whose context or duration bucket differs.
        recounted: samples in both whose token counts differ.
        relicensed: samples in both whose licence differs.
        tasks: by task; those that differ first.
        buckets: by bucket.
    """

    crossings: dict[str, int] = field(default_factory=dict)
    rebucketed: int = 0
    recounted: int = 0
    relicensed: int = 0
    tasks: list[TaskChange] = field(default_factory=list)
    buckets: list[BucketChange] = field(default_factory=list)


_CUBE = """
SELECT coalesce(a.task, b.task), a.context_bucket, b.context_bucket, a.duration_bucket, b.duration_bucket, a.split, b.split,
       count(a.sample_id), count(b.sample_id), coalesce(sum(a.total_tokens), 0)::BIGINT,
       coalesce(sum(b.total_tokens), 0)::BIGINT,
       count(*) FILTER (a.total_tokens <> b.total_tokens OR a.visual_tokens <> b.visual_tokens
                        OR a.learned_tokens <> b.learned_tokens),
       count(*) FILTER (a.licence <> b.licence)
FROM a.samples AS a FULL JOIN b.samples AS b USING (sample_id) GROUP BY ALL ORDER BY ALL
"""


def compare_samples(sides: Sides) -> SampleChanges:
    """Compares the ``samples`` tables."""
    found = SampleChanges()
    tasks: dict[str, TaskChange] = {}
    buckets: dict[tuple[str, str | None], BucketChange] = {}
    crossings: dict[str, int] = defaultdict(int)

    def bucket(context: str, duration: str | None) -> BucketChange:
        return buckets.setdefault((context, duration), BucketChange(context=context, duration=duration))

    for task, ca, cb, da, db, split_a, split_b, in_a, in_b, tokens_a, tokens_b, recounted, relicensed in sides.rows(_CUBE):
        same = in_a if in_a and in_b else 0
        for tally in (found, tasks.setdefault(task, TaskChange(task=task))):
            _add(tally, in_a, in_b, same, tokens_a, tokens_b)
        stayed = same if (ca, da) == (cb, db) else 0
        if stayed:
            _add(bucket(ca, da), in_a, in_b, stayed, tokens_a, tokens_b)
        else:
            if in_a:
                _add(bucket(ca, da), in_a, 0, 0, tokens_a, 0)
            if in_b:
                _add(bucket(cb, db), 0, in_b, 0, 0, tokens_b)
        found.rebucketed += same - stayed
        found.recounted += recounted
        found.relicensed += relicensed
        if same and split_a != split_b:
            crossings[f"{split_a} -> {split_b}"] += same
    found.crossings = dict(sorted(crossings.items()))
    found.tasks = sorted(tasks.values(), key=lambda row: (-(row.added + row.removed), row.task))
    order: Any = {name: place for place, name in enumerate(("32k", "64k", "256k", "15s", "15min", "2h", None))}
    found.buckets = sorted(
        buckets.values(),
        key=lambda row: (order.get(row.context, 9), order.get(row.duration, 9), row.context, row.duration or ""),
    )
    return found


def _add(tally: Tally, in_a: int, in_b: int, same: int, tokens_a: int, tokens_b: int) -> None:
    tally.a += in_a
    tally.b += in_b
    tally.same += same
    tally.added += in_b - same
    tally.removed += in_a - same
    tally.tokens_a += tokens_a
    tally.tokens_b += tokens_b
