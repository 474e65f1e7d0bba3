"""What is drawn: the pixels show what the payload says, the same bytes come each time, and no thing hides another."""

from __future__ import annotations

import dataclasses
import io
import json
from itertools import combinations
from typing import Any

import curated
import numpy as np
import pytest
from PIL import Image
from synthesised import Made as Synthesised

from manifests.shards import MediaItem
from synth_cot.gathering import gather
from synth_cot.made.drawing import COLOURS
from synth_cot.made.sources import Drawn, Made, draw_source
from synth_cot.work import Outcome

RECIPE = curated.small_recipe()


def drawn(kind: str, count: int = 12) -> list[tuple[dict[str, Any], dict[str, MediaItem], Drawn]]:
    """Payload and pictures of the first sources of a kind."""
    found = [draw_source(Made(kind=kind, number=number), RECIPE) for number in range(count)]
    return [
        (json.loads(one.annotation["payload"]), {picture.media_id: picture for picture in one.pictures}, one) for one in found
    ]


def colour_at(picture: MediaItem, box: list[float]) -> str:
    """The named colour that the middle of a box shows, or "" for the ground: by its hue, whatever the light."""
    pixels = np.asarray(Image.open(io.BytesIO(picture.data)).convert("RGB"), dtype=np.float64)
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    seen = pixels[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2].mean(axis=(0, 1))
    greys = {"": 150.0, "black": 24.0, "white": 235.0}
    if seen.max() - seen.min() < 25:
        return min(greys, key=lambda name: abs(greys[name] - seen.mean()))
    hues = {name: np.array(rgb, dtype=np.float64) for name, rgb in COLOURS.items() if name not in greys}
    return max(hues, key=lambda name: seen @ hues[name] / np.linalg.norm(hues[name]))


def things(payload: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = payload["things"]
    return found


def test_every_thing_has_its_colour_in_the_picture() -> None:
    for payload, pictures, _ in drawn("shapes"):
        for thing in things(payload):
            assert colour_at(pictures[payload["media_id"]], thing["box"]) == thing["colour"]


def test_a_film_shows_each_thing_exactly_when_its_spans_say() -> None:
    looked = 0
    for payload, pictures, _ in drawn("events", 6):
        for point, media_id in payload["frames"]:
            for one in payload["presences"]:
                there = any(start <= point / payload["fps_grid"] < end for start, end in one["spans"])
                assert colour_at(pictures[media_id], one["box"]) == (one["name"].split()[0] if there else "")
                looked += there
    assert looked > 100


def test_an_edit_is_where_two_pictures_differ_and_nothing_else_does() -> None:
    kinds = set()
    for payload, pictures, _ in drawn("edits"):
        before, after = payload["before"], payload["after"]
        same = [thing for thing in things(before) if thing in things(after)]
        assert len(same) + sum(edit["kind"] != "added" for edit in payload["edits"]) == len(things(before))
        assert len(same) + sum(edit["kind"] != "removed" for edit in payload["edits"]) == len(things(after))
        for side in (before, after):
            for thing in things(side):
                assert colour_at(pictures[side["media_id"]], thing["box"]) == thing["colour"]
        for edit in payload["edits"]:
            kinds.add(edit["kind"])
            missing = {"added": before, "removed": after}.get(edit["kind"])
            if missing is not None:
                assert colour_at(pictures[missing["media_id"]], edit["box"]) == ""
        kinds |= set() if payload["edits"] else {"none"}
    assert kinds == {"added", "removed", "recoloured", "resized", "none"}


@pytest.mark.parametrize("kind", ["shapes", "edits"])
def test_no_thing_touches_another(kind: str) -> None:
    for payload, _, _ in drawn(kind):
        for shown in (payload["before"], payload["after"]) if kind == "edits" else (payload,):
            for one, other in combinations(things(shown), 2):
                a, b = one["box"], other["box"]
                assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


@pytest.mark.parametrize("kind", ["shapes", "edits", "events", "table"])
def test_the_same_number_is_the_same_source_and_another_is_another(kind: str) -> None:
    first, again = drawn(kind, 3), drawn(kind, 3)
    assert [one for *_, one in first] == [one for *_, one in again]
    assert len({one.known.source.source_id for *_, one in first}) == 3
    other = dataclasses.replace(RECIPE, synth=dataclasses.replace(RECIPE.synth, seed=18))
    assert draw_source(Made(kind=kind, number=0), other).known.source.source_id != first[0][2].known.source.source_id


def test_rendering_changes_pixels_and_not_truth() -> None:
    lights = [
        (payload["before"]["rendering"]["light"], payload["after"]["rendering"]["light"]) for payload, _, _ in drawn("edits")
    ]
    assert all(one != other for one, other in lights)


def test_drawn_sources_are_in_the_corpus_with_truth_and_readable_pictures(made: Synthesised) -> None:
    rows = made.rows("SELECT * FROM annotations WHERE source LIKE 'made/%' ORDER BY source")
    assert {row["kind"] for row in rows} == {"edits", "events", "shapes", "table"}
    stored = made.rows("SELECT * FROM media WHERE shard LIKE 'media/origin=synthesize/%'")
    for row in stored:
        with (made.corpus.folder / row["shard"]).open("rb") as shard:
            shard.seek(row["offset"])
            picture = Image.open(io.BytesIO(shard.read(row["length"])))
            assert picture.size == (row["width"], row["height"])
    assert {row["source_id"] for row in stored} == {row["source_id"] for row in rows}
    sources = made.rows("SELECT source_id, status, split FROM sources WHERE source LIKE 'made/%'")
    assert {row["source_id"]: row["split"] for row in sources} == {row["source_id"]: row["split"] for row in rows}


def outcome(number: int, picture: bool, split: str = "train") -> Outcome:
    """A source with one sample."""
    name = f"{number}{picture}"
    row = {
        "sample_id": name, "task": "t", "split": split, "visual_tokens": int(picture), "source_ids": [name], "total_tokens": 1,
        "reasoning": {"teacher": "programmatic/2"},
    }  # fmt: skip
    return Outcome(source=name, source_id=name, samples=[row], asked=1)


@pytest.mark.parametrize(
    ("texts", "shown", "kept"), [(80, 30, (20, 30)), (10, 60, (10, 15)), (20, 30, (20, 30)), (5, 0, (5, 0))]
)
def test_the_share_of_text_is_met_by_dropping_the_surplus_with_a_reason(texts: int, shown: int, kept: tuple[int, int]) -> None:
    outcomes = [outcome(n, False) for n in range(texts)] + [outcome(n, True) for n in range(shown)]
    total = gather(outcomes, dataclasses.replace(RECIPE.synth, text_share=0.4))
    assert (sum(not row["visual_tokens"] for row in total.samples), sum(row["visual_tokens"] for row in total.samples)) == kept
    assert total.asked == len(total.samples) + len(total.dropped)
    assert {row["reason"] for row in total.dropped} <= {"over_share"}
