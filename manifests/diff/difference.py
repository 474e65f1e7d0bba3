"""The whole comparison in one value: what `longreel diff` prints and the report shows.

*Different* is what is different in content: recipe fields, sources, samples, losses, plans, rows of any table. Fingerprints of
code, digests of files and the log of runs are shown and do not count: the same corpus made anew by other code is the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from manifests.diff.fields import FieldChange, changed_fields
from manifests.diff.losses import (
    LicenceChange,
    ReasonChange,
    ReasoningChange,
    compare_licences,
    compare_losses,
    compare_reasoning,
)
from manifests.diff.plans import PlanChange, compare_plans, planned_recipes
from manifests.diff.samples import SampleChanges, compare_samples
from manifests.diff.sides import Side, Sides
from manifests.diff.sources import SourceChanges, compare_sources
from manifests.diff.tables import TableChange, compare_tables
from manifests.errors import UsageError

SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class MadeChange:
    """Who made one step on either side; None where it has not run."""

    step: str
    fingerprint_a: str | None
    fingerprint_b: str | None
    digest_a: str | None
    digest_b: str | None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Two corpora, or two plans.

    Attributes:
        a, b: the folders as they were named.
        plans_only: the data was not compared, because both sides are one corpus.
        made: fingerprints and digests by step.
        fields: of the recipes that the corpora were curated with.
        plans: plans that were compared.
        plans_a, plans_b: recipes that only one side is planned with.
        tables: rows, and whether they are the same.
    """

    a: str
    b: str
    plans_only: bool
    made: list[MadeChange]
    fields: list[FieldChange]
    sources: SourceChanges | None
    samples: SampleChanges | None
    losses: list[ReasonChange]
    licences: list[LicenceChange]
    reasoning: list[ReasoningChange]
    plans: list[PlanChange]
    plans_a: list[str]
    plans_b: list[str]
    tables: list[TableChange]

    @property
    def same(self) -> bool:
        """Whether nothing differs in content."""
        return (
            not self.fields
            and all(table.same for table in self.tables)
            and not any(plan.fields for plan in self.plans)
            and not (self.plans_a or self.plans_b)
        )

    @property
    def crossings(self) -> int:
        """Sources that are held out on one side and trained on on the other."""
        return sum(self.sources.crossings.values()) if self.sources else 0


def compare(a: Path, b: Path, *, plans: tuple[str, str] | None = None, shown: int = SHOWN) -> Difference:
    """Compares corpus ``a`` with corpus ``b``.

    Args:
        plans: a recipe planned in A and one planned in B; without it, every recipe that both are planned with.
        shown: examples in every list, at most; counts are always of all.

    Raises:
        UsageError: a folder holds no corpus, or a corpus has no such plan.
        CorruptCorpusError: a file of a corpus cannot be read.
    """
    sides = Sides(a, b)
    try:
        return _compare(sides, a, b, plans, shown)
    finally:
        sides.close()


def _compare(sides: Sides, a: Path, b: Path, plans: tuple[str, str] | None, shown: int) -> Difference:
    one = a == b and plans is not None
    planned: dict[Side, list[str]] = {"a": planned_recipes(sides, "a"), "b": planned_recipes(sides, "b")}
    for folder, recipe, there in zip((a, b), plans or (), planned.values(), strict=False):
        if recipe not in there:
            raise UsageError(f"{folder} has no plan of recipe {recipe!r}; it has {', '.join(there) or 'none'}")
    pairs = [plans] if plans else [(recipe, recipe) for recipe in planned["a"] if recipe in planned["b"]]
    identities = {side: corpus.identity()["recipe"] for side, corpus in sides.corpora.items()}
    tables = compare_tables(sides, plans or (None, None), planned_only=one)
    return Difference(
        a=str(a),
        b=str(b),
        plans_only=one,
        made=_made(sides),
        fields=[] if one else changed_fields(identities["a"], identities["b"]),
        sources=None if one else compare_sources(sides, shown),
        samples=None if one else compare_samples(sides),
        losses=[] if one else compare_losses(sides),
        licences=[] if one else compare_licences(sides),
        reasoning=[] if one else compare_reasoning(sides),
        plans=[compare_plans(sides, *pair) for pair in pairs],
        plans_a=[] if plans else [recipe for recipe in planned["a"] if recipe not in planned["b"]],
        plans_b=[] if plans else [recipe for recipe in planned["b"] if recipe not in planned["a"]],
        tables=tables,
    )


def _made(sides: Sides) -> list[MadeChange]:
    steps = sorted({step for corpus in sides.corpora.values() for step in corpus.steps()})
    found = []
    for step in steps:
        a, b = (sides.corpora[side].record(step) for side in ("a", "b"))
        found.append(
            MadeChange(
                step=step,
                fingerprint_a=a.fingerprint if a else None,
                fingerprint_b=b.fingerprint if b else None,
                digest_a=a.digest if a else None,
                digest_b=b.digest if b else None,
            )
        )
    return found
