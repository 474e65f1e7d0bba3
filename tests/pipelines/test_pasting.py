"""Pasted pictures: what is asked is true of the pixels, the same key gives the same picture, and nothing is lost unsaid."""

from __future__ import annotations

import io
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from manifests.recipe import Recipe
from pipelines.extraction import Outcome, extract
from pipelines.inputs import find_inputs
from pipelines.pasting import Cutout, PastingRule, paste, trimmed
from pipelines.pasting_folder import label_of

COLOURS = {"red ball": (220, 0, 0), "blue ball": (0, 0, 220)}


def ball(colour: tuple[int, int, int], size: int = 64, margin: int = 6) -> Image.Image:
    """A disc of one colour on nothing."""
    picture = Image.new("RGBA", (size, size), (0, 0, 0, 0))
    ImageDraw.Draw(picture).ellipse((margin, margin, size - 1 - margin, size - 1 - margin), fill=(*colour, 255))
    return picture


@pytest.fixture(scope="module")
def cutouts() -> list[Cutout]:
    return [
        Cutout(label=label, picture=picture, source=label)
        for label, colour in COLOURS.items()
        if (picture := trimmed(ball(colour))) is not None
    ]


def test_boxes_and_counts_are_those_of_the_pixels(cutouts: list[Cutout]) -> None:
    """Where no two of a colour touch, each connected patch of it is one object, found anew by another library."""
    from scipy import ndimage

    rule = PastingRule(objects=(1, 10), side=(0.1, 0.3), visible_min=1.0)
    compared = 0
    for place in range(30):
        pasting = paste(Image.new("RGB", (224, 196), "white"), cutouts, rule, "test", place)
        pixels = np.asarray(pasting.picture).astype(int)
        for label, colour in COLOURS.items():
            boxes = [each.box for each in pasting.objects if each.label == label]
            near = np.abs(pixels - np.array(colour)).sum(axis=2) < 250
            marks, count = ndimage.label(near, structure=np.ones((3, 3)))
            if count != len(boxes):
                continue  # two of them touch, and are one patch
            found = [(s[1].start, s[0].start, s[1].stop, s[0].stop) for s in ndimage.find_objects(marks)]
            for seen, said in zip(sorted(found), sorted(boxes), strict=True):
                assert max(abs(one - other) for one, other in zip(seen, said, strict=True)) <= 1, (place, label)
                compared += 1
    assert compared > 80


def test_no_object_is_covered_more_than_the_rule_allows(cutouts: list[Cutout]) -> None:
    crowded = PastingRule(objects=(20, 20), side=(0.3, 0.5), visible_min=0.6)
    shares = [
        each.visible
        for place in range(10)
        for each in paste(Image.new("RGB", (140, 140), "white"), cutouts, crowded, place).objects
    ]
    assert 0.6 <= min(shares) < 1.0


def test_the_key_decides_and_nothing_else(cutouts: list[Cutout]) -> None:
    rule = PastingRule()
    background = Image.new("RGB", (224, 224), "grey")
    one, again, other = (paste(background, cutouts, rule, "key", place) for place in (1, 1, 2))
    assert one.picture.tobytes() == again.picture.tobytes()
    assert one.objects == again.objects
    assert one.picture.tobytes() != other.picture.tobytes()
    assert background.getpixel((0, 0)) == (128, 128, 128)


@pytest.fixture
def folder(examples: Path, tmp_path: Path) -> Path:
    root = tmp_path / "balls"
    (root / "objects" / "blue-ball").mkdir(parents=True)
    (root / "backgrounds").mkdir()
    ball(COLOURS["red ball"]).save(root / "objects" / "red_ball-01.png")
    ball(COLOURS["blue ball"]).save(root / "objects" / "blue-ball" / "a.png")
    shutil.copy(examples / "images" / "coffee.jpg", root / "backgrounds" / "table.jpg")
    Image.new("RGB", (300, 200), "grey").save(root / "backgrounds" / "wall.png")
    (root / "pasting.json").write_text(json.dumps({"format": "longreel-pasting/1", "pictures": 12, "seed": 3}))
    return root


def curated(folder: Path, recipe: Recipe) -> Outcome:
    (item,) = find_inputs([folder]).items
    assert item.source == "pasting.json"
    outcome = extract(item, recipe)
    assert isinstance(outcome, Outcome)
    return outcome


def test_a_folder_of_objects_and_backgrounds(folder: Path, recipe: Recipe) -> None:
    outcome = curated(folder, recipe)
    assert outcome.quarantine is None, outcome.quarantine
    assert outcome.annotation is not None
    kind, payload = outcome.annotation
    truth = json.loads(payload)
    assert (kind, truth["labels"], len(truth["pictures"])) == ("pasted", ["blue ball", "red ball"], 12)
    assert {picture["background"] for picture in truth["pictures"]} == {"backgrounds/table.jpg", "backgrounds/wall.png"}
    counts = {picture["media_id"]: Counter(each["label"] for each in picture["objects"]) for picture in truth["pictures"]}
    asked: Counter[str] = Counter()
    for row in outcome.samples:
        shown, question = row["messages"][0]["parts"]
        answer = row["messages"][1]["parts"][0]["text"]
        label = next(label for label in COLOURS if label in question["text"])
        wanted = counts[shown["visuals"][0]["media_id"]][label]
        assert (int(answer) if row["task"] == "image.count" else len(json.loads(answer))) == wanted
        asked[row["task"]] += 1
        if row["task"] == "image.grounding":
            assert all(0 <= x0 < x1 <= 1000 and 0 <= y0 < y1 <= 1000 for x0, y0, x1, y1 in json.loads(answer))
    assert asked["image.count"] == asked["image.grounding"] >= 12
    stored = {picture.media_id: picture for picture in (outcome.store.pictures(sorted(counts)) if outcome.store else ())}
    for picture in truth["pictures"]:
        image = Image.open(io.BytesIO(stored[picture["media_id"]].data)).convert("RGB")
        assert image.size == (picture["width"], picture["height"])
        for each in picture["objects"]:
            x0, y0, x1, y1 = each["box"]
            inside = np.asarray(image)[y0:y1, x0:x1].astype(int)
            assert (np.abs(inside - np.array(COLOURS[each["label"]])).sum(axis=2) < 150).mean() > 0.2


def test_every_file_of_the_folder_is_accounted_for(folder: Path, recipe: Recipe) -> None:
    (folder / "objects" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    Image.new("RGBA", (20, 20), (0, 0, 0, 0)).save(folder / "objects" / "nothing.png")
    (folder / "backgrounds" / "broken.jpg").write_bytes((folder / "backgrounds" / "table.jpg").read_bytes()[:300])
    found = find_inputs([folder])
    assert len(found.items) + found.attached == sum(path.is_file() for path in folder.rglob("*"))
    outcome = curated(folder, recipe)
    assert outcome.status == "used"
    assert sorted(row["detail"].partition(":")[0] for row in outcome.dropped) == [
        "backgrounds/broken.jpg", "objects/broken.png", "objects/nothing.png",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "other"}, "format"),
        ({"pictures": 0}, "pictures is 0"),
        ({"pictures": 5000}, "2,000"),
        ({"seed": "x"}, "seed"),
        ({"objects": [5, 2]}, "objects"),
        ({"side": [0.5]}, "side"),
        ({"visible_min": 0}, "visible_min"),
    ],
)
def test_a_plan_out_of_range_says_which_key(change: dict[str, Any], words: str, folder: Path, recipe: Recipe) -> None:
    plan = json.loads((folder / "pasting.json").read_text())
    (folder / "pasting.json").write_text(json.dumps({**plan, **change}))
    outcome = curated(folder, recipe)
    assert outcome.quarantine is not None
    assert outcome.quarantine["reason"] == "bad_pasting"
    assert words in outcome.quarantine["detail"]


def test_a_folder_without_objects_is_quarantined(folder: Path, recipe: Recipe) -> None:
    shutil.rmtree(folder / "objects")
    outcome = curated(folder, recipe)
    assert outcome.quarantine is not None
    assert "objects/" in outcome.quarantine["detail"]


def test_names_of_objects() -> None:
    roles = ("objects/cup/3.png", "objects/red-ball-12.png", "objects/7.png", "objects/tea_cup/x/1.png", "objects/T 800 2.png")
    assert [label_of(role) for role in roles] == ["cup", "red ball", "7", "tea cup", "T 800"]


def test_a_screen_s_controls_are_pasted_when_the_recipe_says_so(examples: Path, tmp_path: Path, recipe: Recipe) -> None:
    for suffix in (".png", ".gui.json"):
        shutil.copy(examples / "gui" / f"login-user{suffix}", tmp_path / f"a{suffix}")
    (item,) = find_inputs([tmp_path]).items
    plain, pasting = (
        extract(item, replace(recipe, curate=replace(recipe.curate, pasted_per_screen=count))) for count in (0, 3)
    )
    assert isinstance(plain, Outcome)
    assert isinstance(pasting, Outcome)
    assert not any(row["task"].startswith("image.") for row in plain.samples)
    assert pasting.annotation is not None
    truth = json.loads(pasting.annotation[1])
    labels = {f"{each['role']} {json.dumps(each['text'])}" for each in truth["elements"]}
    assert len(truth["pasted"]) == 3
    assert {each["label"] for picture in truth["pasted"] for each in picture["objects"]} <= labels
    counted = [row for row in pasting.samples if row["task"] == "image.count"]
    by_media = {picture["media_id"]: Counter(each["label"] for each in picture["objects"]) for picture in truth["pasted"]}
    for row in counted:
        shown, question = row["messages"][0]["parts"]
        label = question["text"].removeprefix("How many of these are in the picture: ").removesuffix("? Answer with a number.")
        assert int(row["messages"][1]["parts"][0]["text"]) == by_media[shown["visuals"][0]["media_id"]][label]
    assert len(counted) >= 3
