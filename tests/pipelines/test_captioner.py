"""What a model is asked of pictures and videos, and what becomes of its answers, of the missing ones too."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.curate_spec import CaptionSpec
from manifests.recipe import Recipe
from pipelines.captioner import QUALITY, SCENE_MIN_S, frames_between, scene_spans
from pipelines.decoding import Film, Shown
from pipelines.extraction import Answered, Outcome, extract
from pipelines.inputs import find_inputs
from pipelines.items import Item
from pipelines.kept import KeptPictures
from pipelines.model_work import ROUNDS, Answer, Request, Waiting
from pipelines.waiting import read_pending, write_pending

Say = Callable[[Request], Answer]


def plainly(request: Request) -> Answer:
    kind = "overview" if "whole video" in request.prompt else "scene" if "one scene" in request.prompt else "picture"
    return Answer(kind="caption", value=f"The {kind} {request.request_id[:6]}.", usage={"prompt_tokens": 3})


def failing(request: Request) -> Answer:
    return Answer(kind="caption", error="HTTP 503: away; asked 6 times", again=True)


@pytest.fixture
def captioning(recipe: Recipe) -> Recipe:
    spec = CaptionSpec(endpoint="http://localhost:1/v1", model="seer", scene_max_s=4.0, frames_max=4)
    return replace(recipe, curate=replace(recipe.curate, captions=spec))


@pytest.fixture
def answered(tmp_path: Path) -> Callable[[Item, Recipe, Say], tuple[Outcome, list[Request]]]:
    """Reads an item as curation does, waiting on disk between the turns; returns its end and everything it asked."""

    def run(item: Item, recipe: Recipe, say: Say) -> tuple[Outcome, list[Request]]:
        asked: list[Request] = []
        answers: dict[str, Answer] = {}
        result = extract(item, recipe)
        for turn in range(1, ROUNDS + 1):
            if isinstance(result, Outcome):
                break
            path = tmp_path / f"pending-{turn}"
            write_pending(path, dataclasses.asdict(item), result, answers)
            pending = read_pending(path)
            asked += pending.requests.values()
            answers |= {name: say(request) for name, request in pending.requests.items()}
            result = extract(item, recipe, Answered(turn=turn, state=pending.state, store=pending.pictures, answers=answers))
        assert isinstance(result, Outcome)
        return result, asked

    return run


@pytest.fixture
def video(examples: Path, tmp_path: Path) -> Item:
    """A real video of several shots without captions."""
    return alone(examples / "videos" / "bikes.mp4", tmp_path)


def alone(path: Path, tmp_path: Path) -> Item:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / path.name).write_bytes(path.read_bytes())
    return find_inputs([tmp_path / "in"]).items[0]


def words_of(row: Mapping[str, Any]) -> str:
    return " ".join(part["text"] or "" for message in row["messages"] for part in message["parts"])


def test_a_video_is_told_scene_by_scene_and_as_a_whole(
    video: Item, captioning: Recipe, answered: Callable[..., tuple[Outcome, list[Request]]]
) -> None:
    outcome, asked = answered(video, captioning, plainly)
    scenes, (overview,) = asked[:-1], asked[-1:]
    assert outcome.status == "used"
    assert len(scenes) > 1
    assert all(len(request.media_ids) <= 4 and request.parameters["times"][0] >= 0 for request in asked)
    for request in scenes:
        assert plainly(request).value in overview.prompt
    dense = next(row for row in outcome.samples if row["task"] == "video.dense" and "As a whole" in words_of(row))
    for request in (*scenes, overview):
        assert str(plainly(request).value) in words_of(dense)
    marked = {row["task"]: dict(row["quality"]).get(QUALITY) for row in outcome.samples}
    assert marked.pop("video.shots", None) is None
    assert set(marked.values()) == {1.0}
    assert outcome.work == {
        "caption": {"requests": len(asked), "failed": 0, "again": 0, "prompt_tokens": 3 * len(asked)},
    }


def test_what_a_model_says_is_not_known_truth(
    video: Item, captioning: Recipe, answered: Callable[..., tuple[Outcome, list[Request]]]
) -> None:
    outcome, _ = answered(video, captioning, plainly)
    assert outcome.annotation is not None
    payload = json.loads(outcome.annotation[1])
    assert (payload["scenes"], payload["overview"]) == ([], "")
    assert outcome.signature is not None
    assert not outcome.signature.described


def test_the_same_answers_give_the_same_rows_and_pictures(
    video: Item, captioning: Recipe, answered: Callable[..., tuple[Outcome, list[Request]]]
) -> None:
    first, asked = answered(video, captioning, plainly)
    second, again = answered(video, captioning, plainly)
    assert asked == again
    assert (first.samples, first.lineage, first.annotation) == (second.samples, second.lineage, second.annotation)
    assert isinstance(second.store, KeptPictures)
    plain = extract(video, replace(captioning, curate=replace(captioning.curate, captions=None)))
    assert isinstance(plain, Outcome)
    assert plain.store is not None
    assert list(second.store.pictures(second.media_ids)) == list(plain.store.pictures(second.media_ids))


def test_a_missing_answer_costs_its_scene_and_is_named(
    video: Item, captioning: Recipe, answered: Callable[..., tuple[Outcome, list[Request]]]
) -> None:
    lost: list[Request] = []

    def say(request: Request) -> Answer:
        if not lost:
            lost.append(request)
        return failing(request) if request == lost[0] else plainly(request)

    outcome, _ = answered(video, captioning, say)
    assert outcome.status == "used"
    (dropped,) = [row for row in outcome.dropped if row["reason"] == "model_failed"]
    assert dropped["detail"].endswith("s: HTTP 503: away; asked 6 times")
    assert not any(str(plainly(lost[0]).value) in words_of(row) for row in outcome.samples)
    assert outcome.work["caption"]["again"] == 1


def test_without_any_answer_a_source_is_quarantined_not_filtered(
    video: Item, captioning: Recipe, answered: Callable[..., tuple[Outcome, list[Request]]]
) -> None:
    outcome, _ = answered(video, captioning, failing)
    assert outcome.quarantine is not None
    assert (outcome.quarantine["stage"], outcome.quarantine["reason"]) == ("model", "model_failed")


def test_a_picture_without_a_caption_gets_one(
    examples: Path, tmp_path: Path, captioning: Recipe, answered: Callable[..., tuple[Outcome, list[Request]]]
) -> None:
    item = alone(examples / "images" / "coffee.jpg", tmp_path)
    outcome, (asked,) = answered(item, captioning, lambda request: replace(plainly(request), value="<think>hm</think> A cup."))
    (row,) = outcome.samples
    assert words_of(row).endswith(" A cup.")
    assert dict(row["quality"])[QUALITY] == 1.0
    assert outcome.media_ids == list(asked.media_ids)
    refused, _ = answered(item, captioning, failing)
    assert refused.quarantine is not None
    assert refused.quarantine["reason"] == "model_failed"


def test_what_a_person_wrote_is_not_asked(examples: Path, captioning: Recipe) -> None:
    described = [
        item
        for item in find_inputs([examples / "images", examples / "videos" / "bikes.mp4"]).items
        if any(file.role.startswith(".caption") for file in item.attached)
    ]
    assert len(described) > 3
    assert not any(isinstance(extract(item, captioning), Waiting) for item in described[:6])


@given(
    lengths=st.lists(st.floats(min_value=0.04, max_value=90.0), min_size=1, max_size=12),
    scene_max_s=st.floats(min_value=4.0, max_value=30.0),
)
def test_scenes_cover_a_film_once(lengths: list[float], scene_max_s: float) -> None:
    edges = [0.0]
    for length in lengths:
        edges.append(edges[-1] + length)
    spans = scene_spans(list(itertools.pairwise(edges)), scene_max_s)
    assert spans[0][0] == 0.0
    assert spans[-1][1] == edges[-1]
    for (_, end), (start, _) in itertools.pairwise(spans):
        assert end == start
    assert all(end - start <= scene_max_s + 0.002 for start, end in spans)
    assert len(spans) == 1 or all(end - start >= SCENE_MIN_S - 0.002 for start, end in spans)


@given(start=st.floats(0.0, 50.0), length=st.floats(0.01, 60.0), count=st.integers(1, 12))
def test_frames_shown_of_a_scene_are_its_own(start: float, length: float, count: int) -> None:
    film = Film.__new__(Film)
    film.fps, film.frames = 2.0, [Shown(media_id=f"{point:032x}", time_s=point / 2) for point in range(101)]
    found = frames_between(film, start, start + length, count)
    assert 1 <= len(found) <= count
    assert found == sorted(found)
    inside = [shown for shown in film.frames if start <= shown.time_s < start + length]
    assert {media_id for _, media_id in found} <= {shown.media_id for shown in inside} or len(inside) == 0
    assert len(found) == min(count, max(1, len(inside)))
