"""Frames, times, shots and clips of real videos, against an independent reading of their presentation times."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from manifests.curate_spec import VideoForm
from manifests.recipe import Recipe
from manifests.sample import messages_from_rows
from pipelines.clips import plan_clips, spans
from pipelines.decoding import Film, decode
from pipelines.extraction import Outcome
from pipelines.pictures import PictureStore


def presentation_times(path: Path) -> list[Fraction]:
    """Sorted packet times, from the container alone: no decoder, no code of ours."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times = sorted(packet.pts * packet.time_base for packet in container.demux(stream) if packet.pts is not None)
    return [time - times[0] for time in times]


def film_of(path: Path, recipe: Recipe, fps: float = 1.0) -> tuple[Film, PictureStore]:
    store = PictureStore()
    return decode(path, replace(recipe.visual, fps=fps), recipe.curate.stored_tokens_max, 90, store), store


@pytest.mark.parametrize(
    ("name", "fps"), [("bikes.mp4", 3.0), ("gnome-dual-monitors.webm", 2.0), ("carphone-pristine.mp4", 7.0)]
)
def test_the_frame_at_a_grid_point_is_the_last_one_presented(name: str, fps: float, examples: Path, recipe: Recipe) -> None:
    path = examples / "videos" / name
    film, _ = film_of(path, recipe, fps)
    times = presentation_times(path)
    for point, shown in enumerate(film.frames):
        expected = max(time for time in times if time <= Fraction(point) / Fraction(fps))
        assert shown.time_s == pytest.approx(float(expected), abs=1e-6)
    assert film.duration_s > float(times[-1])
    assert len(film.frames) == pytest.approx(film.duration_s * fps, abs=1)


def test_a_stored_frame_is_the_picture_of_that_time(examples: Path, recipe: Recipe) -> None:
    path = examples / "videos" / "bikes.mp4"
    film, store = film_of(path, recipe)
    with av.open(str(path)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    for point in (0, 4, 9):
        (item,) = store.pictures([film.frames[point].media_id])
        stored = Image.open(io.BytesIO(item.data))
        frame = Image.fromarray(pictures[point * 25]).resize(stored.size)
        difference = np.abs(np.asarray(stored, dtype=float) - np.asarray(frame, dtype=float)).mean()
        assert difference < 4
        assert item.height * item.width <= recipe.curate.stored_tokens_max * recipe.visual.unit**2


def test_a_still_screen_is_stored_once(examples: Path, recipe: Recipe) -> None:
    film, store = film_of(examples / "videos" / "gnome-dual-monitors.webm", recipe, fps=4.0)
    assert len(store) == len({shown.media_id for shown in film.frames}) < len(film.frames)
    assert film.quality["frozen_share"] > 0


def test_shots_of_edited_film_are_the_scenes_a_person_marked(examples: Path, recipe: Recipe) -> None:
    film, _ = film_of(examples / "videos" / "bikes.mp4", recipe)
    captions = json.loads((examples / "videos" / "bikes.captions.json").read_text())
    marked = [scene["start"] for scene in captions["scenes"][1:]]
    found = [any(abs(cut - start) < 0.1 for cut in film.cuts) for start in marked]
    assert sum(found) >= len(marked) - 1


def synthetic(rotation: int = 0, frames: int = 10, rate: int = 10) -> bytes:
    """A film of a red left half and a blue right half, for what no example file has: display rotation."""
    stream = io.BytesIO()
    with av.open(stream, "w", format="mp4") as container:
        video = container.add_stream("mpeg4", rate=rate)
        video.width, video.height, video.pix_fmt = 128, 64, "yuv420p"
        if rotation:
            video.set_display_rotation(rotation)
        pixels = np.zeros((64, 128, 3), np.uint8)
        pixels[:, :64, 0] = pixels[:, 64:, 2] = 255
        for _ in range(frames):
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(video.encode())
    return stream.getvalue()


def test_a_turned_film_is_stored_upright(tmp_path: Path, recipe: Recipe) -> None:
    (tmp_path / "a.mp4").write_bytes(synthetic(rotation=90))
    film, store = film_of(tmp_path / "a.mp4", recipe)
    assert (film.width, film.height) == (64, 128)
    (item,) = store.pictures([film.frames[0].media_id])
    picture = np.asarray(Image.open(io.BytesIO(item.data)), dtype=int)
    # Turned counter-clockwise by 90 degrees, the right half comes to lie on top.
    assert picture[16, 32, 2] > 200 > picture[16, 32, 0]
    assert picture[112, 32, 0] > 200 > picture[112, 32, 2]


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9])
def test_a_truncated_film_is_quarantined_wherever_its_index_is(
    kept: float, examples: Path, read: Callable[..., Outcome]
) -> None:
    for name in ("bikes.mp4", "gnome-dual-monitors.webm", "carphone-pristine.mp4"):
        data = (examples / "videos" / name).read_bytes()
        outcome = read(name, data[: int(len(data) * kept)])
        assert outcome.status == "quarantined", (name, kept)
        assert outcome.quarantine is not None
        assert outcome.quarantine["stage"] == "decode"
        assert not outcome.samples


def test_clips_cover_a_film_in_every_form() -> None:
    segment = VideoForm(name="segment", max_s=15.0, visual_budget=1000)
    whole = VideoForm(name="whole", max_s=100.0, visual_budget=1000)
    assert spans(segment, 40.0, []) == [(0.0, 15.0), (15.0, 30.0), (30.0, 40.0)]
    assert spans(segment, 30.4, []) == [(0.0, 15.0), (15.0, 30.0)]
    assert spans(segment, 0.4, []) == [(0.0, 0.4)]
    assert spans(whole, 180.0, [20.0, 80.0, 95.0, 101.0]) == [(0.0, 95.0), (95.0, 180.0)]


def test_a_form_that_shows_nothing_new_is_left_out(recipe: Recipe) -> None:
    forms = (
        VideoForm(name="segment", max_s=15.0, visual_budget=100_000),
        VideoForm(name="window", max_s=900.0, visual_budget=200_000),
    )
    clips = plan_clips(forms, 10.0, [], 64, 64, recipe.visual)
    assert [clip.form for clip in clips] == ["segment"]


def test_samples_of_a_captioned_film(examples: Path, read: Callable[..., Outcome], recipe: Recipe) -> None:
    captions = (examples / "videos" / "world.captions.json").read_bytes()
    outcome = read("world.mp4", examples / "videos" / "world.mp4", {".captions.json": captions})
    assert {sample["task"] for sample in outcome.samples} >= {"video.caption", "video.interleaved"}
    for sample in outcome.samples:
        for message in messages_from_rows(sample["messages"]):
            for part in message.parts:
                labels = [visual.label_s for visual in part.visuals]
                assert labels == sorted(labels)
                assert all(0 <= label <= sample["duration_s"] for label in labels)
    names = {row["media_id"] for row in outcome.lineage if row["media_id"]}
    assert names <= set(outcome.media_ids)
    assert outcome.annotation is not None
    truth = json.loads(outcome.annotation[1])
    assert [point for point, _ in truth["frames"]] == list(range(len(truth["frames"])))
    assert truth["overview"] == json.loads(captions)["overview"]
    assert truth["shots"][0][0] == 0.0
    assert truth["shots"][-1][1] == pytest.approx(truth["duration_s"], abs=1e-3)


def test_grounding_answers_are_seconds_of_the_clip(examples: Path, read: Callable[..., Outcome]) -> None:
    captions = (examples / "videos" / "bunny-trailer.captions.json").read_bytes()
    outcome = read("bunny-trailer.mp4", examples / "videos" / "bunny-trailer.mp4", {".captions.json": captions})
    scenes = {scene["text"]: scene for scene in json.loads(captions)["scenes"]}
    asked = [sample for sample in outcome.samples if sample["task"] == "video.grounding"]
    assert asked
    for sample in asked:
        (shown, question), (answer,) = (message["parts"] for message in sample["messages"])
        scene = scenes[question["text"].split("? ", 1)[1].split("\n")[0]]
        zero = shown["origin"]["start_s"]
        assert json.loads(answer["text"]) == [[round(scene["start"] - zero, 1), round(scene["end"] - zero, 1)]]


def test_captions_must_fit_the_film(examples: Path, read: Callable[..., Outcome]) -> None:
    film = examples / "videos" / "carphone-pristine.mp4"
    for scenes, reason in (
        ([{"start": 0, "end": 60, "text": "x"}], "captions_outside"),
        ([{"start": 2, "end": 1, "text": "x"}], "captions_outside"),
        ([{"start": 0, "end": 1}], "bad_sidecar"),
        ([{"start": float("nan"), "end": 1, "text": "x"}], "bad_sidecar"),
        ("no list", "bad_sidecar"),
    ):
        outcome = read("a.mp4", film, {".captions.json": json.dumps({"overview": "o", "scenes": scenes}).encode()})
        assert outcome.quarantine is not None, scenes
        assert (outcome.quarantine["stage"], outcome.quarantine["reason"]) == ("check", reason)


def test_without_captions_only_what_can_be_seen_is_asked(examples: Path, read: Callable[..., Outcome]) -> None:
    edited = read("a.mp4", examples / "videos" / "bikes.mp4")
    assert {sample["task"] for sample in edited.samples} == {"video.shots", "video.matching"}
    still = read("a.mp4", examples / "videos" / "carphone-pristine.mp4")
    assert still.status == "filtered"
    assert still.dropped[0]["reason"] == "no_caption"
