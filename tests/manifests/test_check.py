"""`longreel check` must notice every single flipped byte, and say whose it is."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from manifests.check import Finding, check
from manifests.corpus import Corpus
from manifests.fingerprint import value_id
from manifests.shards import BLOCK


def failures(corpus: Corpus) -> dict[str, Finding]:
    return {finding.promise: finding for finding in check(corpus.folder) if not finding.holds}


def test_a_good_corpus_passes(corpus: Corpus) -> None:
    assert failures(corpus) == {}


@pytest.mark.parametrize("where", ["header", "first byte", "last byte", "description", "padding", "end of archive"])
def test_a_flipped_byte_names_shard_sample_and_source(corpus: Corpus, where: str) -> None:
    shard = corpus.folder / "media" / "shard-00000.tar"
    row = pq.read_table(next((corpus.folder / "media").rglob("*.parquet"))).to_pylist()[0]
    data = bytearray(shard.read_bytes())
    described = row["offset"] + row["length"] + (-row["length"] % BLOCK) + BLOCK
    position = {
        "header": 5,
        "first byte": row["offset"],
        "last byte": row["offset"] + row["length"] - 1,
        "description": described + 3,
        "padding": described + BLOCK - 1,
        "end of archive": len(data) - 1,
    }[where]
    data[position] ^= 1
    shard.write_bytes(data)
    found = failures(corpus)
    assert "every file is the file that was written" in found
    problem = found["every media reference is readable and true"].problems[0]
    assert problem.startswith("media/shard-00000.tar: picture ")
    assert "; sample " in problem
    assert "from photo-" in problem


def test_a_missing_shard_and_a_stray_file_are_found(corpus: Corpus) -> None:
    (corpus.folder / "media" / "shard-00000.tar").unlink()
    (corpus.folder / "samples" / "stray.txt").write_text("x")
    problems = failures(corpus)["every file is the file that was written"].problems
    assert any("shard-00000.tar" in problem and "missing" in problem for problem in problems)
    assert any("stray.txt belongs to no step" in problem for problem in problems)


def rewrite(path: Path, column: str, value: object) -> None:
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[0][column] = value
    pq.write_table(table.from_pylist(rows, schema=table.schema), path)


def test_a_wrong_token_count_names_the_sample(corpus: Corpus) -> None:
    path = next((corpus.folder / "samples").rglob("*.parquet"))
    sample = pq.read_table(path).to_pylist()[0]["sample_id"]
    rewrite(path, "total_tokens", 7)
    assert f"sample {sample} says" in failures(corpus)["a sample costs what it says"].problems[0]


def test_a_leak_between_splits_is_found(corpus: Corpus) -> None:
    path = next((corpus.folder / "samples").rglob("*.parquet"))
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[1]["split"] = "heldout"
    rows[1]["duplicate_cluster"] = rows[0]["duplicate_cluster"]
    pq.write_table(table.from_pylist(rows, schema=table.schema), path)
    found = failures(corpus)["train and held-out share no source and no duplicate cluster"]
    assert rows[0]["duplicate_cluster"] in found.problems[0]


def test_a_source_that_vanished_breaks_the_sum(corpus: Corpus) -> None:
    path = next((corpus.folder / "sources").rglob("*.parquet"))
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    problems = failures(corpus)["inputs = used + filtered + quarantined, each with a reason"].problems
    assert "curation counted 5 inputs, the sources table has 4" in problems
    assert any(value_id("photo-0.jpg") in problem for problem in problems)


def test_a_loss_without_a_reason_is_found(corpus: Corpus) -> None:
    path = next((corpus.folder / "quarantine").rglob("*.parquet"))
    pq.write_table(pq.read_table(path).slice(1), path)
    problems = failures(corpus)["inputs = used + filtered + quarantined, each with a reason"].problems
    assert problems == ["broken.jpg is quarantined without a reason"]
