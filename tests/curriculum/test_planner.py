"""A plan keeps its promises: every table agrees with the samples, nothing leaks, and equal input gives equal bytes."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from counted_corpus import Counted, varied, write_corpus

from curriculum import plan
from curriculum.overrides import apply
from curriculum.recipes import keye_vl_2, laptop
from manifests.catalog import Catalog
from manifests.check import check
from manifests.corpus import Corpus
from manifests.errors import LongreelError, UsageError
from manifests.recipe_json import recipe_from_json


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """A planned corpus that no test changes."""
    corpus = write_corpus(tmp_path_factory.mktemp("planned") / "corpus", varied())
    plan(corpus.folder, laptop())
    return corpus


def test_the_packing_check_of_the_waist_holds(planned: Corpus) -> None:
    finding = {finding.promise: finding for finding in check(planned.folder)}
    for promise in ("packed sequences hold what they say and fit their stage", "every file is the file that was written"):
        assert finding[promise].problems == []


def test_tables_agree_with_each_other_and_with_the_figures_returned(planned: Corpus) -> None:
    catalog = Catalog(planned.folder)
    record = planned.record("plan-laptop")
    assert record is not None
    query = """
        SELECT t.stage, t.name, t.context, t.sequences, t.heldout_sequences, t.segments, t.tokens, t.visual_tokens,
               t.learned_tokens, t.fill, t.steps,
               count(*) FILTER (q.split = 'train'), count(*) FILTER (q.split = 'heldout'),
               sum(q.segments) FILTER (q.split = 'train'), sum(q.tokens) FILTER (q.split = 'train'),
               sum(q.visual_tokens) FILTER (q.split = 'train'), sum(q.learned_tokens) FILTER (q.split = 'train'),
               min(q.capacity), max(q.capacity)
        FROM stages t JOIN sequences q USING (recipe, stage) GROUP BY ALL ORDER BY t.stage
    """
    rows = catalog.sql(query).fetchall()
    assert [row[0] for row in rows] == [0, 1, 2, 3]
    for row, counts, stage in zip(rows, record.counts["stages"], laptop().stages, strict=True):
        assert row[3:9] == row[11:17]
        assert row[9] == pytest.approx(row[6] / (row[3] * row[2]), abs=1e-6)
        assert row[17] == row[18] == row[2] == stage.context
        assert row[10] == -(-row[3] // stage.sequences_per_step)
        keys = ("stage", "name", "context", "sequences", "heldout_sequences", "segments", "tokens", "visual_tokens")
        assert row[:8] == tuple(counts[key] for key in keys)
        assert row[6] <= stage.tokens
        assert row[9] > 0.85


def test_positions_and_spans_have_no_gaps(planned: Corpus) -> None:
    catalog = Catalog(planned.folder)
    gaps = """
        SELECT count(*) FROM (
            SELECT token_start <> coalesce(lag(token_end) OVER w, 0) AS gap, segment <> row_number() OVER w - 1 AS skipped
            FROM segments WINDOW w AS (PARTITION BY stage, split, position ORDER BY segment)
        ) WHERE gap OR skipped
    """
    assert catalog.sql(gaps).fetchall() == [(0,)]
    positions = """
        SELECT min(position), max(position) + 1 = count(*), count(DISTINCT sequence_id) = count(*)
        FROM sequences GROUP BY stage, split
    """
    assert set(catalog.sql(positions).fetchall()) == {(0, True, True)}
    twice = "SELECT count(*) FROM (SELECT 1 FROM segments GROUP BY sequence_id, sample_id HAVING count(*) > 1)"
    assert catalog.sql(twice).fetchall() == [(0,)]
    epochs = """
        SELECT count(*), count(*) FILTER (epoch <> before) FROM (
            SELECT epoch, row_number() OVER (PARTITION BY stage, split, sample_id ORDER BY position) - 1 AS before FROM segments
        )
    """
    ((segments, wrong),) = catalog.sql(epochs).fetchall()
    assert segments > 1_000
    assert wrong == 0


def test_every_eligible_heldout_sample_is_packed_once_and_apart(planned: Corpus) -> None:
    catalog = Catalog(planned.folder)
    mixed = "SELECT count(*) FROM segments g JOIN samples s USING (sample_id) WHERE g.split <> s.split"
    assert catalog.sql(mixed).fetchall() == [(0,)]
    for stage in laptop().stages:
        prefixes = " OR ".join(f"task || '.' LIKE '{entry.task}.%'" for entry in stage.mixture)
        clips = {0: "('15s')", 1: "('15s')", 2: "('15s', '15min')", 3: "('15s', '15min', '2h')"}[stage.number]
        eligible = f"""
            SELECT sample_id FROM samples WHERE split = 'heldout' AND ({prefixes}) AND total_tokens <= {stage.context}
            AND visual_tokens <= {stage.visual_budget} AND coalesce(duration_bucket, '15s') IN {clips} ORDER BY ALL
        """
        packed = f"SELECT sample_id FROM segments WHERE stage = {stage.number} AND split = 'heldout' ORDER BY ALL"
        assert catalog.sql(packed).fetchall() == catalog.sql(eligible).fetchall()


def test_the_manifest_carries_the_whole_recipe(planned: Corpus) -> None:
    (specification,) = {row[0] for row in Catalog(planned.folder).sql("SELECT specification FROM stages").fetchall()}
    assert recipe_from_json(specification) == laptop()


def test_a_second_run_does_nothing(planned: Corpus) -> None:
    before = planned.digest()
    again = plan(planned.folder, laptop())
    assert again.unchanged
    assert planned.digest() == before
    assert [stage["stage"] for stage in again.counts["stages"]] == [0, 1, 2, 3]


def test_equal_bytes_whatever_the_files_order_and_threads(planned: Corpus, tmp_path: Path) -> None:
    record = planned.record("plan-laptop")
    assert record is not None
    other = write_corpus(tmp_path / "corpus", varied()[::-1], files=9)
    script = "from pathlib import Path; import curriculum, curriculum.recipes as recipes, sys; "
    script += "curriculum.plan(Path(sys.argv[1]), recipes.laptop())"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ARROW_NUM_THREADS": "1", "PYTHONHASHSEED": "7"}
    subprocess.run(
        [sys.executable, "-c", script, str(other.folder)], check=True, env=environment, cwd=Path(__file__).parents[2]
    )
    made = other.record("plan-laptop")
    assert made is not None
    tables = {name: digest for name, digest in record.files.items() if not name.startswith("stages/")}
    assert {name: made.files[name] for name in tables} == tables
    for name in set(record.files) - set(tables):  # only the fingerprint names the curation, which the file layout is part of
        one, two = (pq.read_table(corpus.folder / name).drop_columns("fingerprint") for corpus in (planned, other))
        assert one.equals(two)


def test_a_crash_before_the_record_is_made_good(planned: Corpus, tmp_path: Path) -> None:
    shutil.copytree(planned.folder, tmp_path / "corpus")
    corpus = Corpus(tmp_path / "corpus")
    corpus.record_path("plan-laptop").unlink()
    (corpus.folder / "sequences" / "recipe=laptop" / "stage=2" / "part-00000.parquet").unlink()
    (corpus.folder / "segments" / "recipe=laptop" / "stage=2" / "stray.parquet").write_bytes(b"x")
    assert not plan(corpus.folder, laptop()).unchanged
    assert corpus.digest() == planned.digest()


def test_two_recipes_stand_side_by_side_and_a_change_replans_one(planned: Corpus, tmp_path: Path) -> None:
    shutil.copytree(planned.folder, tmp_path / "corpus")
    corpus = Corpus(tmp_path / "corpus")
    other = apply(laptop(), ["name=wide", "stage3.sequences_per_step=2"])
    plan(corpus.folder, other)
    assert Catalog(corpus.folder).sql("SELECT DISTINCT recipe FROM segments ORDER BY ALL").fetchall() == [
        ("laptop",),
        ("wide",),
    ]
    assert plan(corpus.folder, laptop()).unchanged
    assert not plan(corpus.folder, apply(other, ["stage1.seed=3"])).unchanged


def test_another_idea_of_tokens_is_refused(planned: Corpus) -> None:
    with pytest.raises(UsageError, match=r"was counted with recipe 'laptop'; 'keye_vl_2' counts tokens differently"):
        plan(planned.folder, keye_vl_2())


def test_a_recipe_name_that_is_no_folder_name_is_refused(planned: Corpus) -> None:
    with pytest.raises(UsageError, match=r"recipe name '../x' cannot name a folder"):
        plan(planned.folder, dataclasses.replace(laptop(), name="../x"))


def test_no_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no corpus; make one with"):
        plan(tmp_path, laptop())


@pytest.mark.parametrize(
    ("samples", "changes", "message"),
    [
        (
            [Counted(task="text.a", total=10)],
            [],
            r"stage 0 \(projector alignment\) has nothing to train on: of 1 training samples, 1 task not in the mixture\. "
            r"Its mixture names image\.caption; the corpus has text\.a",
        ),
        (
            [Counted(task="image.caption.a", total=300), Counted(task="image.caption.b", total=20, split="heldout")],
            [],
            r"stage 0 .* of 1 training samples, 1 longer than the context\.",
        ),
        (
            [Counted(task="image.caption.a", total=90)],
            ["stage0.tokens=80"],
            r"1 samples are eligible, but stage0.tokens=80 leaves",
        ),
    ],
)  # fmt: skip
def test_a_stage_with_nothing_to_train_on_fails_before_it_writes(
    tmp_path: Path, samples: list[Counted], changes: list[str], message: str
) -> None:
    corpus = write_corpus(tmp_path / "corpus", samples)
    before = corpus.digest()
    with pytest.raises(LongreelError, match=message):
        plan(corpus.folder, apply(laptop(), changes))
    assert corpus.digest() == before


def test_the_published_recipe_plans_without_heldout(tmp_path: Path) -> None:
    """256K contexts, budgets of trillions: the corpus is used once, the missing tokens are in the report."""
    samples = [dataclasses.replace(s, split="train", total=s.total * 32, visual=s.visual * 32) for s in varied(each=20)]
    corpus = write_corpus(tmp_path / "corpus", samples, recipe=keye_vl_2())
    result = plan(corpus.folder, keye_vl_2())
    last = result.counts["stages"][3]
    assert last["context"] == 262_144
    assert last["heldout_sequences"] == 0
    assert last["segments"] == len(samples)
    assert all(entry["epochs"] <= 1 for entry in last["shortfall"]["ingredients"])


def test_a_dry_run_counts_what_a_run_then_writes_and_writes_nothing(planned: Corpus, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", varied())
    before = {path: path.stat().st_mtime_ns for path in sorted(corpus.folder.rglob("*"))}
    result = plan(corpus.folder, laptop(), dry_run=True)
    assert {path: path.stat().st_mtime_ns for path in sorted(corpus.folder.rglob("*"))} == before
    assert result.digest == ""
    assert not result.unchanged
    record = planned.record("plan-laptop")
    assert record is not None
    assert result.counts == record.counts


def test_figures_of_a_stage_are_those_of_its_rows(planned: Corpus) -> None:
    query = """
        SELECT t.stage, t.bound, t.longest, t.visible_pairs, t.read_pairs, t.flops, t.distinct_samples,
               max(g.token_end - g.token_start),
               sum((g.token_end - g.token_start)::BIGINT * (g.token_end - g.token_start + 1) // 2),
               count(DISTINCT g.sample_id), any_value(t.sequences),
               (SELECT sum(flops) FROM sequences q WHERE q.stage = t.stage AND q.split = 'train'),
               (SELECT sum(attention_cost) FROM sequences q WHERE q.stage = t.stage AND q.split = 'train')
        FROM stages t JOIN segments g USING (stage) WHERE g.split = 'train' GROUP BY ALL ORDER BY t.stage
    """
    rows = Catalog(planned.folder).sql(query).fetchall()
    assert len(rows) == 4
    for _, bound, longest, visible, read, flops, distinct, most, pairs, samples, sequences, summed, attention in rows:
        assert bound <= sequences
        assert (longest, visible, distinct) == (most, pairs, samples)
        assert visible + read == attention
        assert flops == pytest.approx(summed)
