"""A corpus after the step, and its rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from manifests.catalog import Catalog
from manifests.corpus import Corpus
from manifests.recipe import Recipe
from synth_cot import SynthResult


@dataclass(frozen=True)
class Made:
    """A corpus after the step."""

    corpus: Corpus
    recipe: Recipe
    result: SynthResult

    def rows(self, query: str) -> list[dict[str, Any]]:
        """The rows of a query."""
        found: list[dict[str, Any]] = Catalog(self.corpus.folder).sql(query).to_arrow_table().to_pylist()
        return found
