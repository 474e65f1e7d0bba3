"""What is known of a packed sample beside its tokens: its name, and the groups by which losses are told apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from manifests.catalog import Catalog

# Axes by which losses are told apart, in the order of `SampleKind`'s fields.
AXES = ("task", "modality", "context", "duration")
NO_DURATION = "none"


class SampleKind(NamedTuple):
    """Task, modality, context bucket and duration bucket (`NO_DURATION` without video) of a sample."""

    task: str
    modality: str
    context: str
    duration: str


class SampleFacts(NamedTuple):
    """A sample of a packed sequence."""

    sample_id: str
    kind: SampleKind


def facts_of(sample_id: str, task: str, modality: str, context_bucket: str, duration_bucket: str | None) -> SampleFacts:
    """From the columns of the samples table."""
    return SampleFacts(sample_id, SampleKind(task, modality, context_bucket, duration_bucket or NO_DURATION))


def kinds_of(catalog: Catalog, recipe_name: str, *, stage: int, split: str) -> tuple[SampleKind, ...]:
    """Every kind of sample that a stage's sequences hold, sorted: the same on every rank."""
    rows = catalog.connection.execute(
        "SELECT DISTINCT task, modality, context_bucket, coalesce(duration_bucket, ?) FROM samples WHERE sample_id IN "
        "(SELECT sample_id FROM segments WHERE recipe = ? AND stage = ? AND split = ?) ORDER BY ALL",
        [NO_DURATION, recipe_name, stage, split],
    ).fetchall()
    return tuple(SampleKind(*row) for row in rows)


class LossByKind:
    """Loss sums and targets by kind; from them, means along each axis.

    Args:
        kinds: those that can come; samples of others are left out.
    """

    def __init__(self, kinds: Sequence[SampleKind]) -> None:
        self.kinds = tuple(kinds)
        self.place = {kind: place for place, kind in enumerate(self.kinds)}
        self.losses = [0.0] * len(self.kinds)
        self.targets = [0.0] * len(self.kinds)

    def add(self, facts: Sequence[SampleFacts], losses: Sequence[float], targets: Sequence[float]) -> None:
        """Adds a packed sequence: loss sum and targets of each of its samples."""
        for fact, loss, count in zip(facts, losses, targets, strict=True):
            place = self.place.get(fact.kind)
            if place is not None:
                self.losses[place] += loss
                self.targets[place] += count

    def values(self) -> list[float]:
        """All sums in one list, for a sum over ranks."""
        return [*self.losses, *self.targets]

    def along(self, values: Sequence[float]) -> dict[str, dict[str, tuple[float, int]]]:
        """`values` (as `values` gives them) as axis -> group -> (mean loss, targets); groups without targets are left out."""
        table: dict[str, dict[str, tuple[float, int]]] = {}
        for index, axis in enumerate(AXES):
            sums: dict[str, list[float]] = {}
            for place, kind in enumerate(self.kinds):
                into = sums.setdefault(kind[index], [0.0, 0.0])
                into[0] += values[place]
                into[1] += values[len(self.kinds) + place]
            table[axis] = {
                name: (round(loss / targets, 6), int(targets)) for name, (loss, targets) in sorted(sums.items()) if targets
            }
        return table
