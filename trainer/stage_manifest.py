"""The stage manifests of a plan, read back: the recipe each row carries is all that the trainer goes by."""

from __future__ import annotations

from dataclasses import dataclass

from manifests.catalog import Catalog
from manifests.errors import CorruptCorpusError, UsageError
from manifests.recipe import Recipe
from manifests.recipe_json import recipe_from_json
from manifests.stage_spec import StageSpec


@dataclass(frozen=True, kw_only=True)
class StageManifest:
    """One stage of a plan.

    Attributes:
        recipe: the whole recipe, as planned.
        spec: its stage.
        sequences, heldout_sequences: packed sequences of each split.
        fill: tokens / (sequences * context).
        fingerprint: of the code, recipe and corpus that planned it.
    """

    recipe: Recipe
    spec: StageSpec
    sequences: int
    heldout_sequences: int
    fill: float
    fingerprint: str

    @property
    def steps(self) -> int:
        """Optimiser steps: the last one takes what is left."""
        return -(-self.sequences // self.spec.sequences_per_step)


def read_stages(catalog: Catalog, recipe_name: str) -> dict[int, StageManifest]:
    """All stages planned for a recipe, by number.

    Raises:
        UsageError: nothing is planned for it.
        CorruptCorpusError: a row's specification cannot be read, or is another stage's.
    """
    rows = catalog.connection.execute(
        "SELECT stage, sequences, heldout_sequences, fill, specification, fingerprint FROM stages "
        "WHERE recipe = ? ORDER BY stage",
        [recipe_name],
    ).fetchall()
    if not rows:
        folder = catalog.corpus.folder
        planned = [name for (name,) in catalog.connection.execute("SELECT DISTINCT recipe FROM stages ORDER BY 1").fetchall()]
        other = f"; it has plans for {', '.join(planned)}" if planned else ""
        raise UsageError(
            f"{folder} has no plan for recipe {recipe_name!r}{other}: run `longreel plan {folder} --recipe {recipe_name}`"
        )
    manifests = {}
    for number, sequences, heldout, fill, specification, fingerprint in rows:
        recipe = recipe_from_json(specification)
        if number not in {stage.number for stage in recipe.stages}:
            raise CorruptCorpusError(
                f"the stages table names stage {number}, which its specification does not have: plan again"
            )
        manifests[number] = StageManifest(
            recipe=recipe,
            spec=recipe.stages[number],
            sequences=sequences,
            heldout_sequences=heldout,
            fill=fill,
            fingerprint=fingerprint,
        )
    return manifests
