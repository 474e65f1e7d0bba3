"""Inputs behind an address give the bytes that the same files give locally; only what changed is fetched again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from apache_beam.io.filesystem import BeamIOError, FileMetadata
from apache_beam.io.localfilesystem import LocalFileSystem

from manifests.corpus import Corpus
from manifests.errors import LongreelError, UsageError
from manifests.recipe import Recipe
from pipelines import curate
from pipelines.remote import address, bring

IN_MEMORY = ("--direct_running_mode=in_memory",)


class BucketFileSystem(LocalFileSystem):
    """``test://`` as a folder of this machine; counts what is opened. Beam finds it because it is a subclass."""

    root = Path()
    opened: tuple[str, ...] = ()
    broken = ""

    @classmethod
    def scheme(cls) -> str:
        return "test"

    def has_dirs(self) -> bool:
        return False

    def exists(self, path: str) -> bool:
        return (self.root / path.removeprefix("test://")).is_file()

    def metadata(self, path: str) -> FileMetadata:
        there = (self.root / path.removeprefix("test://")).stat()
        return FileMetadata(path, there.st_size, there.st_mtime)

    def _list(self, dir_or_prefix: str) -> Any:
        # Like an object store: everything that begins with the prefix, at any depth.
        for path in sorted(self.root.rglob("*")):
            name = "test://" + path.relative_to(self.root).as_posix()
            if path.is_file() and name.startswith(dir_or_prefix):
                yield FileMetadata(name, path.stat().st_size, path.stat().st_mtime)

    def open(self, path: str, mime_type: str = "", compression_type: str = "auto") -> Any:
        type(self).opened += (path,)
        if path == self.broken:
            raise BeamIOError("the network is gone")
        return (self.root / path.removeprefix("test://")).open("rb")


@pytest.fixture
def bucket(tmp_path: Path, examples: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    raw = tmp_path / "store" / "bucket" / "raw"
    shutil.copytree(examples / "traces" / "login-user", raw / "trace")
    for name in ("coffee.jpg", "coffee.caption.json"):
        shutil.copy(examples / "images" / name, raw)
    monkeypatch.setattr(BucketFileSystem, "root", tmp_path / "store")
    monkeypatch.setattr(BucketFileSystem, "opened", ())
    return raw


def test_the_corpus_is_the_one_of_local_files(bucket: Path, tmp_path: Path, recipe: Recipe) -> None:
    here = curate([bucket], tmp_path / "local", recipe, beam_options=IN_MEMORY)
    there = curate([Path("test://bucket/raw")], tmp_path / "remote", recipe, beam_options=IN_MEMORY)
    assert there.digest == here.digest
    assert Corpus(tmp_path / "remote").digest() == Corpus(tmp_path / "local").digest()
    assert curate([Path("test://bucket/raw/")], tmp_path / "remote", recipe).unchanged


def test_only_what_changed_is_fetched(bucket: Path, tmp_path: Path) -> None:
    mirror = bring(Path("test://bucket/raw"), tmp_path / "mirrors")
    assert len(BucketFileSystem.opened) == sum(path.is_file() for path in bucket.rglob("*"))
    BucketFileSystem.opened = ()
    (bucket / "coffee.caption.json").write_text('{"caption": "A cup."}')
    (bucket / "new.txt").write_text("new")
    shutil.rmtree(bucket / "trace")
    assert bring(Path("test://bucket/raw"), tmp_path / "mirrors") == mirror
    assert sorted(BucketFileSystem.opened) == ["test://bucket/raw/coffee.caption.json", "test://bucket/raw/new.txt"]
    assert sorted(path.name for path in mirror.rglob("*")) == ["coffee.caption.json", "coffee.jpg", "new.txt"]


def test_a_single_file_keeps_its_name(bucket: Path, tmp_path: Path) -> None:
    got = bring(Path("test://bucket/raw/coffee.jpg"), tmp_path / "mirrors")
    assert got.name == "coffee.jpg"
    assert got.read_bytes() == (bucket / "coffee.jpg").read_bytes()


def test_names_of_a_store_cannot_lead_out_of_the_mirror(bucket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = FileMetadata("test://bucket/raw/../../x", 3, 1.0)
    monkeypatch.setattr(BucketFileSystem, "_list", lambda self, prefix: iter([entry]))
    (tmp_path / "x").write_text("out")
    monkeypatch.setattr(BucketFileSystem, "open", lambda self, path, *_: (tmp_path / "x").open("rb"))
    mirror = bring(Path("test://bucket/raw"), tmp_path / "mirrors")
    assert (mirror / "%2E%2E" / "%2E%2E" / "x").read_text() == "out"


def test_what_cannot_be_had_is_named(bucket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="test://bucket/none does not exist"):
        bring(Path("test://bucket/none"), tmp_path / "mirrors")
    with pytest.raises(UsageError, match="input nosuch://bucket: Unable to get filesystem"):
        bring(Path("nosuch://bucket"), tmp_path / "mirrors")
    monkeypatch.setattr(BucketFileSystem, "broken", "test://bucket/raw/coffee.jpg")
    with pytest.raises(LongreelError, match=r"test://bucket/raw/coffee.jpg could not be fetched: the network is gone"):
        bring(Path("test://bucket/raw"), tmp_path / "mirrors")


def test_a_local_path_is_none(tmp_path: Path) -> None:
    assert address(tmp_path) is None
    assert address(Path("C:/data")) is None
    assert address(Path("gs://bucket/raw")) == "gs://bucket/raw"
