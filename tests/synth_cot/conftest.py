"""One synthesised corpus, shared by the tests that only read it."""

from __future__ import annotations

from pathlib import Path

import curated
import pytest
from synthesised import Made

from synth_cot import synthesize


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The small corpus with three problems of each generator; the login screen is held out."""
    recipe = curated.small_recipe()
    folder: Path = tmp_path_factory.mktemp("synthesised") / "corpus"
    corpus = curated.build(folder, recipe, heldout=("login.gui",))
    return Made(corpus, recipe, synthesize(folder, recipe))
