"""What is decoded and what is not: the frames on the grid must be the same, their times true, and damage must be found."""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest
from made_films import ffprobe_times, joined, pictures, write_film
from PIL import Image

from manifests.fingerprint import ID_DIGITS, sha256_bytes
from manifests.recipe import Recipe
from pipelines.decoding import Film, decode
from pipelines.items import Quarantined
from pipelines.pictures import PictureStore, encode_jpeg

KEYFRAMES = {"g": "25", "bf": "2"}


def film_of(path: Path, recipe: Recipe, fps: float, every_frame_max_s: float = math.inf) -> Film:
    return decode(path, replace(recipe.visual, fps=fps), 64, 90, PictureStore(), every_frame_max_s)


@pytest.fixture(scope="session")
def long_film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty seconds of four films, a keyframe every second or sooner, with frames that no other refers to."""
    return write_film(tmp_path_factory.mktemp("films") / "joined.mp4", joined(), options=KEYFRAMES)


def assert_true_times(film: Film, truth: list[float], fps: float) -> None:
    for point, shown in enumerate(film.frames):
        assert shown.time_s == pytest.approx(truth[bisect_right(truth, point / fps + 1e-9) - 1], abs=1e-6), point


@pytest.mark.parametrize(("fps", "way"), [(2.0, "references"), (0.2, "keyframes")])
def test_what_is_left_out_changes_no_frame_on_the_grid(fps: float, way: str, long_film: Path, recipe: Recipe) -> None:
    every, sparse = film_of(long_film, recipe, fps), film_of(long_film, recipe, fps, every_frame_max_s=10.0)
    assert (every.probe.decoded, sparse.probe.decoded) == ("every", way)
    assert sparse.frames == every.frames
    assert (sparse.duration_s, sparse.looks) == (every.duration_s, every.looks)
    assert_true_times(sparse, ffprobe_times(long_film), fps)


def test_shots_are_found_without_decoding_every_frame(long_film: Path, recipe: Recipe) -> None:
    every, sparse = film_of(long_film, recipe, 2.0), film_of(long_film, recipe, 2.0, every_frame_max_s=10.0)
    assert every.cut_error_s == 0 < sparse.cut_error_s < 0.2
    # Where the last film begins; the others begin in the dark, which is no cut.
    assert any(abs(cut - 30.0) < 1e-6 for cut in every.cuts)
    assert any(0 <= cut - 30.0 <= sparse.cut_error_s for cut in sparse.cuts)
    near = [any(abs(cut - other) <= 0.2 for other in every.cuts) for cut in sparse.cuts]
    assert len(near) == len(every.cuts)
    assert sum(near) >= len(near) - 1


def test_frames_before_an_open_keyframe_have_what_they_refer_to(tmp_path: Path, recipe: Recipe) -> None:
    options = {"bf": "3", "x264-params": "open-gop=1:keyint=50:min-keyint=50:scenecut=0:b-adapt=0"}
    path = write_film(tmp_path / "open.mkv", joined(), options=options)
    # Grid points 0.04 s before every second keyframe: just where the frames stand that lead it.
    fps = 1 / 3.98
    every, sparse = film_of(path, recipe, fps), film_of(path, recipe, fps, every_frame_max_s=10.0)
    assert sparse.probe.decoded != "every"
    assert sparse.frames == every.frames


def test_a_variable_rate_is_noticed_and_its_times_are_true(tmp_path: Path, recipe: Recipe) -> None:
    steps = [0.04, 0.04, 0.3, 0.011, 0.7, 0.04, 1.9]
    times = [0.0]
    for number in range(99):
        times.append(times[-1] + steps[number % len(steps)])
    path = write_film(tmp_path / "variable.mkv", pictures("bikes.mp4", 4.0), times)
    film = film_of(path, recipe, 7.0)
    assert film.probe.variable_rate
    assert not film_of(write_film(tmp_path / "even.mkv", pictures("bikes.mp4", 4.0)), recipe, 7.0).probe.variable_rate
    assert_true_times(film, ffprobe_times(path), 7.0)
    assert film_of(path, recipe, 7.0, every_frame_max_s=10.0).frames == film.frames


def test_a_later_start_moves_nothing(tmp_path: Path, recipe: Recipe) -> None:
    shown = pictures("bikes.mp4", 4.0)
    path = write_film(tmp_path / "late.mkv", shown, [2.5 + n / 25 for n in range(len(shown))], sound_until_s=6.0)
    film = film_of(path, recipe, 5.0)
    assert film.probe.start_s == pytest.approx(2.5, abs=0.05)
    assert film.frames[0].time_s == 0.0
    assert_true_times(film, ffprobe_times(path), 5.0)
    (sound,) = film.probe.audio
    assert sound["codec"] == "aac"
    assert sound["start_s"] == pytest.approx(-2.5, abs=0.1)
    assert film.audio


def test_frames_stored_out_of_order_without_presentation_times_are_put_in_order(tmp_path: Path, recipe: Recipe) -> None:
    shown, tick = pictures("bikes.mp4", 4.0), Fraction(1, 25)
    path = write_film(tmp_path / "a.avi", shown, options={"bf": "2"}, tick=tick)
    film = film_of(path, recipe, 25.0)
    assert film.probe.times.backward > 0
    with av.open(str(path)) as container:
        straight = [Image.fromarray(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    named = [sha256_bytes(encode_jpeg(picture, 90))[:ID_DIGITS] for picture in straight]
    assert [one.media_id for one in film.frames] == named
    assert [one.time_s for one in film.frames] == pytest.approx([n / 25 for n in range(100)], abs=1e-6)


def test_repeated_times_are_counted_and_cost_their_frames_alone(tmp_path: Path, recipe: Recipe) -> None:
    # Matroska counts milliseconds: of two frames half a millisecond apart the second gets no time of its own.
    times = [second / 25 + extra for second in range(50) for extra in (0.0, 0.0002)]
    path = write_film(tmp_path / "twice.mkv", joined(1.0), times, codec="mpeg4", options={"bf": "0"})
    film = film_of(path, recipe, 5.0, every_frame_max_s=0.5)
    assert film.probe.times.repeated == 50
    assert film.probe.decoded == "every"
    assert_true_times(film, ffprobe_times(path), 5.0)


def refused(path: Path, recipe: Recipe, every_frame_max_s: float = math.inf) -> tuple[str, str]:
    with pytest.raises(Quarantined) as caught:
        film_of(path, recipe, 2.0, every_frame_max_s)
    return caught.value.reason, caught.value.detail


def test_a_clock_that_jumps_back_is_quarantined(tmp_path: Path, recipe: Recipe) -> None:
    shown, tick = pictures("bikes.mp4", 4.0), Fraction(1, 25)
    part = write_film(tmp_path / "part.mpg", shown, codec="mpeg2video", form="mpeg", tick=tick).read_bytes()
    (tmp_path / "twice.mpg").write_bytes(part + part)
    reason, detail = refused(tmp_path / "twice.mpg", recipe)
    assert (reason, "jump back by 3.960 s" in detail) == ("broken_timestamps", True)


def test_an_absurd_duration_is_refused_before_anything_is_decoded(tmp_path: Path, recipe: Recipe) -> None:
    path = write_film(tmp_path / "a.mkv", pictures("bikes.mp4", 1.0), [*(n / 25 for n in range(24)), 90_000.0])
    reason, detail = refused(path, recipe)
    assert (reason, "90,000 s" in detail) == ("absurd_duration", True)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "sound.mkv"])
def test_a_cut_file_is_found_though_little_of_it_is_decoded(name: str, tmp_path: Path, recipe: Recipe) -> None:
    sound = 40.0 if name == "sound.mkv" else 0.0
    path = write_film(tmp_path / name, joined(), options=KEYFRAMES, sound_until_s=sound)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.8)])
    reason, _ = refused(path, recipe, every_frame_max_s=10.0)
    assert reason in ("truncated", "undecodable")


def test_the_probe_names_what_the_container_holds(tmp_path: Path, recipe: Recipe) -> None:
    path = write_film(tmp_path / "a.mp4", pictures("bikes.mp4", 2.0), options=KEYFRAMES, rotation=90, sound_until_s=2.0)
    probe = film_of(path, recipe, 2.0).probe
    assert "mp4" in probe.container
    assert (probe.codec, probe.width, probe.height, probe.rotation) == ("h264", 192, 108, 90)
    assert (probe.packets, probe.rate, probe.pixel_aspect) == (50, 25.0, "1:1")
    assert probe.keyframes >= 2
    assert probe.declared_s == pytest.approx(2.0, abs=0.05)
    with av.open(str(path)) as container:
        assert len(container.streams) == 1 + len(probe.audio)


def test_a_film_comes_back_from_json(tmp_path: Path, recipe: Recipe) -> None:
    film = film_of(write_film(tmp_path / "a.mkv", pictures("bikes.mp4", 4.0), sound_until_s=4.0), recipe, 2.0)
    assert Film.from_json(json.loads(json.dumps(film.to_json()))) == film
