"""A step is valid all at once; later steps fall with it; the digest sees everything but the log."""

from __future__ import annotations

import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from curriculum.recipes import keye_vl_2, laptop
from manifests import Catalog
from manifests.corpus import Corpus
from manifests.errors import CorruptCorpusError, UsageError
from manifests.files import remove_leftovers, writing


def test_equal_corpora_have_equal_digests(corpus: Corpus, tmp_path: Path) -> None:
    from small_corpus import build_corpus

    other = build_corpus(tmp_path / "other")
    assert corpus.digest() == other.digest()
    other.log_run(
        step="curate",
        recipe="laptop",
        started=datetime.datetime.now(datetime.UTC),
        seconds=1,
        fingerprint="f",
        outcome="done",
        counts={},
    )
    assert corpus.digest() == other.digest()
    (other.folder / "corpus.json").write_text("{}")
    assert corpus.digest() != other.digest()


def test_commit_removes_what_the_step_no_longer_writes(corpus: Corpus) -> None:
    stale = corpus.write_table("samples", [], origin="synthesize", context_bucket="64k", duration_bucket="15s")[0]
    kept = corpus.write_table("samples", [], origin="synthesize", context_bucket="32k", duration_bucket=None)
    corpus.commit("synthesize", "f", {}, kept, [corpus.table("samples", origin="synthesize")])
    assert not stale.exists()
    assert not stale.parent.exists()
    assert kept[0].exists()


def test_beginning_a_step_withdraws_what_was_built_on_it(corpus: Corpus) -> None:
    synthesized = corpus.write_table("samples", [], origin="synthesize", context_bucket="32k", duration_bucket=None)
    corpus.commit("synthesize", "f", {}, synthesized, [])
    corpus.commit("plan-laptop", "f", {}, corpus.write_table("stages", [], recipe="laptop"), [])
    assert corpus.steps() == ["curate", "plan-laptop", "synthesize"]
    corpus.begin("synthesize")
    assert corpus.steps() == ["curate"]
    assert not list((corpus.folder / "stages").rglob("*.parquet"))
    assert corpus.is_current("curate", "fingerprint")
    assert not corpus.is_current("curate", "another")


def test_an_unfinished_file_never_appears(tmp_path: Path) -> None:
    def half() -> None:
        with writing(tmp_path / "a.bin") as stream:
            stream.write(b"half")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        half()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".a.bin.1-aa.part").write_bytes(b"left by a killed process")
    assert remove_leftovers(tmp_path) == 1


def test_a_recipe_that_counts_differently_is_refused(corpus: Corpus) -> None:
    corpus.require_costs_of(laptop())
    with pytest.raises(UsageError, match=r"counted with recipe 'laptop'.*curate again with --recipe keye_vl_2"):
        corpus.require_costs_of(keye_vl_2())


def test_no_corpus_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="make one with `longreel curate"):
        Corpus.open(tmp_path)
    (tmp_path / "_work").mkdir()
    with pytest.raises(UsageError, match="run the same `longreel curate` again"):
        Corpus.open(tmp_path)


def test_a_broken_record_is_said_plainly(corpus: Corpus) -> None:
    corpus.record_path("curate").write_text("{")
    with pytest.raises(CorruptCorpusError, match="not a step record"):
        corpus.record("curate")


def test_every_table_answers_even_before_its_step_ran(corpus: Corpus) -> None:
    catalog = Catalog(corpus.folder)
    for table in ("sequences", "segments", "stages", "runs", "dropped", "annotations"):
        assert catalog.sql(f"SELECT * FROM {table}").fetchall() == []
    assert catalog.sql("SELECT context_bucket, count(*) FROM samples GROUP BY ALL").fetchall() == [("32k", 4)]
    with pytest.raises(UsageError, match="the query failed"):
        catalog.sql("SELECT nothing FROM nowhere")


@pytest.mark.parametrize("text", ["COPY (SELECT 1) TO '{}'", "SELECT 1; SELECT 2", "", "CREATE TABLE x (a INT)"])
def test_a_query_only_reads(corpus: Corpus, tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="a query is one SELECT, and this is"):
        Catalog(corpus.folder).sql(text.format(tmp_path / "x.csv"))
    assert not (tmp_path / "x.csv").exists()
    assert Catalog(corpus.folder).sql("DESCRIBE samples").fetchall()


def test_hive_readers_see_null_without_video(corpus: Corpus) -> None:
    names = pa.schema([("origin", pa.string()), ("context_bucket", pa.string()), ("duration_bucket", pa.string())])
    table = ds.dataset(corpus.folder / "samples", partitioning=ds.partitioning(names, flavor="hive")).to_table()
    assert set(table.column("duration_bucket").to_pylist()) == {None}
    assert set(table.column("context_bucket").to_pylist()) == {"32k"}
