"""Screens and recordings: boxes and actions are checked, questions have one answer, answers are thousandths of the picture."""

from __future__ import annotations

import copy
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from manifests.recipe import Recipe
from pipelines.extraction import Outcome, extract
from pipelines.gui import named_target
from pipelines.inputs import find_inputs
from pipelines.screens import Element, Screen


@pytest.fixture
def login(examples: Path) -> tuple[Path, dict[str, Any]]:
    return examples / "gui" / "login-user.png", json.loads((examples / "gui" / "login-user.gui.json").read_text())


def test_answers_are_the_boxes_of_the_sidecar(login: tuple[Path, dict[str, Any]], read: Callable[..., Outcome]) -> None:
    picture, sidecar = login
    outcome = read("a.png", picture, {".gui.json": json.dumps(sidecar).encode()})
    boxes = {
        (element["role"], element["text"]): [
            round(1000 * side / (sidecar["width"], sidecar["height"])[place % 2]) for place, side in enumerate(element["box"])
        ]
        for element in sidecar["elements"]
    }
    asked = [row for row in outcome.samples if row["task"] == "gui.locate"]
    assert asked
    for row in asked:
        question, answer = row["messages"][0]["parts"][1]["text"], row["messages"][1]["parts"][0]["text"]
        (element,) = [key for key in boxes if f"the {key[0]} {json.dumps(key[1])}?" in question]
        assert json.loads(answer) == boxes[element]
    assert outcome.annotation is not None
    truth = json.loads(outcome.annotation[1])
    assert truth["elements"] == sidecar["elements"]
    (shown,) = outcome.store.pictures([truth["media_id"]]) if outcome.store else ()
    assert [shown.height, shown.width] == truth["stored"]
    assert Image.open(io.BytesIO(shown.data)).tobytes() == Image.open(picture).convert("RGB").tobytes()


def test_no_question_about_an_element_that_has_a_twin(login: tuple[Path, dict[str, Any]], read: Callable[..., Outcome]) -> None:
    picture, sidecar = login
    sidecar["elements"] = [
        {"id": "a", "role": "button", "text": "OK", "box": [0, 0, 10, 10]},
        {"id": "b", "role": "button", "text": "OK", "box": [20, 0, 30, 10]},
        {"id": "c", "role": "button", "text": "No", "box": [40, 0, 50, 10]},
    ]
    outcome = read("a.png", picture, {".gui.json": json.dumps(sidecar).encode()})
    asked = [row["messages"][0]["parts"][1]["text"] for row in outcome.samples if row["task"] == "gui.locate"]
    assert len(asked) == 1
    assert '"No"' in asked[0]


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        ({"box": [0, 0, 321, 10]}, "boxes_outside", "320x420"),
        ({"box": [-1, 0, 10, 10]}, "boxes_outside", "'e"),
        ({"box": [10, 0, 10, 10]}, "boxes_outside", "[10, 0, 10, 10]"),
        ({"box": [0, 0, 10]}, "bad_sidecar", "four numbers"),
        ({"box": ["0", 0, 10, 10]}, "bad_sidecar", "four numbers"),
        ({"role": None}, "bad_sidecar", "role"),
        ({"id": "e1"}, "bad_sidecar", "twice"),
    ],
)
def test_a_wrong_element_quarantines_the_screenshot(
    change: dict[str, Any], reason: str, words: str, login: tuple[Path, dict[str, Any]], read: Callable[..., Outcome]
) -> None:
    picture, sidecar = login
    sidecar["elements"][1].update(change)
    outcome = read("a.png", picture, {".gui.json": json.dumps(sidecar).encode()})
    assert outcome.quarantine is not None
    assert (outcome.quarantine["stage"], outcome.quarantine["reason"]) == ("check", reason)
    assert words in outcome.quarantine["detail"]


def test_a_screenshot_of_another_size_or_format_is_quarantined(
    login: tuple[Path, dict[str, Any]], read: Callable[..., Outcome]
) -> None:
    picture, sidecar = login
    for change, reason in (
        ({"width": 640}, "size_mismatch"),
        ({"format": "other/1"}, "bad_sidecar"),
        ({"elements": 3}, "bad_sidecar"),
    ):
        outcome = read("a.png", picture, {".gui.json": json.dumps({**sidecar, **change}).encode()})
        assert outcome.quarantine is not None
        assert outcome.quarantine["reason"] == reason
    outcome = read("a.png", picture.read_bytes()[:2000], {".gui.json": json.dumps(sidecar).encode()})
    assert outcome.quarantine is not None
    assert outcome.quarantine["stage"] == "decode"


def test_an_instruction_is_asked_only_when_it_names_one_control() -> None:
    def screen(*names: str) -> Screen:
        elements = [Element(id=name, role="tab", text=name, box=(0, 0, 1, 1)) for name in names]
        elements.append(Element(id="t", role="text", text="Click on Tab #2.", box=(0, 0, 1, 1)))
        return Screen(width=10, height=10, elements=tuple(elements))

    target = named_target(screen("Tab #1", "Tab #2", "Tab #20"), "Click on Tab #2.")
    assert target is not None
    assert target.id == "Tab #2"
    assert named_target(screen("Tab #2", "Tab"), "Click on Tab #2.") is None
    assert named_target(screen("Tab #1", "Tab #2"), "Click on Tab #1 and then Tab #2.") is None
    assert named_target(screen("Tab #1"), "Is Tab #1 open?") is None


def trace_with(examples: Path, tmp_path: Path, recipe: Recipe, change: Callable[[dict[str, Any]], None]) -> Outcome:
    folder = tmp_path / "trace"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(examples / "traces" / "login-user", folder)
    trace = json.loads((folder / "trace.json").read_text())
    change(trace)
    (folder / "trace.json").write_text(json.dumps(trace))
    (item,) = [item for item in find_inputs([folder]).items if item.source == "trace.json"]
    return extract(item, recipe)


def test_a_trace_is_a_conversation_of_screens_and_actions(examples: Path, tmp_path: Path, recipe: Recipe) -> None:
    told: dict[str, Any] = {}
    outcome = trace_with(examples, tmp_path, recipe, lambda trace: told.update(copy.deepcopy(trace)))
    (sample,) = outcome.samples
    assert sample["task"] == "gui.action"
    assert [message["role"] for message in sample["messages"]] == ["user", "assistant"] * len(told["steps"])
    assert told["goal"] in sample["messages"][0]["parts"][0]["text"]
    for step, message in zip(told["steps"], sample["messages"][1::2], strict=True):
        answer = json.loads(message["parts"][0]["text"])
        assert answer["action"] == step["action"]["type"]
        if "point" in step["action"]:
            x, y = step["action"]["point"]
            assert answer["point"] == [round(1000 * x / step["width"]), round(1000 * y / step["height"])]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda trace: trace["steps"][0]["action"].update(point=[5000, 10]), "action_outside"),
        (lambda trace: trace["steps"][0]["action"].update(point=[1, 1]), "action_outside"),
        (lambda trace: trace["steps"][0]["action"].update(element="e999"), "unknown_element"),
        (lambda trace: trace["steps"][1].update(screenshot="step-99.png"), "missing_screenshot"),
        (lambda trace: trace["steps"][1].update(screenshot="../../gui/login-user.png"), "missing_screenshot"),
        (lambda trace: trace["steps"][1].update(width=1), "size_mismatch"),
        (lambda trace: trace["steps"][1].update(action=None), "bad_trace"),
        (lambda trace: trace.update(goal=""), "bad_trace"),
    ],
)
def test_a_trace_that_does_not_fit_itself_is_quarantined(
    change: Callable[[dict[str, Any]], None], reason: str, examples: Path, tmp_path: Path, recipe: Recipe
) -> None:
    outcome = trace_with(examples, tmp_path, recipe, change)
    assert outcome.quarantine is not None
    assert (outcome.quarantine["stage"], outcome.quarantine["reason"]) == ("check", reason)


def test_a_trace_that_failed_is_filtered(examples: Path, tmp_path: Path, recipe: Recipe) -> None:
    outcome = trace_with(examples, tmp_path, recipe, lambda trace: trace.update(success=False))
    assert outcome.status == "filtered"
    assert outcome.dropped[0]["reason"] == "unsuccessful"


def test_pictures_without_words_or_that_are_bombs(examples: Path, read: Callable[..., Outcome]) -> None:
    assert read("a.jpg", examples / "images" / "coffee.jpg").dropped[0]["reason"] == "no_caption"
    for caption in (b"[]", b"{", b'{"caption": 3}', b'{"caption": " "}', b'{"caption": "\xff"}'):
        outcome = read("a.jpg", examples / "images" / "coffee.jpg", {".caption.json": caption})
        assert outcome.quarantine is not None, caption
        assert outcome.quarantine["reason"] == "bad_sidecar"
    stream = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(stream, "PNG")
    bomb = read("bomb.png", stream.getvalue(), {".caption.json": b'{"caption": "a black square"}'})
    assert bomb.quarantine is not None
    assert (bomb.quarantine["stage"], bomb.quarantine["reason"]) == ("probe", "too_large")
