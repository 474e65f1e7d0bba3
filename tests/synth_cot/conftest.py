"""One synthesised corpus, shared by the tests that only read it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import curated
import pytest

from manifests.catalog import Catalog
from manifests.corpus import Corpus
from manifests.recipe import Recipe
from synth_cot import SynthResult, synthesize


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


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The small corpus with three problems of each generator; the login screen is held out."""
    recipe = curated.small_recipe()
    folder: Path = tmp_path_factory.mktemp("synthesised") / "corpus"
    corpus = curated.build(folder, recipe, heldout=("login.gui",))
    return Made(corpus, recipe, synthesize(folder, recipe))
