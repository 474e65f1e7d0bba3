"""Adding files to a curated folder reads only those, and ends with the bytes of curating everything at once."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from manifests.corpus import Corpus
from manifests.recipe import Recipe
from pipelines import curate

IN_MEMORY = ("--direct_running_mode=in_memory",)


@pytest.fixture
def folder(examples: Path, tmp_path: Path) -> Path:
    """A folder of a picture, a screenshot and a document."""
    for name in ("images/coffee.jpg", "images/coffee.caption.json", "gui/login-user.png", "gui/login-user.gui.json"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(examples / name, tmp_path / "in" / name)
    shutil.copy(examples / "documents" / "ocrmypdf-introduction-mirror.md", tmp_path / "in")
    return tmp_path / "in"


def kept(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (out / "_work" / "items").glob("??/*")}


def test_only_new_files_are_read(folder: Path, examples: Path, tmp_path: Path, recipe: Recipe) -> None:
    out = tmp_path / "out"
    first = curate([folder], out, recipe, beam_options=IN_MEMORY)
    before = kept(out)
    assert len(before) == first.counts["inputs"] == 3
    assert first.counts["kept_bytes"] == sum(path.stat().st_size for path in (out / "_work" / "items").glob("??/*"))
    # The original comes after its copy: what was kept is now a duplicate, so the verdict on old items changes as well.
    shutil.copy(examples / "documents" / "ocrmypdf-introduction.md", folder)
    shutil.copytree(examples / "traces" / "login-user", folder / "trace")
    second = curate([folder], out, recipe, beam_options=IN_MEMORY)
    assert second.counts["reused"] == 3
    assert second.counts["inputs"] == 5
    assert before.items() <= kept(out).items()
    assert second.counts["filtered"] == 1
    curate([folder], tmp_path / "whole", recipe, beam_options=IN_MEMORY)
    assert Corpus(out).digest() == Corpus(tmp_path / "whole").digest()


def test_what_is_no_longer_there_is_not_kept(folder: Path, tmp_path: Path, recipe: Recipe) -> None:
    out = tmp_path / "out"
    curate([folder], out, recipe, beam_options=IN_MEMORY)
    shutil.rmtree(folder / "gui")
    second = curate([folder], out, recipe, beam_options=IN_MEMORY)
    assert second.counts["reused"] == len(kept(out)) == 2


def test_nothing_is_kept_when_the_recipe_says_so(folder: Path, tmp_path: Path, recipe: Recipe) -> None:
    lean = replace(recipe, curate=replace(recipe.curate, keep_items=False))
    result = curate([folder], tmp_path / "out", lean, beam_options=IN_MEMORY)
    assert result.counts["kept_bytes"] == 0
    assert not (tmp_path / "out" / "_work" / "items").exists()
