"""A published corpus is the local one, file by file; a reader never sees a step by half, and only what changed is sent."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.localfilesystem import LocalFileSystem

from manifests.check import check
from manifests.corpus import Corpus
from manifests.errors import CorruptCorpusError, LongreelError, UsageError
from manifests.recipe import Recipe
from pipelines import curate
from pipelines.publishing import publish

IN_MEMORY = ("--direct_running_mode=in_memory",)
ADDRESS = "shelf://bucket/corpus"


class ShelfFileSystem(LocalFileSystem):
    """``shelf://`` as a folder of this machine. Beam finds it because it is a subclass. After ``left`` writings it breaks."""

    root = Path()
    left = 10**9
    written: tuple[str, ...] = ()

    @classmethod
    def scheme(cls) -> str:
        return "shelf"

    def has_dirs(self) -> bool:
        return False

    def _at(self, path: str) -> Path:
        return self.root / path.removeprefix("shelf://")

    def mkdirs(self, path: str) -> None:
        raise OSError("a shelf has no folders")

    def exists(self, path: str) -> bool:
        return self._at(path).is_file()

    def metadata(self, path: str) -> FileMetadata:
        return FileMetadata(path, self._at(path).stat().st_size)

    def _list(self, dir_or_prefix: str) -> Any:
        for path in sorted(self.root.rglob("*")):
            name = "shelf://" + path.relative_to(self.root).as_posix()
            if path.is_file() and name.startswith(dir_or_prefix):
                yield FileMetadata(name, path.stat().st_size)

    def open(self, path: str, mime_type: str = "", compression_type: str = "auto") -> Any:
        return self._at(path).open("rb")

    def create(self, path: str, mime_type: str = "", compression_type: str = "auto") -> Any:
        if type(self).left <= 0:
            raise OSError("the shelf is full")
        type(self).left -= 1
        self._at(path).parent.mkdir(parents=True, exist_ok=True)
        return self._at(path).open("wb")

    def rename(self, source_file_names: list[str], destination_file_names: list[str]) -> None:
        for source, target in zip(source_file_names, destination_file_names, strict=True):
            type(self).written += (target.removeprefix(ADDRESS + "/"),)
            self._at(source).rename(self._at(target))

    def delete(self, paths: list[str]) -> None:
        for path in paths:
            self._at(path).unlink()


@pytest.fixture(scope="module")
def inputs(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("in")
    shutil.copytree(examples / "traces" / "login-user", folder / "trace")
    for name in ("coffee.jpg", "coffee.caption.json"):
        shutil.copy(examples / "images" / name, folder)
    return folder


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(ShelfFileSystem, "root", tmp_path / "store")
    monkeypatch.setattr(ShelfFileSystem, "left", 10**9)
    monkeypatch.setattr(ShelfFileSystem, "written", ())
    return tmp_path / "store" / "bucket" / "corpus"


@pytest.fixture
def corpus(inputs: Path, recipe: Recipe, tmp_path: Path) -> Path:
    curate([inputs], tmp_path / "corpus", recipe, beam_options=IN_MEMORY)
    return tmp_path / "corpus"


def test_the_published_corpus_is_the_local_one_and_its_record_came_last(corpus: Path, shelf: Path) -> None:
    done = publish(corpus, ADDRESS)
    assert done.sent == len(Corpus(corpus).records()[0].files)
    assert ShelfFileSystem.written[0] == "corpus.json"
    assert ShelfFileSystem.written[-1] == "steps/curate.json"
    assert all(finding.holds for finding in check(shelf))
    assert Corpus(shelf).digest() == Corpus(corpus).digest()
    ShelfFileSystem.written = ()
    again = publish(corpus, ADDRESS)
    assert (again.sent, again.kept, again.removed) == (0, done.sent, 0)
    assert ShelfFileSystem.written == ()


def test_one_that_breaks_leaves_no_record_and_is_run_again(corpus: Path, shelf: Path) -> None:
    ShelfFileSystem.left = 4
    with pytest.raises(LongreelError, match=r"shelf://bucket/corpus/.* could not be read or written: the shelf is full"):
        publish(corpus, ADDRESS)
    assert not (shelf / "steps").exists()
    with pytest.raises(UsageError, match="is no corpus"):
        Corpus.open(shelf)
    ShelfFileSystem.left = 10**9
    publish(corpus, ADDRESS)
    assert Corpus(shelf).digest() == Corpus(corpus).digest()
    assert not list(shelf.rglob("*.part"))


def test_another_corpus_takes_its_place_and_what_is_no_longer_listed_goes(
    corpus: Path, shelf: Path, inputs: Path, recipe: Recipe, tmp_path: Path
) -> None:
    finer = replace(recipe, curate=replace(recipe.curate, shard_bytes=2_000, rows_per_file=5))
    curate([inputs], corpus, finer, beam_options=IN_MEMORY)
    publish(corpus, ADDRESS)
    (shelf / "notes.txt").write_text("not of the corpus")
    smaller = tmp_path / "smaller"
    curate([inputs / "coffee.jpg"], smaller, recipe, beam_options=IN_MEMORY)
    done = publish(smaller, ADDRESS)
    assert done.removed > 0
    here = {path.relative_to(shelf).as_posix() for path in shelf.rglob("*") if path.is_file()}
    assert here == {*Corpus(smaller).records()[0].files, "steps/curate.json", "corpus.json", "notes.txt"}
    (shelf / "notes.txt").unlink()
    assert Corpus(shelf).digest() == Corpus(smaller).digest()


def test_what_is_wrong_is_said_before_anything_changes(corpus: Path, shelf: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no address"):
        publish(corpus, str(tmp_path / "there"))
    with pytest.raises(UsageError, match="nosuch://bucket: Unable to get filesystem"):
        publish(corpus, "nosuch://bucket")
    shelf.mkdir(parents=True)
    (shelf / "thesis.txt").write_text("precious")
    with pytest.raises(UsageError, match="something else than a corpus"):
        publish(corpus, ADDRESS)
    (shelf / "thesis.txt").unlink()
    shard = next((corpus / "media").glob("*.tar"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(CorruptCorpusError, match=r"media/shard-00000\.tar has other bytes"):
        publish(corpus, ADDRESS)
    assert not list(shelf.rglob("*"))
