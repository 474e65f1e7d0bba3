"""The step as a whole: same bytes whatever the workers, order and crashes; sums that add up; clear ends for wrong requests."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from kill_curation import finish, kill_when, start
from written_tables import rows

from manifests.check import check
from manifests.corpus import Corpus
from manifests.errors import LongreelError, LossLimitError, UsageError
from manifests.recipe import Recipe
from pipelines import CurateResult, curate
from pipelines.isolation import import_path

IN_MEMORY = ("--direct_running_mode=in_memory",)


@pytest.fixture(scope="module")
def generous(recipe: Recipe) -> Recipe:
    """The small corpus is a third broken files."""
    return replace(recipe, curate=replace(recipe.curate, loss_limit=0.9))


@pytest.fixture(scope="module")
def corpus(small: Path, generous: Recipe, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CurateResult]:
    """The small corpus, curated by two worker processes."""
    out = tmp_path_factory.mktemp("corpus") / "out"
    return out, curate([small], out, generous, beam_options=("--direct_num_workers=2",))


def test_every_promise_holds(corpus: tuple[Path, CurateResult]) -> None:
    for finding in check(corpus[0]):
        assert finding.holds, (finding.promise, finding.problems)


def test_every_input_ends_in_one_place(corpus: tuple[Path, CurateResult], small: Path) -> None:
    out, result = corpus
    counts = result.counts
    assert counts["inputs"] == counts["used"] + counts["filtered"] + counts["quarantined"] == len(rows(out, "sources"))
    files = sum(path.is_file() for path in small.rglob("*"))
    assert files == counts["inputs"] + counts["attached"]
    assert counts["samples"] == len(rows(out, "samples"))
    assert counts["media"] == len(rows(out, "media"))


def test_the_broken_files_are_quarantined_with_stage_and_reason(corpus: tuple[Path, CurateResult]) -> None:
    found = {row["source"]: (row["stage"], row["reason"]) for row in rows(corpus[0], "quarantine")}
    assert found == {
        "broken/boxes-outside.png": ("check", "boxes_outside"),
        "broken/empty.mp4": ("probe", "empty"),
        "broken/encrypted.pdf": ("probe", "encrypted"),
        "broken/notes.pdf": ("probe", "wrong_type"),
        "broken/picture.mp4": ("probe", "wrong_type"),
        "broken/truncated.mp4": ("decode", "undecodable"),
    }
    assert all(row["detail"] for row in rows(corpus[0], "quarantine"))


def test_near_duplicates_are_dropped_and_named(corpus: tuple[Path, CurateResult]) -> None:
    found = {row["source"]: row["detail"] for row in rows(corpus[0], "dropped") if row["reason"] == "near_duplicate"}
    assert set(found) == {"videos/carphone-distorted.mp4", "documents/ocrmypdf-introduction-mirror.md"}
    assert "videos/carphone-pristine.mp4 is kept" in found["videos/carphone-distorted.mp4"]


def test_no_path_of_this_machine_is_in_the_corpus(corpus: tuple[Path, CurateResult], small: Path) -> None:
    out, _ = corpus
    for table in ("samples", "sources", "quarantine", "dropped", "annotations"):
        assert str(small.parent) not in json.dumps(rows(out, table), default=str)


def test_one_worker_and_shuffled_inputs_give_the_same_bytes(
    corpus: tuple[Path, CurateResult], small: Path, generous: Recipe, tmp_path: Path
) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(small, moved)
    names = [moved / "traces", moved, moved / "broken" / "empty.mp4", moved / "videos"]
    result = curate(names, tmp_path / "out", generous, beam_options=IN_MEMORY)
    assert result.digest == corpus[1].digest
    assert Corpus(tmp_path / "out").digest() == Corpus(corpus[0]).digest()


def test_a_second_run_changes_nothing_and_loads_no_beam(corpus: tuple[Path, CurateResult], small: Path) -> None:
    out, result = corpus
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path.name != "lock"}
    code = (
        "import sys; from dataclasses import replace; from pathlib import Path; from curriculum.recipes import laptop\n"
        "from pipelines import curate; recipe = laptop()\n"
        "recipe = replace(recipe, curate=replace(recipe.curate, loss_limit=0.9))\n"
        "result = curate([Path(sys.argv[1])], Path(sys.argv[2]), recipe)\n"
        "assert result.unchanged and result.seconds < 5, result\n"
        "assert not {'apache_beam', 'av', 'torch', 'scenedetect'} & set(sys.modules)\n"
        "print(result.digest)"
    )
    command = [sys.executable, "-c", code, str(small), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": import_path()}, check=False)
    assert done.stdout.strip() == result.digest, done.stderr
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path.name != "lock"}


@pytest.fixture(scope="module")
def plain(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small corpus without its broken files, for runs by the bare recipe."""
    folder = tmp_path_factory.mktemp("plain") / "input"
    shutil.copytree(small, folder, ignore=shutil.ignore_patterns("broken"))
    return folder


def test_killed_at_two_moments_and_run_again(plain: Path, recipe: Recipe, tmp_path: Path) -> None:
    """For more moments, and on any input: ``python tests/pipelines/kill_curation.py``."""
    few = [plain / name for name in ("traces", "gui", "images", "documents/code", "videos/carphone-pristine.mp4")]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    curate(few, whole, recipe, beam_options=IN_MEMORY)

    def reading() -> bool:
        return len(list((killed / "_work" / "items").glob("??/[!.]*"))) >= 2

    def writing() -> bool:
        return (killed / "samples").is_dir() or (killed / "media").is_dir()

    moments: tuple[Callable[[], bool], ...] = (reading, writing)
    for moment in moments:
        assert kill_when(start(killed, *few), moment)
        assert not (killed / "steps" / "curate.json").exists()
        with pytest.raises(UsageError, match="has not finished"):
            Corpus.open(killed)
    _, reused, count = finish(killed, *few)
    assert reused == count
    assert Corpus(killed).digest() == Corpus(whole).digest()
    assert not list(killed.rglob("*.part"))


def test_another_recipe_replaces_what_it_owns(plain: Path, recipe: Recipe, tmp_path: Path) -> None:
    out, few = tmp_path / "out", [plain / name for name in ("traces", "gui", "images")]
    first = curate(few, out, recipe, beam_options=IN_MEMORY)
    finer = replace(recipe, curate=replace(recipe.curate, shard_bytes=2_000, rows_per_file=5))
    second = curate(few, out, finer, beam_options=IN_MEMORY)
    assert second.counts["shards"] > first.counts["shards"]
    assert len(list((out / "samples").rglob("*.parquet"))) > 1
    ids = [row["sample_id"] for row in rows(out, "samples")]
    assert ids == sorted(ids)
    assert all(finding.holds for finding in check(out))
    back = curate(few, out, recipe, beam_options=IN_MEMORY)
    assert back.digest == first.digest


def test_a_field_of_a_later_stage_keeps_the_corpus_and_names_the_recipe(plain: Path, recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "out"
    curate([plain / "gui"], out, recipe, beam_options=IN_MEMORY)
    renamed = replace(recipe, train=replace(recipe.train, gradient_clip=0.5))
    assert curate([plain / "gui"], out, renamed).unchanged
    assert Corpus(out).identity()["recipe"]["train"]["gradient_clip"] == 0.5


def test_nothing_and_too_much_lost_have_ends_of_their_own(examples: Path, recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(LongreelError, match=r"no sample came out of 6 inputs .*wrong_type 2") as caught:
        curate([examples / "broken"], tmp_path / "none", recipe, beam_options=IN_MEMORY)
    assert caught.value.exit_code == 1
    assert not (tmp_path / "none" / "steps").exists()
    mixed = tmp_path / "mixed"
    shutil.copytree(examples / "traces" / "login-user", mixed / "trace")
    (mixed / "empty.mp4").touch()
    for _ in range(2):
        with pytest.raises(LossLimitError, match="1 of 2 inputs") as lost:
            curate([mixed], tmp_path / "lost", recipe, beam_options=IN_MEMORY)
        assert lost.value.exit_code == 3
    assert all(finding.holds for finding in check(tmp_path / "lost"))


def test_wrong_requests_touch_nothing(plain: Path, recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        curate([tmp_path / "nowhere"], tmp_path / "out", recipe)
    with pytest.raises(UsageError, match="must not lie in each other"):
        curate([plain], plain / "out", recipe)
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.txt").write_text("precious")
    with pytest.raises(UsageError, match="something else than a corpus"):
        curate([plain], taken, recipe)
    with pytest.raises(UsageError, match="Beam does not accept"):
        curate([plain], tmp_path / "out", recipe, beam_options=("--runner=NoSuchRunner",))
    assert [path.name for path in taken.iterdir()] == ["thesis.txt"]
    assert not (tmp_path / "out" / "samples").exists()
