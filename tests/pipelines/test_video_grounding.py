"""The four forms of asking a video when: every answer is in seconds of the clip, true of the source, and the only one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_films import joined, write_film

from manifests.recipe import Recipe
from pipelines.captions import Captions, Scene
from pipelines.clips import Clip, plan_clips
from pipelines.decoding import Film, decode
from pipelines.extraction import Outcome
from pipelines.grounding import MATCHED_FRAMES, UNLIKE_BITS, repeated_event, seen, unlike_shot
from pipelines.pictures import PictureStore


def asked(outcome: Outcome, task: str) -> list[dict[str, Any]]:
    return [sample for sample in outcome.samples if sample["task"] == task]


def clips_of(sample: dict[str, Any]) -> list[dict[str, Any]]:
    return [part for part in sample["messages"][0]["parts"] if part["kind"] == "video"]


def in_source(sample: dict[str, Any]) -> list[tuple[float, float]]:
    """The answer's intervals in seconds of the source: of the last clip shown."""
    zero = clips_of(sample)[-1]["origin"]["start_s"]
    answer = json.loads(sample["messages"][1]["parts"][0]["text"])
    return [(round(start + zero, 1), round(end + zero, 1)) for start, end in answer]


def test_highlights_and_summary_come_from_the_sidecar(examples: Path, read: Callable[..., Outcome]) -> None:
    sidecar = json.loads((examples / "videos" / "bunny-trailer.captions.json").read_text())
    sidecar["highlights"] = [{"start": 37.5, "end": 41.0}, {"start": 10.0, "end": 14.0}]
    sidecar["summary"] = [{"start": 0.0, "end": 4.0}, {"start": 24.7, "end": 30.0}, {"start": 47.0, "end": 52.0}]
    film = examples / "videos" / "bunny-trailer.mp4"
    outcome = read("bunny-trailer.mp4", film, {".captions.json": json.dumps(sidecar).encode()})
    bright = [(10.0, 14.0), (37.5, 41.0)]
    highlights = asked(outcome, "video.highlights")
    assert {interval for sample in highlights for interval in in_source(sample)} <= set(bright)
    assert any(in_source(sample) == bright for sample in highlights)
    for sample in highlights:
        (clip,) = clips_of(sample)
        assert all(clip["origin"]["start_s"] <= start < end <= clip["origin"]["end_s"] for start, end in in_source(sample))
    summaries = asked(outcome, "video.summary")
    assert summaries
    for sample in summaries:
        assert in_source(sample) == [(0.0, 4.0), (24.7, 30.0), (47.0, 52.0)]
        assert sample["duration_s"] == pytest.approx(55.125, abs=0.01)
    assert outcome.annotation is not None
    truth = json.loads(outcome.annotation[1])
    assert truth["highlights"] == [[10.0, 14.0], [37.5, 41.0]]
    assert len(truth["summary"]) == 3


def test_intervals_that_do_not_fit_are_refused(examples: Path, read: Callable[..., Outcome]) -> None:
    film = examples / "videos" / "carphone-pristine.mp4"
    for field, value, reason in (
        ("highlights", [{"start": 0, "end": 60}], "captions_outside"),
        ("highlights", [{"start": 0}], "bad_sidecar"),
        ("summary", {"start": 0, "end": 1}, "bad_sidecar"),
        ("summary", [{"start": 0, "end": 2}, {"start": 1, "end": 3}], "bad_sidecar"),
        ("scenes", [{"start": 0, "end": 1, "text": "x", "event": 7}], "bad_sidecar"),
    ):
        outcome = read("a.mp4", film, {".captions.json": json.dumps({"overview": "o", field: value}).encode()})
        assert outcome.quarantine is not None, (field, value)
        assert outcome.quarantine["reason"] == reason
        assert outcome.quarantine["detail"].startswith("a.captions.json: ")


def test_a_shot_is_found_again_in_the_clip_it_was_cut_from(tmp_path: Path, read: Callable[..., Outcome]) -> None:
    path = write_film(tmp_path / "joined.mp4", joined())
    outcome = read("joined.mp4", path)
    matched = asked(outcome, "video.matching")
    assert matched
    assert outcome.annotation is not None
    shots = [tuple(shot) for shot in json.loads(outcome.annotation[1])["shots"]]
    for sample in matched:
        query, clip = clips_of(sample)
        assert len(query["visuals"]) <= MATCHED_FRAMES
        assert query["visuals"][0]["label_s"] < 1.0
        (answer,) = in_source(sample)
        assert answer == (round(query["origin"]["start_s"], 1), round(query["origin"]["end_s"], 1))
        assert any(abs(start - answer[0]) < 0.1 and abs(end - answer[1]) < 0.1 for start, end in shots)
        inside = [v for v in clip["visuals"] if answer[0] <= v["time_s"] < answer[1]]
        assert len(inside) >= 2


def test_a_shot_that_is_shown_twice_is_not_asked_for(tmp_path: Path, recipe: Recipe) -> None:
    shown = joined(10.0)[:250]

    def film_of(name: str, pictures: list) -> tuple[Film, Clip]:
        film = decode(write_film(tmp_path / name, pictures), recipe.visual, 256, 90, PictureStore())
        forms = recipe.curate.video_forms
        return film, plan_clips(forms, film.duration_s, film.cuts, film.height, film.width, recipe.visual)[-1]

    film, clip = film_of("once.mp4", shown)
    assert clip.duration_s == pytest.approx(10.0)
    found = unlike_shot(clip, film, recipe.visual, "a")
    assert found in film.shots
    inside = [value for time, value in film.looks if found[0] <= time < found[1]]
    outside = [value for time, value in film.looks if not found[0] <= time < found[1]]
    assert min((one ^ other).bit_count() for one in inside for other in outside) > UNLIKE_BITS
    film.looks = [(0.0, inside[0]), *film.looks] if found[0] > 0 else [*film.looks, (9.5, inside[0])]
    assert unlike_shot(clip, film, recipe.visual, "a") != found


def test_an_event_is_asked_for_where_it_happens_again_whole() -> None:
    def scene(start: float, end: float, event: str) -> Scene:
        return Scene(start=start, end=end, text=f"{event} at {start}", event=event)

    captions = Captions(scenes=(scene(1, 3, "goal"), scene(20, 23, "goal"), scene(26, 28, "goal"), scene(5, 7, "foul")))

    def clip(start: float, end: float) -> Clip:
        return Clip(form="segment", start_s=start, end_s=end, plan=None)  # type: ignore[arg-type]

    assert repeated_event(clip(15.0, 30.0), captions, "a") == ((1, 3), [(20, 23), (26, 28)])
    assert repeated_event(clip(15.0, 27.0), captions, "a") is None
    assert repeated_event(clip(0.0, 30.0), captions, "a") is None
    assert repeated_event(clip(4.0, 10.0), captions, "a") is None
    assert seen([(0.0, 4.0), (9.0, 12.0), (20.0, 30.0)], clip(2.0, 10.0)) == [(2.0, 4.0)]
