"""Every ready question answers, and says what counting by hand says."""

from __future__ import annotations

import datetime
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from curriculum import plan
from curriculum.recipes import laptop
from manifests import Catalog
from manifests.corpus import Corpus
from manifests.errors import UsageError
from manifests.fingerprint import value_id
from manifests.queries import QUESTIONS


@pytest.fixture
def planned(corpus: Corpus) -> Corpus:
    """Planned, with two reasoning samples, drops, and a source that copies another."""
    samples = table(corpus, "samples")
    cluster = min(value_id("copy.jpg"), samples[0]["source_ids"][0])
    reasoned = [
        {**row, "sample_id": value_id(number), "origin": "synthesize", "task": "image.count", "duplicate_cluster": cluster,
         "reasoning": {"teacher": "endpoint/x", "verifier": "count", "verifier_version": "1", "truth": "4", "score": 1.0,
                       "evidence": "{}", "cost_usd": 0.002 * (number + 1)}}
        for number, row in enumerate(samples[:2])
    ]  # fmt: skip
    original = next(row for row in table(corpus, "sources") if row["source_id"] == samples[0]["source_ids"][0])
    copies = [
        {**original, "source_id": value_id("copy.jpg"), "source": "copy.jpg", "status": "filtered", "samples": 0},
        {**original, "source_id": value_id("twin.jpg"), "source": "twin.jpg"},
    ]
    copies = [{**row, "duplicate_cluster": cluster, "split": "train"} for row in copies]
    drops = [
        {"source": "copy.jpg", "source_id": value_id("copy.jpg"), "sample_id": None, "task": None, "stage": "duplicates",
         "reason": "near_duplicate", "detail": "as its original"},
        {"source": "a.jpg", "source_id": value_id("a"), "sample_id": None, "task": "image.count", "stage": "verify",
         "reason": "ambiguous", "detail": "the first"},
        {"source": "b.jpg", "source_id": value_id("b"), "sample_id": None, "task": "image.count", "stage": "verify",
         "reason": "ambiguous", "detail": "the second"},
    ]  # fmt: skip
    corpus.begin("synthesize")
    reasoned.sort(key=lambda row: row["sample_id"])
    written = corpus.write_table("samples", reasoned, origin="synthesize", context_bucket="32k", duration_bucket=None)
    written += corpus.write_table("sources", copies, origin="synthesize")
    written += corpus.write_table("dropped", drops, origin="synthesize")
    corpus.commit("synthesize", "f", {}, written, [])
    plan(corpus.folder, laptop())
    corpus.log_run(
        step="plan", recipe="laptop", started=datetime.datetime.now(datetime.UTC), seconds=1.25, fingerprint="f",
        outcome="done", counts={},
    )  # fmt: skip
    return corpus


def asked(corpus: Corpus, name: str, **values: str | int) -> list[dict[str, Any]]:
    catalog = Catalog(corpus.folder)
    relation = catalog.named(name, values)
    return [dict(zip(relation.columns, row, strict=True)) for row in catalog.rows(relation)]


def table(corpus: Corpus, name: str) -> list[dict[str, Any]]:
    """The rows as Arrow reads them, without the catalog."""
    paths = sorted((corpus.folder / name).rglob("*.parquet"))
    return [row for path in paths for row in pq.ParquetFile(path).read().to_pylist()]


def test_every_question_answers(planned: Corpus) -> None:
    sample = table(planned, "samples")[0]
    media = table(planned, "media")[0]
    needed: dict[str, str | int] = {
        "sample_id": sample["sample_id"], "source": sample["source_ids"][0], "stage": 0, "position": 0,
        "media_id": media["media_id"],
    }  # fmt: skip
    for name, question in QUESTIONS.items():
        rows = asked(planned, name, **{each.name: needed[each.name] for each in question.parameters if each.required})
        assert rows, name


def test_a_question_is_asked_of_a_corpus_that_was_never_planned(corpus: Corpus) -> None:
    for name in ("stages", "mixture", "left-out", "fill", "balance", "repeats", "stage-sources"):
        assert asked(corpus, name) == []
    assert asked(corpus, "lineage-of-sample", sample_id="none") == []


def test_buckets_mixture_fill_and_repeats_are_what_is_there(planned: Corpus) -> None:
    samples, segments, sequences = table(planned, "samples"), table(planned, "segments"), table(planned, "sequences")
    (bucket,) = asked(planned, "buckets")  # none has video, all are short
    assert (bucket["samples"], bucket["tokens"]) == (len(samples), sum(row["total_tokens"] for row in samples))
    assert (bucket["context_bucket"], bucket["duration_bucket"], bucket["video_hours"]) == ("32k", None, None)
    for stage in table(planned, "stages"):
        wanted = {each["task"]: each for each in json.loads(stage["shortfall"])["ingredients"]}
        rows = [row for row in asked(planned, "mixture") if row["stage"] == stage["stage"]]
        assert {row["ingredient"]: (row["wanted"], row["placed"]) for row in rows} == {
            task: (each["wanted"], each["placed"]) for task, each in wanted.items()
        }
        assert sum(row["target_share"] for row in rows) == pytest.approx(1, abs=1e-3)
        mine = [row for row in sequences if row["stage"] == stage["stage"] and row["split"] == "train"]
        (fill,) = [row for row in asked(planned, "fill") if (row["stage"], row["split"]) == (stage["stage"], "train")]
        assert fill["sequences"] == len(mine) == stage["sequences"]
        assert fill["fill"] == pytest.approx(stage["fill"], abs=2e-6)
        assert fill["emptiest"] == pytest.approx(min(row["tokens"] / row["capacity"] for row in mine), abs=1e-4)
        placed = Counter(row["epoch"] for row in segments if row["stage"] == stage["stage"] and row["split"] == "train")
        repeats = [row for row in asked(planned, "repeats", recipe="laptop") if row["stage"] == stage["stage"]]
        assert {row["time_placed"] - 1: row["samples"] for row in repeats} == dict(placed)
        assert repeats[0]["share_of_distinct"] == 1
    assert asked(planned, "mixture", recipe="another") == []


def test_costs_drops_copies_and_the_log(planned: Corpus) -> None:
    (cost,) = asked(planned, "cost")
    assert (cost["task"], cost["teacher"], cost["kept"], cost["cost_usd"]) == ("image.count", "endpoint/x", 2, 0.006)
    assert (cost["usd_each"], cost["requests"]) == (0.003, None)
    first, second = asked(planned, "drops")
    assert (first["stage"], first["reason"], first["dropped"], first["whole_sources"]) == ("verify", "ambiguous", 2, 0)
    assert (first["example"], first["detail"]) == ("a.jpg", "the first")
    assert (second["reason"], second["dropped"], second["whole_sources"]) == ("near_duplicate", 1, 1)
    (copies,) = asked(planned, "duplicates")
    assert (copies["sources"], copies["kept"], copies["kept_source"]) == (2, 1, "twin.jpg")
    assert copies["example_dropped"] == "copy.jpg"
    (lost,) = asked(planned, "quarantine")
    assert (lost["stage"], lost["inputs"], lost["share_of_inputs"]) == ("decode", 1, round(1 / 7, 4))
    (run,) = asked(planned, "runs")
    assert (run["step"], run["seconds"], run["outcome"]) == ("plan", 1.3, "done")


def test_costs_with_refused_answers_come_from_the_ledger_where_it_is(planned: Corpus) -> None:
    ledger = {
        "task": "image.count", "questions": 5, "requests": 9, "prompt_tokens": 100, "completion_tokens": 50, "seconds": 3.0,
    }  # fmt: skip
    rows = [
        {**ledger, "teacher": "endpoint/x", "accepted": 2, "usd": 0.05, "tokens_per_accepted": 75.0, "pass_rate": 0.5},
        {**ledger, "teacher": "endpoint/y", "accepted": 0, "usd": 0.01},
    ]
    record = planned.record("synthesize")
    assert record is not None
    written = [planned.folder / name for name in record.files] + planned.write_table("costs", rows, origin="synthesize")
    planned.commit("synthesize", "f", {}, written, [])
    first, second = asked(planned, "cost")
    assert (first["teacher"], first["kept"], first["cost_usd"], first["usd_each"]) == ("endpoint/x", 2, 0.05, 0.025)
    assert (first["questions"], first["requests"], first["tokens_each"], first["pass_rate"]) == (5, 9, 75, 0.5)
    assert (second["teacher"], second["kept"], second["cost_usd"], second["usd_each"]) == ("endpoint/y", 0, 0.01, None)


def test_balance_is_the_dearest_step_over_the_mean_of_whole_steps(planned: Corpus) -> None:
    sequences = [row for row in table(planned, "sequences") if (row["stage"], row["split"]) == (0, "train")]
    per_step = laptop().stages[0].sequences_per_step
    steps: dict[int, list[int]] = {}
    for row in sequences:
        steps.setdefault(row["position"] // per_step, []).append(row["attention_cost"])
    whole = [sum(costs) for costs in steps.values() if len(costs) == per_step]
    row = next(row for row in asked(planned, "balance") if row["stage"] == 0)
    assert (row["sequences_a_step"], row["steps"]) == (per_step, len(whole))
    assert row["attention_max_over_mean"] == pytest.approx(max(whole) / (sum(whole) / len(whole)), abs=1e-4)


def test_lineage_goes_both_ways(planned: Corpus) -> None:
    source = "photo-2.jpg"
    by_path = asked(planned, "lineage-of-source", source=source)
    assert by_path == asked(planned, "lineage-of-source", source=value_id(source))
    (made,) = by_path
    held = {
        f"{row['recipe']}/{row['stage']}/{row['split']}/{row['position']}"
        for row in table(planned, "segments") if row["sample_id"] == made["sample_id"]
    }  # fmt: skip
    assert set(made["sequences"]) == held
    assert made["of_samples"] == 1
    rows = asked(planned, "lineage-of-sample", sample_id=made["sample_id"])
    assert {row["source"] for row in rows if row["position"] is None} == {source}
    assert {f"laptop/{row['what'][13]}/train/{row['position']}" for row in rows if row["position"] is not None} == held


def test_lineage_of_a_span_names_the_tokens_of_the_sequence(planned: Corpus) -> None:
    segment = next(row for row in table(planned, "segments") if row["segment"] == 1)
    of_sample = [row for row in table(planned, "lineage") if row["sample_id"] == segment["sample_id"]]
    where = {"stage": segment["stage"], "position": segment["position"], "split": segment["split"]}
    rows = asked(planned, "lineage-of-span", **where, **{"from": segment["token_start"], "to": segment["token_end"]})
    assert [(row["token_start"], row["token_end"], row["media_id"]) for row in rows] == sorted(
        (segment["token_start"] + row["token_start"], segment["token_start"] + row["token_end"], row["media_id"])
        for row in of_sample
    )
    assert {row["sample_id"] for row in rows} == {segment["sample_id"]}
    last = max(row["token_end"] for row in rows) - 1
    (one,) = asked(planned, "lineage-of-span", **where, **{"from": last, "to": last + 1})
    assert one["token_start"] <= last < one["token_end"]


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("mixtur", {}, r"no question is named 'mixtur' \(nearest: mixture\)"),
        ("lineage-of-sample", {}, "needs --param sample_id=...: the sample"),
        ("longest", {"limt": "3"}, r"takes no parameter 'limt' \(nearest: limit\); it takes task, limit"),
        ("longest", {"limit": "3x"}, "parameter limit is a whole number, not '3x'"),
        ("buckets", {"limit": "3"}, "takes no parameter 'limit'; it takes nothing"),
        ("longest", {"limit": "-1"}, "the query failed"),
    ],
)
def test_a_wrong_question_is_one_line(corpus: Corpus, name: str, values: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        asked(corpus, name, **values)


HOSTILE = "x' OR '1'='1'; DROP VIEW samples; --\n\x1b[2J\"$stage"


def test_a_hostile_value_is_a_value(planned: Corpus) -> None:
    for name, question in QUESTIONS.items():
        for parameter in question.parameters:
            if parameter.kind is str:
                needed = {each.name: 0 if each.kind is int else "x" for each in question.parameters if each.required}
                assert asked(planned, name, **needed | {parameter.name: HOSTILE}) == []
    assert asked(planned, "buckets")


def test_ids_are_found_by_bloom_filters(planned: Corpus) -> None:
    """Row groups without the id are skipped: the file says so itself, through DuckDB's probe of the filters."""
    path = next(iter(sorted((planned.folder / "segments").rglob("*.parquet"))))
    catalog = Catalog(planned.folder)
    probe = "SELECT bool_and(bloom_filter_excludes) FROM parquet_bloom_probe($path, 'sample_id', $id)"
    known = table(planned, "segments")[0]["sample_id"]
    assert catalog.connection.execute(probe, {"path": str(path), "id": known}).fetchall() == [(False,)]
    unknown = [
        catalog.connection.execute(probe, {"path": str(path), "id": value_id(number)}).fetchall()[0][0] for number in range(200)
    ]
    assert sum(unknown) >= 190


def test_a_folder_with_a_pattern_in_its_name(corpus: Corpus, tmp_path: Path) -> None:
    odd = corpus.folder.rename(tmp_path / 'it\'s [a]* "corpus"?')
    assert Catalog(odd).sql("SELECT count(*) FROM samples").fetchall() == [(4,)]
