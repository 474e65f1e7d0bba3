"""Unrelated documents in one sample: of one split and licence, with one right answer, and lineage to every source."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from manifests.check import check
from manifests.corpus import Corpus
from manifests.recipe import Recipe
from pipelines import curate

IN_MEMORY = ("--direct_running_mode=in_memory",)
WORDS = ("river", "stone", "cloud", "paper", "green", "seven", "wheel", "lantern", "harbour", "winter", "copper", "field")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty short texts, of two licences, and one of three lines that stand in all others."""
    folder = tmp_path_factory.mktemp("texts")
    rng = random.Random(2)
    shared = "This very line stands in every one of the documents here."
    licences = {}
    for number in range(30):
        lines = [" ".join(rng.choices(WORDS, k=9)) + f" and {rng.randrange(10**6)}." for _ in range(6)]
        (folder / f"text-{number:02d}.txt").write_text("\n".join([shared, *lines]) + "\n")
        licences[f"text-{number:02d}.txt"] = {"licence": "MIT" if number % 3 else "CC0-1.0"}
    (folder / "SOURCES.json").write_text(json.dumps({"files": licences}))
    return folder


def rows(out: Path, table: str) -> list[dict]:
    return [row for path in sorted((out / table).rglob("*.parquet")) for row in pq.ParquetFile(path).read().to_pylist()]


def test_documents_are_put_together_and_can_be_told_apart(folder: Path, recipe: Recipe, tmp_path: Path) -> None:
    plain = replace(recipe, curate=replace(recipe.curate, heldout_share=0.4))
    mixed = replace(plain, curate=replace(plain.curate, documents=replace(plain.curate.documents, together=True)))
    first = curate([folder], tmp_path / "mixed", mixed, beam_options=IN_MEMORY)
    assert all(finding.holds for finding in check(tmp_path / "mixed"))
    sources = {row["source_id"]: row for row in rows(tmp_path / "mixed", "sources")}
    made = [row for row in rows(tmp_path / "mixed", "samples") if row["task"] == "document.multi"]
    assert first.counts["tasks"]["document.multi"] == len(made) >= 4
    assert {row["split"] for row in made} == {"train", "heldout"}
    lineage = rows(tmp_path / "mixed", "lineage")
    for row in made:
        assert len(row["source_ids"]) >= 2
        assert {sources[one]["split"] for one in row["source_ids"]} == {row["split"]}
        assert {sources[one]["licence"] for one in row["source_ids"]} == {row["licence"]}
        told = {span["source_id"] for span in lineage if span["sample_id"] == row["sample_id"]}
        assert set(row["source_ids"]) <= told
        user, assistant = row["messages"]
        shown = "".join(part["text"] for part in user["parts"])
        documents = dict(re.findall(r"==> (Document \d+) <==\n(.*?)(?=\n==> |\Z)", shown, re.DOTALL))
        (line,) = re.findall("“(.+)”", shown)
        answer = assistant["parts"][0]
        assert [name for name, words in documents.items() if line in words.rsplit("\n\n", 1)[0]] == [answer["text"]]
        text = (folder / sources[answer["origin"]["source_id"]]["source"]).read_text()
        assert line in text

    again = curate([folder], tmp_path / "again", mixed, beam_options=("--direct_num_workers=2",))
    assert again.digest == first.digest
    without = curate([folder], tmp_path / "plain", plain, beam_options=IN_MEMORY)
    assert "document.multi" not in without.counts["tasks"]
    assert not list((Corpus(tmp_path / "mixed").work / "items").glob(".*"))
