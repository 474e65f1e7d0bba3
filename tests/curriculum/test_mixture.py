"""The mixture gives each ingredient its share, repeats up to the limit, and reports what is missing instead of filling it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from counted_corpus import Counted, write_corpus

from curriculum.candidates import Candidates, read_candidates
from curriculum.mixture import Selection, ingredient_of, select
from curriculum.recipes import laptop
from manifests.errors import CorruptCorpusError
from manifests.fingerprint import value_id
from manifests.stage_spec import MixtureSpec, StageSpec


def candidates(folder: Path, samples: list[Counted], files: int = 1) -> Candidates:
    return read_candidates(write_corpus(folder / "corpus", samples, files=files))


def stage(number: int = 1, **changes: Any) -> StageSpec:
    mixture = tuple(MixtureSpec(task=task, weight=weight) for task, weight in changes.pop("mixture", {"*": 1.0}).items())
    return dataclasses.replace(laptop().stages[number], mixture=mixture, long_share=changes.pop("long_share", None), **changes)


def many(task: str, count: int, total: int, **fields: Any) -> list[Counted]:
    return [Counted(task=task, total=total, name=str(index), **fields) for index in range(count)]


def placed(selection: Selection) -> dict[str, int]:
    return {entry["task"]: entry["placed"] for entry in selection.report["ingredients"]}


def test_the_longest_prefix_of_whole_names_wins() -> None:
    tasks = ["video.caption", "video", "videos.other", "reason.gui.count", "reason.video", "stem"]
    found = ingredient_of(tasks, ["video", "video.caption", "reason", "reason.gui", "*"])
    assert found.tolist() == [1, 0, 4, 3, 2, 4]
    assert ingredient_of(tasks, ["video"]).tolist() == [0, 0, -1, -1, -1, -1]


def test_shares_are_shares_of_tokens(tmp_path: Path) -> None:
    samples = many("text.a", 400, 100) + many("code.b", 40, 1000)
    chosen = select(candidates(tmp_path, samples), stage(tokens=20_000, mixture={"text": 1.0, "code": 3.0}, epochs_max=1))
    assert placed(chosen) == {"text": 5_000, "code": 15_000}
    assert [entry["wanted"] for entry in chosen.report["ingredients"]] == [5_000, 15_000]


def test_scarce_ingredients_repeat_and_then_fall_short(tmp_path: Path) -> None:
    samples = many("text.a", 400, 100) + many("code.b", 2, 1000)
    chosen = select(candidates(tmp_path, samples), stage(tokens=20_000, mixture={"text": 1.0, "code": 1.0}, epochs_max=2.5))
    assert placed(chosen) == {"text": 10_000, "code": 5_000}
    code = chosen.report["ingredients"][1]
    assert (code["wanted"], code["available"], code["samples"], code["epochs"]) == (10_000, 2_000, 2, 2.5)
    assert len(chosen.rounds) == 3
    assert all(len(set(rows.tolist())) == len(rows) for rows in chosen.rounds)
    times = Counter(np.concatenate(chosen.rounds).tolist())
    assert sorted(Counter(times.values()).items()) == [(1, 100), (2, 1), (3, 1)]


def test_every_round_has_the_same_mixture_but_for_chance(tmp_path: Path) -> None:
    samples = many("text.a", 2_000, 100) + many("code.b", 50, 400)
    data = candidates(tmp_path, samples)
    chosen = select(data, stage(tokens=240_000, mixture={"text": 2.0, "code": 1.0}, epochs_max=4))
    assert placed(chosen) == {"text": 160_000, "code": 80_000}
    assert len(chosen.rounds) == 4
    for rows in chosen.rounds:
        code = data.task[rows] == data.tasks.index("code.b")
        assert int(code.sum()) == 50
        assert 300 < len(rows) - 50 < 500


def test_an_ingredient_that_matches_nothing_is_a_shortfall(tmp_path: Path) -> None:
    chosen = select(candidates(tmp_path, many("text.a", 9, 100)), stage(tokens=1_000, mixture={"text": 1.0, "gui": 1.0}))
    assert placed(chosen) == {"text": 500, "gui": 0}
    assert chosen.report["ingredients"][1]["wanted"] == 500


def test_what_does_not_fit_is_left_out_and_counted(tmp_path: Path) -> None:
    samples = [
        *many("text.a", 3, 100),
        *many("text.b", 2, 1025),
        *many("video.c", 4, 900, visual=769, duration_bucket="15s"),
        *many("video.d", 5, 900, visual=700, duration_bucket="15min"),
        *many("video.e", 6, 900, visual=700, duration_bucket="15s"),
        *many("audio.f", 7, 100),
    ]
    chosen = select(candidates(tmp_path, samples), stage(1, mixture={"text": 1.0, "video": 1.0}, epochs_max=1))
    assert chosen.report["left_out"] == {
        "task not in the mixture": 7,
        "longer than the context": 2,
        "more visual tokens than the budget": 4,
        "clip longer than 15s": 5,
    }
    assert placed(chosen) == {"text": 300, "video": 5_400}


@pytest.mark.parametrize(("number", "admitted"), [(1, ["15s"]), (2, ["15s", "15min"]), (3, ["15s", "15min", "2h"])])
def test_a_stage_takes_clips_up_to_its_own_length_its_own_first(tmp_path: Path, number: int, admitted: list[str]) -> None:
    buckets = ["15s", "15min", "2h"]
    data = candidates(tmp_path, [sample for b in buckets for sample in many("video.x", 10, 500, visual=1, duration_bucket=b)])
    everything = select(data, stage(number, tokens=10**6, epochs_max=1)).rounds[0]
    assert {buckets[code] for code in data.duration[everything]} == set(admitted)
    scarce = select(data, stage(number, tokens=2_000)).rounds[0]
    assert [buckets[code] for code in data.duration[scarce]] == [admitted[-1]] * 4


def test_long_and_short_are_parted_and_the_missing_long_is_reported(tmp_path: Path) -> None:
    samples = many("document.a", 20, 5_000) + many("document.b", 100, 500) + many("text.c", 400, 100)
    mixture = {"document": 1.0, "text": 1.0}
    data = candidates(tmp_path, samples)
    even = select(data, stage(3, tokens=80_000, long_share=0.5, mixture=mixture, epochs_max=1))
    assert even.report["long"] == {"above": 4096, "wanted": 40_000, "placed": 40_000}
    assert placed(even) == {"document": 40_000, "text": 40_000}
    short = select(data, stage(3, tokens=80_000, long_share=0.8, mixture=mixture, epochs_max=1))
    assert short.report["long"] == {"above": 4096, "wanted": 64_000, "placed": 40_000}
    assert placed(short) == {"document": 40_000, "text": 40_000}
    few = select(data, stage(3, tokens=300_000, long_share=0.5, mixture=mixture, epochs_max=1))
    assert few.report["long"] == {"above": 4096, "wanted": 150_000, "placed": 100_000}
    assert placed(few) == {"document": 150_000, "text": 40_000}


def test_the_token_budget_is_never_passed_and_nearly_used(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    samples = [Counted(task="text.a", total=int(n), name=str(i)) for i, n in enumerate(random.integers(20, 1000, 300))]
    data = candidates(tmp_path, samples)
    for tokens in (50, 5_000, 77_777):
        total = sum(int(data.total[rows].sum()) for rows in select(data, stage(tokens=tokens)).rounds)
        assert tokens - 40 <= total <= tokens


def test_heldout_comes_once_and_never_in_training(tmp_path: Path) -> None:
    samples = many("text.a", 10, 100) + many("text.a", 5, 90, split="heldout") + many("audio.b", 5, 90, split="heldout")
    data = candidates(tmp_path, samples)
    chosen = select(data, stage(tokens=10**6, mixture={"text": 1.0}, epochs_max=3))
    assert len(chosen.heldout) == 5
    assert data.heldout[chosen.heldout].all()
    assert not any(data.heldout[rows].any() for rows in chosen.rounds)


def test_choice_depends_on_seed_and_ids_not_on_files(tmp_path: Path) -> None:
    samples = many("text.a", 200, 100)
    one = candidates(tmp_path / "1", samples)
    other = candidates(tmp_path / "2", samples[::-1], files=7)
    spec = stage(tokens=5_000)
    first, second = select(one, spec), select(other, spec)
    assert one.ids(first.rounds[0]).to_pylist() == other.ids(second.rounds[0]).to_pylist()
    reseeded = select(one, dataclasses.replace(spec, seed=18))
    assert set(reseeded.rounds[0].tolist()) != set(first.rounds[0].tolist())


def test_keys_are_even(tmp_path: Path) -> None:
    data = candidates(tmp_path, many("text.a", 2_000, 100))
    keys = data.keys(np.arange(2_000), 17, 0).astype(np.float64) / 2**64
    assert np.abs(np.histogram(keys, 10, (0, 1))[0] - 200).max() < 70
    again = data.keys(np.arange(2_000), 17, 1).astype(np.float64) / 2**64
    assert abs(np.corrcoef(keys, again)[0, 1]) < 0.1


def test_a_sample_that_stands_twice_is_refused(tmp_path: Path) -> None:
    sample = Counted(task="text.a", total=10)
    with pytest.raises(CorruptCorpusError, match=rf"sample {sample.sample_id} stands in the samples table twice"):
        candidates(tmp_path, [sample, sample])


def test_temperature_follows_what_there_is(tmp_path: Path) -> None:
    samples = many("text.a", 900, 100) + many("code.b", 100, 100)
    data = candidates(tmp_path, samples)
    mixture = {"text": 1.0, "code": 1.0}
    for temperature, text in ((1.0, 0.9), (2.0, 0.75), (1e9, 0.5)):
        chosen = select(data, stage(tokens=10_000, mixture=mixture, temperature=temperature, epochs_max=1))
        assert chosen.report["ingredients"][0]["wanted"] == pytest.approx(10_000 * text, abs=1)


def test_text_and_long_shares_hold_together(tmp_path: Path) -> None:
    samples = [
        *many("document.a", 40, 5_000, visual=3_000), *many("document.b", 400, 500, visual=300),
        *many("text.a", 40, 5_000), *many("text.b", 400, 500),
    ]  # fmt: skip
    data = candidates(tmp_path, samples)
    mixture = {"document": 1.0, "text": 1.0}
    chosen = select(data, stage(3, tokens=200_000, long_share=0.5, text_share=0.4, mixture=mixture, epochs_max=1))
    report = chosen.report
    assert report["long"] == {"above": 4096, "wanted": 100_000, "placed": 100_000}
    assert report["text"]["wanted"] == 80_000
    # Half of the tokens are to be of `text`, which has nothing but text: the ingredients' own shares come first.
    assert report["text"]["placed"] == 100_000
    mixture = {"document": 3.0, "text": 1.0}
    more = select(data, stage(3, tokens=160_000, text_share=0.4, mixture=mixture, epochs_max=1)).report
    assert more["text"]["placed"] == 40_000, "documents have no text-only samples: the miss is reported, not filled"
    assert [entry["placed"] for entry in more["ingredients"]] == [120_000, 40_000]


def test_text_only_samples_make_up_their_share(tmp_path: Path) -> None:
    samples = [*many("document.a", 400, 500, visual=300), *many("document.b", 400, 500)]
    data = candidates(tmp_path, samples)
    for share in (0.0, 0.25, 0.4, 1.0):
        chosen = select(data, stage(3, tokens=100_000, text_share=share, mixture={"document": 1.0}, epochs_max=1))
        text = data.visual[chosen.rounds[0]] == 0
        assert data.total[chosen.rounds[0]][text].sum() == pytest.approx(100_000 * share, abs=500)
        assert placed(chosen) == {"document": 100_000}


def test_no_source_gives_more_than_its_cap(tmp_path: Path) -> None:
    samples = many("text.a", 300, 100, source=value_id("one")) + [
        Counted(task="text.b", total=100, name=str(index), source=value_id(index)) for index in range(1, 101)
    ]
    data = candidates(tmp_path, samples)
    chosen = select(data, stage(tokens=10_000, mixture={"text": 1.0}, source_share_max=0.1, epochs_max=2))
    rows = np.concatenate(chosen.rounds)
    by_source = np.bincount(data.source[rows], weights=data.total[rows])
    assert by_source.max() <= 1_000
    assert placed(chosen) == {"text": 10_000}
    assert chosen.report["over_source_cap"] > 0
    free = select(data, stage(tokens=10_000, mixture={"text": 1.0}, epochs_max=2))
    assert np.bincount(data.source[free.rounds[0]], weights=data.total[free.rounds[0]]).max() > 5_000
    scarce = select(data, stage(tokens=30_000, mixture={"text": 1.0}, source_share_max=0.01, epochs_max=5))
    rows = np.concatenate(scarce.rounds)
    assert np.bincount(data.source[rows], weights=data.total[rows]).max() <= 300
    assert placed(scarce) == {"text": 30_000}


def test_what_is_kept_counts_first(tmp_path: Path) -> None:
    data = candidates(tmp_path, many("text.a", 200, 100) + many("code.b", 200, 100))
    spec = stage(tokens=20_000, mixture={"text": 1.0, "code": 1.0}, epochs_max=1)
    kept = np.flatnonzero(data.task == data.tasks.index("text.a"))[:70]
    chosen = select(data, spec, kept)
    assert placed(chosen) == {"text": 10_000, "code": 10_000}
    (rows,) = chosen.rounds
    assert len(rows) == 130
    assert not np.isin(rows, kept).any()
