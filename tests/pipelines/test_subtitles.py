"""Subtitles beside and inside a video: lines on the clock of its pictures, in the segments they belong to."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from made_films import FFMPEG, pictures, write_film

from manifests.recipe import Recipe
from pipelines.extraction import Outcome, extract
from pipelines.inputs import find_inputs
from pipelines.probe import survey
from pipelines.subtitles import Line, Track, transcript

SRT = """1
00:00:00,500 --> 00:00:02,000
<i>Hello</i> there,
second line

2
00:00:13,500 --> 00:00:17,500
{\\an8}Half here & half there

3
00:00:20,000 --> 00:00:19,000
an end before its start
"""
VTT = """WEBVTT

00:00.500 --> 00:02.000 align:start position:0%
<v Roger>Hello <c.yellow>there</c>,<00:01.000> second line

00:13.500 --> 00:17.500
Half here &amp; half there
"""
WORDS = ["Hello there, second line", "Half here & half there"]


def texts(sample: dict) -> list[str]:
    return [part["text"] for message in sample["messages"] for part in message["parts"] if part["kind"] == "text"]


@pytest.mark.parametrize(("role", "content"), [(".srt", SRT), (".vtt", VTT), (".en.srt", SRT), (".de.vtt", VTT)])
def test_lines_beside_a_video_follow_their_segments(
    role: str, content: str, examples: Path, read: Callable[..., Outcome], recipe: Recipe
) -> None:
    outcome = read("world.mp4", examples / "videos" / "world.mp4", {role: content.encode()})
    assert outcome.annotation is not None
    truth = json.loads(outcome.annotation[1])
    assert [line["text"] for line in truth["subtitles"]] == WORDS
    language = role.split(".")[1] if role.count(".") == 2 else None
    assert truth["subtitle_tracks"] == [{"where": f"world{role}", "language": language, "lines": 2}]
    told = [sample for sample in outcome.samples if sample["task"] == "video.subtitled"]
    spoken = [words for sample in told for words in texts(sample)]
    assert spoken[0] == "Subtitles:\n[0.5-2.0 s] Hello there, second line\n"
    # The middle of the second line stands in the second segment, whose labels go on from the first or begin anew.
    assert sum("Half here & half there" in words for words in spoken) == 1
    for sample in told:
        (message,) = sample["messages"]
        zero = message["parts"][0]["origin"]["start_s"]
        for clip, words in zip(message["parts"][::2], message["parts"][1::2], strict=True):
            start, end = clip["origin"]["start_s"], clip["origin"]["end_s"]
            assert (words["origin"]["start_s"], words["origin"]["end_s"]) == (start, end)
            for line in truth["subtitles"]:
                if start <= (line["start"] + line["end"]) / 2 < end:
                    assert f"[{line['start'] - zero:.1f}-{line['end'] - zero:.1f} s] {line['text']}" in words["text"]


def test_captions_are_asked_with_what_is_said(examples: Path, read: Callable[..., Outcome]) -> None:
    captions = (examples / "videos" / "world.captions.json").read_bytes()
    film = examples / "videos" / "world.mp4"
    outcome = read("world.mp4", film, {".captions.json": captions, ".srt": SRT.encode()})
    asked = {tuple(texts(sample)[-2:]) for sample in outcome.samples if sample["task"] == "video.caption"}
    with_words = [sample for sample in outcome.samples if sample["task"] == "video.subtitled_caption"]
    assert with_words
    for sample in with_words:
        said, question, answer = texts(sample)
        assert said.startswith("Subtitles:\n[")
        assert (question, answer) in asked
    assert "video.interleaved" in {sample["task"] for sample in outcome.samples}


def test_a_track_that_cannot_be_read_costs_the_track_alone(examples: Path, read: Callable[..., Outcome]) -> None:
    film = examples / "videos" / "bikes.mp4"
    for content in (SRT.encode().replace(b"Hello", b"Gr\xfc\xdfe"), b"\0\1\2" * 500, b""):
        outcome = read("bikes.mp4", film, {".srt": content})
        assert outcome.status == "used"
        (drop,) = outcome.dropped
        assert (drop["task"], drop["reason"]) == ("video.subtitled", "bad_subtitles")
        assert "bikes.srt" in drop["detail"]


def test_subtitles_alone_are_enough_to_learn_from(examples: Path, read: Callable[..., Outcome]) -> None:
    film = examples / "videos" / "carphone-pristine.mp4"
    outcome = read("a.mp4", film, {".srt": SRT.encode()})
    assert {sample["task"] for sample in outcome.samples} == {"video.subtitled"}


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "mov_text"), ("a.mkv", "subrip"), ("a.mkv", "ass")])
def test_lines_inside_a_video_count_from_its_first_picture(name: str, codec: str, tmp_path: Path) -> None:
    (tmp_path / "s.srt").write_text(SRT)
    shown = pictures("bikes.mp4", 4.0)
    # Sound begins at 0, pictures a quarter of a second later.
    times = [0.25 + number / 5 for number in range(len(shown))]
    film = write_film(tmp_path / "film.mkv", shown, times, sound_until_s=20.0)
    inputs = ["-i", film, "-i", tmp_path / "s.srt", "-map", "0", "-map", "1", "-c", "copy", "-c:s", codec]
    language = ["-metadata:s:s:0", "language=eng"]
    subprocess.run([FFMPEG, "-v", "error", *inputs, *language, tmp_path / name], check=True)
    found = survey(tmp_path / name)
    (track,) = found.tracks
    assert track.language == "eng"
    assert [line.text for line in track.lines] == WORDS
    moved = found.probe.start_s
    assert moved == pytest.approx(0.25, abs=0.07)
    assert [line.start for line in track.lines] == pytest.approx([0.5 - moved, 13.5 - moved], abs=0.07)
    assert [line.end for line in track.lines] == pytest.approx([2.0 - moved, 17.5 - moved], abs=0.07)
    (noted,) = found.probe.subtitles
    assert (noted["language"], noted["read"]) == ("eng", True)


def test_beside_and_inside_agree_about_a_late_first_picture(tmp_path: Path, recipe: Recipe) -> None:
    shown = pictures("bikes.mp4", 4.0)
    folder = tmp_path / "inputs"
    folder.mkdir()
    write_film(folder / "a.mkv", shown, [0.5 + number / 5 for number in range(len(shown))], sound_until_s=20.0)
    (folder / "a.srt").write_text(SRT)
    (item,) = find_inputs([folder]).items
    outcome = extract(item, recipe)
    assert isinstance(outcome, Outcome)
    assert outcome.annotation is not None
    truth = json.loads(outcome.annotation[1])
    # The first line begins with the first picture.
    assert truth["subtitles"][0]["start"] == pytest.approx(0.0, abs=0.01)
    assert truth["subtitles"][1]["start"] == pytest.approx(13.0, abs=0.01)


def test_an_orphan_and_a_language_without_its_video(tmp_path: Path) -> None:
    for name in ("a.en.srt", "b.vtt"):
        (tmp_path / name).write_text(SRT)
    problems = [item.problem.reason for item in find_inputs([tmp_path]).items if item.problem is not None]
    assert problems == ["orphan_sidecar", "orphan_sidecar"]


def test_every_line_belongs_to_one_of_two_neighbours() -> None:
    lines = [Line(start=start / 4, end=start / 4 + 1.3, text=str(start)) for start in range(40)]
    track = Track.of("x", None, reversed(lines), 0.0)
    halves = track.within(0.0, 5.0) + track.within(5.0, 100.0)
    assert halves == lines
    assert transcript(lines[:2], 0.0) == "[0.0-1.3 s] 0\n[0.3-1.6 s] 1"
