"""The step as a whole: every sample is right, costs what it says, stands on its source's side, and is the same each time."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import curated
import pytest
from recompute_answers import recompute
from synthesised import Made

from curriculum.recipes import keye_vl_2
from manifests.check import check
from manifests.corpus import Corpus
from manifests.errors import UsageError
from manifests.rendering import render
from manifests.sample import Sample, messages_from_rows
from manifests.tokenizer import load_tokenizer
from synth_cot import synthesize
from synth_cot.forms import DIRECT
from synth_cot.verifiers.answer_format import parse


def samples(made: Made) -> list[dict[str, Any]]:
    return made.rows("SELECT * FROM samples WHERE origin = 'synthesize' ORDER BY sample_id")


def test_every_kept_answer_is_the_one_recomputed_by_code_that_shares_nothing(made: Made) -> None:
    done, wrong = recompute(made.corpus.folder)
    assert wrong == []
    assert sum(done.values()) == made.result.counts["accepted"]
    assert len(done) >= 40


def test_there_are_many_tasks_and_each_has_samples(made: Made) -> None:
    tasks = made.result.counts["by_task"]
    assert len(tasks) >= 12
    assert sum(task.startswith("stem.") for task in tasks) >= 12
    assert all(tasks.values())


def test_asked_is_accepted_plus_rejected_and_each_reject_has_a_row(made: Made) -> None:
    counts = made.result.counts
    assert counts["asked"] == counts["accepted"] + sum(counts["rejected"].values())
    assert counts["accepted"] == len(samples(made))
    dropped = made.rows("SELECT * FROM dropped")
    assert len(dropped) == sum(counts["rejected"].values())
    assert all(row["reason"] and row["detail"] and row["source_id"] for row in dropped)


def test_thinking_is_kept_where_the_recipe_says_and_nowhere_else(made: Made) -> None:
    for row in samples(made):
        response = parse(row["messages"][-1]["parts"][0]["text"])
        assert response is not None
        asked_for = any(word in made.recipe.synth.think_tasks for word in row["task"].split("."))
        direct = row["messages"][0]["parts"][-1]["text"].endswith(DIRECT)
        assert (response.think is not None) == (asked_for and not direct), row["task"]
        assert asked_for or not direct


def test_a_sample_costs_what_it_says_and_names_who_vouches(made: Made) -> None:
    tokenizer = load_tokenizer(made.recipe.tokenizer)
    for row in samples(made):
        messages = messages_from_rows(row["messages"])
        cost = render(messages, tokenizer, made.recipe.visual).cost
        assert (cost.text, cost.visual, cost.total) == (row["text_tokens"], row["visual_tokens"], row["total_tokens"])
        assert row["context_bucket"] == made.recipe.buckets.context(cost.total)
        same = Sample(task=row["task"], capabilities=(), messages=messages, licence="")
        assert row["sample_id"] == same.sample_id
        assert row["source_ids"] == list(same.source_ids)
        reasoning = row["reasoning"]
        assert (reasoning["teacher"], reasoning["score"], reasoning["cost_usd"]) == ("programmatic/2", 1.0, 0.0)
        assert reasoning["verifier_version"]
        assert reasoning["truth"]


def test_the_corpus_passes_its_own_check(made: Made) -> None:
    wrong = {finding.promise: finding.problems for finding in check(made.corpus.folder) if not finding.holds}
    wrong.pop("every media reference is readable and true", None)  # the pictures of this corpus are only named
    assert wrong == {}


def test_samples_stand_on_their_source_s_side(made: Made) -> None:
    sides = {row["source_id"]: row["split"] for row in made.rows("SELECT source_id, split FROM sources")}
    rows = samples(made)
    assert all({sides[source] for source in row["source_ids"]} == {row["split"]} for row in rows)
    login = curated.value_id("login.gui")
    assert {row["split"] for row in rows if login in row["source_ids"]} == {"heldout"}
    questions = made.rows("SELECT DISTINCT split, messages[1].parts[-1].text AS words FROM samples WHERE task LIKE 'stem.%'")
    assert len({row["words"] for row in questions}) == len(questions), "no problem stands on both sides"


def test_evidence_is_in_the_lineage_of_the_answer(made: Made) -> None:
    rows = made.rows(
        "SELECT s.task, l.start_s, l.end_s, l.page, l.box, s.reasoning.evidence AS evidence FROM samples s "
        "JOIN lineage l USING (sample_id) WHERE s.origin = 'synthesize' AND l.message = 1"
    )
    for row in rows:
        evidence = json.loads(row["evidence"])
        nothing_differs = row["task"].startswith("reason.pair") and not evidence["boxes"]
        groups = {
            "boxes": ("box", ("reason.gui", "reason.image", "reason.pair")),
            "intervals": ("start_s", ("reason.video", "reason.film")),
            "pages": ("page", ("reason.document",)),
        }
        for kind, (column, tasks) in groups.items():
            assert (row[column] is not None) == bool(evidence[kind])
            assert nothing_differs or bool(evidence[kind]) == row["task"].startswith(tasks), row["task"]


def test_frames_carry_their_moment(made: Made) -> None:
    rows = made.rows(
        "SELECT l.* FROM lineage l JOIN samples s USING (sample_id) WHERE s.task LIKE 'reason.video%' AND frame IS NOT NULL"
    )
    moments = {media_id: float(point) for point, media_id in curated.VIDEO["frames"]}  # type: ignore[attr-defined]
    assert rows
    assert all(row["start_s"] == row["end_s"] == moments[row["media_id"]] for row in rows)


def test_two_runs_give_the_same_bytes_and_a_third_does_nothing(tmp_path: Path, made: Made) -> None:
    curated.build(tmp_path / "corpus", made.recipe, heldout=("login.gui",))
    result = synthesize(tmp_path / "corpus", made.recipe)
    assert Corpus(tmp_path / "corpus").digest() == made.corpus.digest()
    assert result.digest == made.result.digest
    before = {path: path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*"))}
    again = synthesize(tmp_path / "corpus", made.recipe)
    assert again.unchanged
    assert (again.counts, again.digest) == (result.counts, result.digest)
    assert {path: path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*"))} == before


def test_another_process_with_another_hash_seed_gives_the_same_bytes(tmp_path: Path, made: Made) -> None:
    corpus = curated.build(tmp_path / "corpus", made.recipe, heldout=("login.gui",))
    code = "import sys, curated; from synth_cot import synthesize; synthesize(sys.argv[1], curated.small_recipe())"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]), "PYTHONHASHSEED": "5"}
    subprocess.run([sys.executable, "-c", code, str(corpus.folder)], env=environment, check=True)
    assert corpus.digest() == made.corpus.digest()


def test_a_lost_file_is_made_again(tmp_path: Path, made: Made) -> None:
    corpus = curated.build(tmp_path / "corpus", made.recipe, heldout=("login.gui",))
    synthesize(corpus.folder, made.recipe)
    next((corpus.folder / "lineage" / "origin=synthesize").glob("*.parquet")).unlink()
    assert not synthesize(corpus.folder, made.recipe).unchanged
    assert corpus.digest() == made.corpus.digest()


def test_killed_at_any_moment_and_run_again_the_bytes_are_the_same(tmp_path: Path, made: Made) -> None:
    corpus = curated.build(tmp_path / "corpus", made.recipe, heldout=("login.gui",))
    # A stray file of an earlier run with other settings must not survive either.
    stray = corpus.folder / "samples/origin=synthesize/context_bucket=256k/duration_bucket=2h/part-00000.parquet"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"stray")
    code = (
        "import os, signal, sys, curated; from pathlib import Path; from synth_cot import synthesize\n"
        "left = int(sys.argv[2])\n"
        "replace = Path.replace\n"
        "def dying(self, target):\n"
        "    global left\n"
        "    if left == 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    left -= 1\n"
        "    return replace(self, target)\n"
        "Path.replace = dying\n"
        "synthesize(Path(sys.argv[1]), curated.small_recipe())\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    for files_before_death in (0, 2, 4):
        command = [sys.executable, "-c", code, str(corpus.folder), str(files_before_death)]
        assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
        assert corpus.record("synthesize") is None
    synthesize(corpus.folder, made.recipe)
    assert corpus.digest() == made.corpus.digest()


def test_another_recipe_s_tokens_are_refused(made: Made) -> None:
    with pytest.raises(UsageError, match="was counted with recipe 'laptop'"):
        synthesize(made.corpus.folder, keye_vl_2())


def test_a_folder_without_a_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no corpus"):
        synthesize(tmp_path, curated.small_recipe())


def test_no_problems_and_no_annotations_is_an_empty_step(tmp_path: Path) -> None:
    recipe = curated.small_recipe(0)
    corpus = curated.build(tmp_path / "corpus", recipe, [])
    began = time.monotonic()
    result = synthesize(corpus.folder, recipe)
    assert (result.counts["asked"], result.counts["accepted"]) == (0, 0)
    assert time.monotonic() - began < 20
    assert synthesize(corpus.folder, recipe).unchanged


def test_a_picture_shown_by_two_sources_gives_its_samples_once(tmp_path: Path) -> None:
    recipe = curated.small_recipe(0)
    twice = [("one", "gui", curated.LOGIN), ("two", "gui", curated.LOGIN)]
    corpus = curated.build(tmp_path / "corpus", recipe, twice)
    counts = synthesize(corpus.folder, recipe).counts
    assert counts["rejected"]["duplicate_sample"] > 0
    assert counts["asked"] == counts["accepted"] + sum(counts["rejected"].values())
    finding = {one.promise: one.problems for one in check(corpus.folder)}
    assert finding["lineage covers every sample"] == finding["a sample costs what it says"] == []
    made = Made(corpus, recipe, synthesize(corpus.folder, recipe))
    assert len({row["sample_id"] for row in samples(made)}) == len(samples(made))


def test_a_sample_that_fits_no_bucket_is_dropped_with_its_size(tmp_path: Path) -> None:
    recipe = curated.small_recipe(1)
    tight = dataclasses.replace(recipe.buckets, context_32k=100, context_64k=150, context_256k=200)
    recipe = dataclasses.replace(recipe, buckets=tight)
    corpus = curated.build(tmp_path / "corpus", recipe)
    made = Made(corpus, recipe, synthesize(corpus.folder, recipe))
    lost = made.rows("SELECT * FROM dropped WHERE reason = 'over_context'")
    assert lost
    assert {row["stage"] for row in lost} == {"bucket"}
    assert all(row["total_tokens"] <= 200 for row in samples(made))
