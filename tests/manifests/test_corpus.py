"""A step is valid all at once; later steps fall with it; the digest sees everything but the log."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from curriculum import plan
from curriculum.recipes import keye_vl_2, laptop
from manifests import Catalog, schemas
from manifests.check import check
from manifests.corpus import Corpus
from manifests.errors import CorruptCorpusError, LongreelError, UsageError
from manifests.files import remove_leftovers, write_bytes, writing


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


def test_a_step_that_is_being_written_is_not_seen(corpus: Corpus) -> None:
    row = {"source_id": "f" * 32, "source": "half", "modality": "text", "bytes": 1, "attached": [], "licence": "MIT",
           "status": "used", "samples": 0}  # fmt: skip
    written = corpus.write_table("sources", [row], origin="synthesize")
    assert Catalog(corpus.folder).sql("SELECT count(*) FROM sources").fetchall() == [(5,)]
    corpus.commit("synthesize", "f", {}, written, [])
    assert Catalog(corpus.folder).sql("SELECT count(*) FROM sources").fetchall() == [(6,)]
    corpus.begin("synthesize")
    assert written[0].exists()
    assert Catalog(corpus.folder).sql("SELECT count(*) FROM sources").fetchall() == [(5,)]


def test_a_missing_or_broken_file_is_one_line_and_checks_still_run(corpus: Corpus) -> None:
    path = next(corpus.folder.glob("lineage/**/*.parquet"))
    whole = path.read_bytes()
    for damage in (path.unlink, lambda: path.write_bytes(whole[:100])):
        damage()
        with pytest.raises(CorruptCorpusError, match=r"lineage.*`longreel check` says"):
            Catalog(corpus.folder)
        assert [f.holds for f in check(corpus.folder) if f.promise.startswith("every file")] == [False]


def test_one_process_writes_a_corpus(corpus: Corpus) -> None:
    script = (
        "import sys; from manifests.corpus import Corpus; c = Corpus(sys.argv[1]); c.begin('curate'); print('held', flush=True)"
    )
    script += "; sys.stdin.readline(); c.commit('curate', 'f', {}, [], [])"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(corpus.folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(LongreelError, match=r"another process is writing .*: wait for it, or stop it"):
            corpus.begin("synthesize")
        other.kill()
    corpus.begin("synthesize")


def test_many_writers_of_one_name_leave_one_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "file"
    texts = {bytes([65 + number]) * 200_000 for number in range(8)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: write_bytes(path, text), sorted(texts) * 5))
    assert path.read_bytes() in texts
    assert [each.name for each in path.parent.iterdir()] == ["file"]


def test_names_are_forced_to_disk_after_the_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order that survives a power cut: bytes of the file, its name, and the names of new folders above it."""
    order: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        order.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_bytes(tmp_path / "a" / "b" / "file", b"x")
    assert order[:2] == ["a", tmp_path.name]
    assert order[2].startswith(".file.")
    assert order[3:] == ["b"]


def test_any_parquet_reader_reads_every_table(corpus: Corpus) -> None:
    """As a Hive-partitioned data set, with pyarrow: the columns of the partitions and those in the files agree."""
    plan(corpus.folder, laptop())
    catalog, read = Catalog(corpus.folder), set()
    for table, schema in schemas.TABLES.items():
        paths = sorted((corpus.folder / table).rglob("*.parquet"))
        if not paths:
            continue
        keys = [part.partition("=")[0] for part in paths[0].relative_to(corpus.folder).parts[1:-1]]
        hive = ds.partitioning(
            pa.schema([pa.field(key, schema.field(key).type if key in schema.names else pa.string()) for key in keys]),
            flavor="hive",
        )
        rows = ds.dataset(
            [str(path) for path in paths], format="parquet", partitioning=hive, partition_base_dir=str(corpus.folder)
        )
        columns = [name for name in schema.names if not pa.types.is_nested(schema.field(name).type)]
        found = sorted(map(str, rows.to_table(columns=columns).to_pylist()))
        shown = catalog.sql("SELECT " + ", ".join(f'"{name}"' for name in columns) + f" FROM {table}")
        assert found == sorted(map(str, shown.to_arrow_table().to_pylist())), table
        read.add(table)
    assert read >= {"samples", "media", "sequences", "segments", "stages", "quarantine", "dropped", "lineage", "sources"}
