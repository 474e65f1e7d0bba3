"""A grown corpus planned from its previous plan keeps nearly every packed sequence, and the promises of any plan."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from counted_corpus import Counted, varied, write_corpus

from curriculum import plan
from curriculum.overrides import apply
from curriculum.recipes import laptop
from manifests.catalog import Catalog
from manifests.check import check
from manifests.corpus import Corpus
from manifests.errors import UsageError
from manifests.recipe import Recipe

RECIPE = apply(laptop(), [f"stage{number}.tokens=40_000_000" for number in range(4)])
"""More tokens than the corpus has: every sample is wanted, so that what is new must find a place."""


def sequences(corpus: Corpus) -> dict[int, set[str]]:
    rows = Catalog(corpus.folder).sql("SELECT stage, sequence_id FROM sequences WHERE split = 'train'").fetchall()
    return {stage: {name for number, name in rows if number == stage} for stage in range(4)}


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    corpus = write_corpus(tmp_path_factory.mktemp("before") / "corpus", varied(each=400))
    plan(corpus.folder, RECIPE)
    return corpus


def grown(folder: Path, recipe: Recipe = RECIPE) -> Corpus:
    """One in a hundred samples more."""
    more = [Counted(task=s.task, total=s.total, visual=s.visual, split=s.split, duration_bucket=s.duration_bucket, name="new")
            for s in varied(seed=2, each=4)]  # fmt: skip
    return write_corpus(folder, varied(each=400) + more, recipe=recipe)


def grown_and_planned(folder: Path) -> Path:
    corpus = grown(folder)
    plan(corpus.folder, RECIPE)
    return corpus.folder


def test_one_percent_more_samples_leave_nineteen_in_twenty_sequences(before: Corpus, tmp_path: Path) -> None:
    corpus = grown(tmp_path / "corpus")
    result = plan(corpus.folder, RECIPE, previous=before.folder)
    old, new = sequences(before), sequences(corpus)
    for stage in range(4):
        assert len(old[stage] & new[stage]) >= 0.95 * len(old[stage])
        assert result.counts["stages"][stage]["kept_sequences"] == len(old[stage] & new[stage])
        assert new[stage] - old[stage], "the new samples are packed too"
    for finding in check(corpus.folder):
        if finding.promise.startswith(("packed sequences", "every file")):
            assert finding.problems == []
    fresh = grown(tmp_path / "fresh")
    plan(fresh.folder, RECIPE)
    (((one,),), ((two,),)) = (Catalog(each.folder).sql("SELECT sum(tokens) FROM stages").fetchall() for each in (corpus, fresh))
    assert one == pytest.approx(two, rel=1e-4), (
        "as much is placed as in a fresh plan, but for the last samples of a partial epoch"
    )


def test_the_same_again_does_nothing_and_another_order_of_events_gives_the_same_bytes(before: Corpus, tmp_path: Path) -> None:
    one, two = grown(tmp_path / "one"), grown(tmp_path / "two")
    plan(one.folder, RECIPE, previous=before.folder)
    digest = one.digest()
    assert plan(one.folder, RECIPE, previous=before.folder).unchanged
    assert plan(one.folder, RECIPE, previous=one.folder).unchanged
    plan(two.folder, RECIPE)
    plan(two.folder, RECIPE, previous=before.folder)
    assert two.digest() == digest
    assert not plan(two.folder, RECIPE, previous=grown_and_planned(tmp_path / "other")).unchanged, "another plan to keep from"
    plan(two.folder, RECIPE, previous=before.folder)
    assert two.digest() == digest
    assert not plan(two.folder, RECIPE).unchanged, "a plan from a previous one is no fresh plan"
    assert two.digest() != digest


def test_a_plan_that_curation_withdrew_is_found(before: Corpus, tmp_path: Path) -> None:
    shutil.copytree(before.folder, tmp_path / "corpus")
    corpus = Corpus(tmp_path / "corpus")
    aside = grown(corpus.folder)
    assert aside.record("plan-laptop") is None
    assert not (corpus.folder / "segments").exists() or not any((corpus.folder / "segments").rglob("*.parquet"))
    result = plan(corpus.folder, RECIPE, previous=corpus.folder)
    assert sum(stage["kept_sequences"] for stage in result.counts["stages"]) >= 0.95 * sum(map(len, sequences(before).values()))


def test_samples_that_are_gone_take_their_sequences_with_them(before: Corpus, tmp_path: Path) -> None:
    kept = [sample for at, sample in enumerate(varied(each=400)) if at % 400]
    corpus = write_corpus(tmp_path / "corpus", kept, recipe=RECIPE)
    plan(corpus.folder, RECIPE, previous=before.folder)
    names = {sample.sample_id for sample in kept}
    packed = {name for (name,) in Catalog(corpus.folder).sql("SELECT DISTINCT sample_id FROM segments").fetchall()}
    assert packed <= names
    old, new = sequences(before), sequences(corpus)
    assert all(0 < len(old[stage] & new[stage]) < len(old[stage]) for stage in range(4))


def test_less_of_an_ingredient_is_kept_when_the_mixture_wants_less(before: Corpus, tmp_path: Path) -> None:
    corpus = grown(tmp_path / "corpus")
    less = apply(RECIPE, ["stage1.tokens=200_000"])
    result = plan(corpus.folder, less, previous=before.folder)
    stage = result.counts["stages"][1]
    assert 0 < stage["kept_sequences"] < len(sequences(before)[1])
    assert stage["tokens"] <= 200_000
    assert all(entry["placed"] <= entry["wanted"] for entry in stage["shortfall"]["ingredients"])


def test_no_previous_plan_is_said(before: Corpus, tmp_path: Path) -> None:
    corpus = grown(tmp_path / "corpus")
    with pytest.raises(UsageError, match=r"corpus has no plan of recipe 'laptop', neither finished nor set aside"):
        plan(corpus.folder, RECIPE, previous=corpus.folder)
