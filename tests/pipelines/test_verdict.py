"""Every input has one status, duplicates are named with the one that is kept, and no cluster is on both sides of the split."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from manifests.recipe import Recipe
from pipelines.duplicates import Signature, shingle_minhash
from pipelines.films import pack_looks
from pipelines.ledger import Fate, Ledger, Summary
from pipelines.verdict import Verdict, decide

WORDS = ("river", "stone", "cloud", "paper", "green", "seven", "wheel", "lantern", "harbour", "winter", "copper", "field")


def summary(name: str, *, sha: str | None = None, samples: tuple[str, ...] = ("s",), **changes: object) -> Summary:
    value = Summary(
        key=f"key-{name}",
        source=f"{name}.txt",
        source_id=f"id-{name}",
        sha256=sha or f"sha-{name}",
        bytes=10,
        attached=(),
        licence="MIT",
        origin=None,
        status="used",
        modality="text",
        signature=Signature(kind="exact"),
        samples=tuple(
            (f"{sample}-{name}" if sample == "s" else sample, "text.plain", "32k", None, 1, 10) for sample in samples
        ),
        media=(),
        dropped=0,
    )
    return replace(value, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Decided:
    """A verdict and all that its ledger says."""

    verdict: Verdict
    fates: dict[str, Fate]
    pictures: list[tuple[str, str, str]]


Decide = Callable[[Iterable[Summary], Recipe], Decided]


@pytest.fixture
def decided(tmp_path: Path) -> Decide:
    def decided(summaries: Iterable[Summary], recipe: Recipe) -> Decided:
        verdict = decide(summaries, recipe, tmp_path / "ledger")
        ledger = Ledger(tmp_path / "ledger")
        fates = {fate.key: fate for fate in ledger.fates()}
        pictures = [picture for shard in verdict.shards for picture in ledger.pictures(shard)]
        ledger.close()
        return Decided(verdict=verdict, fates=fates, pictures=pictures)

    return decided


def fate(verdict: Decided, name: str) -> Fate:
    return verdict.fates[f"key-{name}"]


def test_the_answer_does_not_depend_on_order(decided: Decide, recipe: Recipe) -> None:
    items = [summary("a"), summary("b", sha="sha-a"), summary("c", samples=("shared",)), summary("d", samples=("shared", "s"))]
    answers = [decided(order, recipe) for order in itertools.permutations(items)]
    assert all(answer == answers[0] for answer in answers)


def test_exact_duplicates_keep_one_and_name_it(decided: Decide, recipe: Recipe) -> None:
    verdict = decided([summary("b", sha="x"), summary("a", sha="x"), summary("c")], recipe)
    assert fate(verdict, "a").used
    assert not fate(verdict, "b").used
    (row,) = fate(verdict, "b").dropped
    assert (row["stage"], row["reason"]) == ("duplicates", "exact_duplicate")
    assert "a.txt is kept" in row["detail"]
    assert verdict.verdict.counts["inputs"] == 3 == verdict.verdict.counts["used"] + verdict.verdict.counts["filtered"]


def test_the_described_then_the_licensed_then_the_larger_is_kept(decided: Decide, recipe: Recipe) -> None:
    plain = Signature(kind="exact", size=100.0)
    small = summary("a", sha="x", signature=plain)
    large = summary("b", sha="x", signature=replace(plain, size=200.0))
    told = summary("c", sha="x", signature=replace(plain, described=True))
    assert fate(decided([small, large], recipe), "b").used
    assert fate(decided([small, large, told], recipe), "c").used
    stray = replace(large, licence="unknown")
    assert fate(decided([small, stray], recipe), "a").used


def test_a_cluster_is_on_one_side_and_the_side_is_a_hash(decided: Decide, recipe: Recipe) -> None:
    recipe = replace(recipe, curate=replace(recipe.curate, heldout_share=0.5))
    items = [summary(f"{n:03d}", signature=Signature(kind="exact", pictures=(f"p{n // 2}",))) for n in range(200)]
    verdict = decided(items, recipe)
    sides = [fate(verdict, f"{n:03d}").source_row["split"] for n in range(200)]
    assert all(sides[n] == sides[n + 1] for n in range(0, 200, 2))
    assert 60 < sides.count("heldout") < 140
    without_one = decided(items[2:], recipe)
    assert all(fate(without_one, f"{n:03d}").source_row["split"] == sides[n] for n in range(2, 200))


def test_a_sample_of_two_sources_is_kept_once(decided: Decide, recipe: Recipe) -> None:
    verdict = decided([summary("a", samples=("same", "s")), summary("b", samples=("same",))], recipe)
    assert (fate(verdict, "a").source_row["samples"], fate(verdict, "a").source_row["tokens"]) == (2, 20)
    assert fate(verdict, "b").source_row["status"] == "filtered"
    assert fate(verdict, "b").dropped[0]["sample_id"] == "same"
    assert verdict.verdict.counts["samples"] == 2


def test_a_picture_of_two_sources_is_stored_once(decided: Decide, recipe: Recipe) -> None:
    one, two = summary("a", media=(("p", 5), ("q", 7))), summary("b", media=(("p", 5),))
    verdict = decided([two, one], recipe)
    assert fate(verdict, "b").lost_media == {"p"}
    assert (verdict.verdict.counts["media"], verdict.verdict.counts["media_bytes"]) == (2, 12)
    assert verdict.pictures == [("p", "key-a", "id-a"), ("q", "key-a", "id-a")]


@pytest.mark.parametrize("licence", ["GPL-3.0-only", "MIT AND GPL-3.0-only", "(gpl-3.0-only OR MIT)"])
def test_excluded_licences_are_dropped_with_the_reason(licence: str, decided: Decide, recipe: Recipe) -> None:
    recipe = replace(recipe, curate=replace(recipe.curate, excluded_licences=("GPL-3.0-only",)))
    verdict = decided([summary("a", licence=licence), summary("b")], recipe)
    assert fate(verdict, "a").dropped[0]["stage"] == "licence"
    assert fate(verdict, "b").used


def test_planted_near_duplicates_never_cross_the_split(decided: Decide, recipe: Recipe) -> None:
    recipe = replace(recipe, curate=replace(recipe.curate, heldout_share=0.5))
    rng = random.Random(5)
    items = []
    for number in range(60):
        words = [f"{rng.choice(WORDS)} {rng.choice(WORDS)} {rng.randint(0, 99)}" for _ in range(80)]
        kept = [*words[:76], *(f"another ending {rng.random()}" for _ in range(3))]
        for name, text in (("a", words), ("b", kept)):
            signature = Signature(kind="text", minhash=shingle_minhash(" ".join(text)), size=float(len(text)))
            items.append(summary(f"text-{number}-{name}", signature=signature))
        looks = [(float(second), rng.getrandbits(64)) for second in range(30)]
        for name, shown in (("a", looks), ("b", looks[8:20])):
            signature = Signature(kind="video", looks=pack_looks(shown), size=float(len(shown)))
            items.append(summary(f"film-{number}-{name}", signature=signature, modality="video"))
    verdict = decided(items, recipe)
    sides = []
    for number in range(60):
        texts = [fate(verdict, f"text-{number}-{name}") for name in "ab"]
        assert [one.used for one in texts].count(True) == 1
        dropped = next(one for one in texts if not one.used)
        assert dropped.dropped[0]["reason"] == "near_duplicate"
        films = [fate(verdict, f"film-{number}-{name}") for name in "ab"]
        assert all(one.used for one in films)  # an excerpt stays, on the side of its film
        for pair in (texts, films):
            assert len({one.source_row["split"] for one in pair}) == 1
            assert len({one.source_row["duplicate_cluster"] for one in pair}) == 1
            sides.append(pair[0].source_row["split"])
    assert 30 < sides.count("heldout") < 90


def test_many_copies_cost_no_more_than_as_many_others(decided: Decide, recipe: Recipe) -> None:
    sketch = shingle_minhash(" ".join(f"{word} {number}" for number, word in enumerate(WORDS * 5)))
    items = [summary(f"{n:04d}", signature=Signature(kind="text", minhash=sketch)) for n in range(1_000)]
    verdict = decided(items, recipe)
    assert verdict.verdict.counts["used"] == 1
    assert verdict.verdict.counts["filtered"] == 999
    kept = next(one for one in verdict.fates.values() if one.used).source_row["source"]
    assert all(f"{kept} is kept" in one.dropped[0]["detail"] for one in verdict.fates.values() if not one.used)
