"""ScreenSpot-style sets: each picture carries its rows, each wrong row is told with its number, no row is lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from manifests.recipe import Recipe
from pipelines.extraction import Outcome, extract
from pipelines.inputs import find_inputs


@pytest.fixture
def folder(examples: Path, tmp_path: Path) -> Path:
    """Two screenshots of 320 x 420 px in a folder beside where the list will stand."""
    images = tmp_path / "set" / "screenspot_imgs"
    images.mkdir(parents=True)
    for name in ("login-user", "click-tab-2"):
        shutil.copy(examples / "gui" / f"{name}.png", images / f"web_{name}.png")
    return tmp_path / "set"


def row(bbox: Any, instruction: Any = "press login", name: str = "web_login-user.png", **more: Any) -> dict[str, Any]:
    value = {"img_filename": name, "bbox": bbox, "instruction": instruction, "data_type": "text", "data_source": "shop"}
    return {**value, **more}


def curated(folder: Path, rows: list[Any], recipe: Recipe) -> dict[str, Outcome]:
    (folder / "screenspot_web.json").write_text(json.dumps(rows))
    outcomes = {}
    for item in find_inputs([folder]).items:
        outcome = extract(item, recipe)
        assert isinstance(outcome, Outcome)
        outcomes[item.source] = outcome
    return outcomes


LOGIN = "screenspot_imgs/web_login-user.png"


def told(outcome: Outcome, task: str = "gui.instruction") -> list[tuple[str, str]]:
    return [
        (row["messages"][0]["parts"][1]["text"], row["messages"][1]["parts"][0]["text"])
        for row in outcome.samples
        if row["task"] == task
    ]


@pytest.mark.parametrize(
    ("bbox", "more"),
    [
        ([32, 105, 64, 42], {}),
        ([0.1, 0.25, 0.3, 0.35], {}),
        ([32, 105, 96, 147], {"img_size": [320, 420], "ui_type": "text", "group": "Office"}),
    ],
)
def test_the_three_ways_to_write_a_box_mean_the_same(bbox: Any, more: Any, folder: Path, recipe: Recipe) -> None:
    outcomes = curated(folder, [row(bbox, **more), row([0, 0, 32, 42], "go home", "web_click-tab-2.png", **more)], recipe)
    assert set(outcomes) == {LOGIN, "screenspot_imgs/web_click-tab-2.png"}
    asked = "Which box [x0, y0, x1, y1], in thousandths, has to be clicked for this: press login"
    assert told(outcomes[LOGIN]) == [(asked, "[100, 250, 300, 350]")]
    assert told(outcomes[LOGIN], "gui.function") == [
        ("What is the control at [100, 250, 300, 350] clicked for?", "press login")
    ]
    assert outcomes[LOGIN].annotation is not None
    truth = json.loads(outcomes[LOGIN].annotation[1])
    assert truth["elements"] == []
    assert truth["targets"][0]["box"] == pytest.approx([32, 105, 96, 147])
    origin = outcomes[LOGIN].samples[0]["messages"][1]["parts"][0]["origin"]
    assert origin["box"] == pytest.approx([32, 105, 96, 147])
    assert {each["task"] for each in outcomes[LOGIN].samples} == {"gui.instruction", "gui.function"}


def test_every_wrong_row_is_dropped_with_its_number(folder: Path, recipe: Recipe) -> None:
    rows = [
        row([10, 10, 20, 20]),
        row([300, 10, 30, 20], "leaves the picture"),
        row([10, 10, 20], "three numbers"),
        row([10, 10, 0, 20], "no width"),
        row([10, 10, 20, 20], None),
        row([10, 10, 20, 20], "wrong size", img_size=[640, 480]),
        row([50, 50, 20, 20], "two places"),
        row([90, 50, 20, 20], "Two places"),
        row([10, 10, 20, 20]),
        row([10, 10, 20, 20], "lost", "nowhere.png"),
        row([10, 10, 20, 20], "thief", "../../secret.png"),
        {"bbox": [1, 1, 1, 1]},
        "nonsense",
    ]
    (folder.parent / "secret.png").write_bytes((folder / LOGIN).read_bytes())
    outcomes = curated(folder, rows, recipe)
    found = {
        int(dropped["detail"].partition("entry ")[2].partition(":")[0]): dropped["reason"]
        for outcome in outcomes.values()
        for dropped in outcome.dropped
        if "entry" in dropped["detail"]
    }
    assert found == {
        1: "boxes_outside", 2: "bad_entry", 3: "boxes_outside", 4: "bad_entry", 5: "size_mismatch", 6: "ambiguous",
        7: "ambiguous", 8: "exact_duplicate", 9: "missing_picture", 10: "missing_picture", 11: "bad_entry", 12: "bad_entry",
    }  # fmt: skip
    assert outcomes["screenspot_web.json"].status == "filtered"
    assert [answer for _, answer in told(outcomes[LOGIN])] == ["[31, 24, 94, 71]"]
    assert outcomes["screenspot_imgs/web_click-tab-2.png"].dropped[0]["reason"] == "no_caption"


def test_a_list_whose_rows_all_found_their_picture_is_attached(folder: Path) -> None:
    (folder / "screenspot_web.json").write_text(json.dumps([row([1, 1, 9, 9])]))
    found = find_inputs([folder])
    assert [item.source for item in found.items] == ["screenspot_imgs/web_click-tab-2.png", LOGIN]
    assert found.attached == 1
    (attached,) = found.items[1].attached
    assert attached.source == "screenspot_web.json"
    before = found.items[1].source_id
    (folder / "screenspot_web.json").write_text(json.dumps([row([1, 1, 9, 10])]))
    assert find_inputs([folder]).items[1].source_id != before


def test_another_picture_s_rows_do_not_change_an_item(folder: Path) -> None:
    (folder / "screenspot_web.json").write_text(json.dumps([row([1, 1, 9, 9])]))
    before = find_inputs([folder]).items[1]
    rows = [row([1, 1, 9, 9]), row([1, 1, 9, 9], name="web_click-tab-2.png")]
    (folder / "screenspot_web.json").write_text(json.dumps(rows))
    assert find_inputs([folder]).items[1].identity() == before.identity()


def test_pictures_in_the_folder_beside_the_annotations(examples: Path, tmp_path: Path, recipe: Recipe) -> None:
    """As ScreenSpot-Pro is laid out: annotations/APP.json and images/APP/NAME.png."""
    (tmp_path / "annotations").mkdir()
    (tmp_path / "images" / "vscode_mac").mkdir(parents=True)
    shutil.copy(examples / "gui" / "login-user.png", tmp_path / "images" / "vscode_mac" / "shot.png")
    rows = [row([32, 42, 64, 84], "refresh", "vscode_mac/shot.png", img_size=[320, 420])]
    (tmp_path / "annotations" / "vscode_macos.json").write_text(json.dumps(rows))
    (item,) = find_inputs([tmp_path]).items
    outcome = extract(item, recipe)
    assert isinstance(outcome, Outcome)
    assert [answer for _, answer in told(outcome)] == ["[100, 100, 200, 200]"]


def test_a_list_that_is_broken_is_quarantined_and_its_pictures_are_not_lost(folder: Path, recipe: Recipe) -> None:
    (folder / "screenspot_web.json").write_text(json.dumps([row([1, 1, 9, 9])])[:-3])
    outcomes = {item.source: extract(item, recipe) for item in find_inputs([folder]).items}
    assert len(outcomes) == 3
    broken = outcomes["screenspot_web.json"]
    assert isinstance(broken, Outcome)
    assert broken.quarantine is not None
    assert broken.quarantine["reason"] == "bad_sidecar"
