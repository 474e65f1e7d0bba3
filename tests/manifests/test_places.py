"""A corpus behind an address answers as on disk, is never written, and a missing driver is one line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from typer.testing import CliRunner

import longreel
from curriculum import plan
from curriculum.recipes import laptop
from manifests import Catalog, schemas
from manifests.check import check
from manifests.corpus import Corpus
from manifests.errors import UsageError
from manifests.places import address, place


@pytest.fixture
def remote(corpus: Corpus) -> Iterator[tuple[Corpus, str]]:
    """The planned corpus, and where a copy of it lies in fsspec's file system in memory."""
    plan(corpus.folder, laptop())
    memory = fsspec.filesystem("memory")
    memory.put(str(corpus.folder), "/bucket/corpus", recursive=True)
    yield corpus, "memory://bucket/corpus"
    memory.rm("/bucket", recursive=True)


def test_a_corpus_behind_an_address_answers_as_on_disk(remote: tuple[Corpus, str]) -> None:
    corpus, where = remote
    here, there = Catalog(corpus.folder), Catalog(where)
    assert Corpus.open(where).identity() == corpus.identity()
    assert Corpus.open(where).records() == corpus.records()
    for table in schemas.TABLES:
        query = f"SELECT * FROM {table} ORDER BY ALL"
        assert there.rows(there.sql(query)) == here.rows(here.sql(query)), table
    sample = here.sql("SELECT sample_id FROM segments").fetchall()[0][0]
    for name, values in (("mixture", {}), ("lineage-of-sample", {"sample_id": sample})):
        assert there.rows(there.named(name, values)) == here.rows(here.named(name, values)) != []


def test_the_command_line_gives_back_the_slashes_that_paths_fold(remote: tuple[Corpus, str]) -> None:
    _, where = remote
    assert str(Path(where)) == "memory:/bucket/corpus"
    assert Catalog(Path(where)).sql("SELECT count(*) FROM samples").fetchall() == [(4,)]


def test_a_corpus_behind_an_address_is_only_read(remote: tuple[Corpus, str]) -> None:
    _, where = remote
    before = sorted(fsspec.filesystem("memory").find("/bucket"))
    with pytest.raises(UsageError, match="memory://bucket/corpus is only read: make the corpus in a local folder"):
        Corpus(where).begin("curate")
    for command in (["plan"], ["synthesize"], ["curate", "x", "--out"]):
        result = CliRunner().invoke(longreel.app, [command[0], *command[1:], where])
        assert "is only read" in str(result.exception), result.output
    assert sorted(fsspec.filesystem("memory").find("/bucket")) == before


def test_no_corpus_and_no_driver_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="memory://nowhere is no corpus"):
        Catalog("memory://nowhere")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(UsageError, match=r"^s3://bucket/corpus cannot be read: .*[iI]nstall s3fs.*$"):
        Catalog("s3://bucket/corpus")
    with pytest.raises(UsageError, match=r"^gopher://bucket/corpus cannot be read: .*gopher.*$"):
        Catalog("gopher://bucket/corpus")


def test_a_store_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("Unable to locate credentials\nand more")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "_open", refuse)
    with pytest.raises(UsageError, match=r"^memory://elsewhere/corpus cannot be read: Unable to locate credentials$"):
        Catalog("memory://elsewhere/corpus")


def test_a_local_path_is_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert address("a/b") is address("/a:/b") is address("c:/b") is None
    assert address("s3://b/c") == address(Path("s3://b/c")) == "s3://b/c"
    (tmp_path / "s3:" / "b").mkdir(parents=True)
    assert place("s3:/b") == Path("s3:/b")


def test_checks_and_reading_rows_work_through_an_address(remote: tuple[Corpus, str]) -> None:
    corpus, where = remote
    assert [(f.promise, f.holds, f.counted) for f in check(where)] == [  # type: ignore[arg-type]
        (f.promise, f.holds, f.counted) for f in check(corpus.folder)
    ]
