"""The step as a Beam pipeline: the same bytes as the plain loop, whether answers are worked out or asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam
import curated
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from synthesised import Made
from teacher_server import teacher_server
from test_teachers import bare_corpus, known_answers, recipe_with

from synth_cot import synthesize


def run(build: Callable[[Any], object]) -> None:
    """Runs a pipeline in this process."""
    pipeline = apache_beam.Pipeline(runner=FnApiRunner())
    build(pipeline)
    pipeline.run().wait_until_finish()


def test_a_pipeline_writes_the_bytes_of_the_loop(tmp_path: Path, made: Made) -> None:
    corpus = curated.build(tmp_path / "corpus", made.recipe, heldout=("login.gui",))
    result = synthesize(corpus.folder, made.recipe, beam=run)
    assert (result.counts, result.digest) == (made.result.counts, made.result.digest)
    assert corpus.digest() == made.corpus.digest()
    assert not (corpus.work / "outcomes").exists()


def test_a_pipeline_asks_teachers_once_and_bounded(tmp_path: Path) -> None:
    with teacher_server() as server:
        recipe = recipe_with(server, tasks=("reason.film", "stem"), timeout_s=20.0, concurrency=3)
        recipe = dataclasses.replace(recipe, synth=dataclasses.replace(recipe.synth, ledger=str(tmp_path / "ledger")))
        first, second = bare_corpus(tmp_path / "one", recipe), bare_corpus(tmp_path / "two", recipe)
        server.answers = known_answers(first, recipe)
        counts = synthesize(first.folder, recipe, beam=run).counts
        assert counts["teachers"]["sage/sage-1/1"]["accepted"] > 15
        assert max(server.asked.values()) == 1
        assert server.in_flight_max <= 3
        asked = sum(server.asked.values())
        # Another corpus with the same ledger asks nothing, and the plain loop gives the same bytes.
        synthesize(second.folder, recipe)
        assert sum(server.asked.values()) == asked
        assert first.digest() == second.digest()
