"""Recordings: conversations, single steps and operations say what was recorded; what does not fit itself is refused."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from manifests.recipe import Recipe
from pipelines.extraction import Outcome, extract
from pipelines.inputs import find_inputs
from pipelines.trace_alignment import effect


def trace_with(
    examples: Path, tmp_path: Path, recipe: Recipe, change: Callable[[dict[str, Any]], None], name: str = "login-user"
) -> Outcome:
    folder = tmp_path / "trace"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(examples / "traces" / name, folder)
    trace = json.loads((folder / "trace.json").read_text())
    change(trace)
    (folder / "trace.json").write_text(json.dumps(trace))
    (item,) = [item for item in find_inputs([folder]).items if item.source == "trace.json"]
    outcome = extract(item, recipe)
    assert isinstance(outcome, Outcome)
    return outcome


def test_a_trace_is_a_conversation_of_screens_and_actions(examples: Path, tmp_path: Path, recipe: Recipe) -> None:
    told: dict[str, Any] = {}
    outcome = trace_with(examples, tmp_path, recipe, lambda trace: told.update(copy.deepcopy(trace)))
    (sample,) = [row for row in outcome.samples if row["task"] == "gui.action"]
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
        (lambda trace: trace["steps"][1]["action"].update(type="done"), "step_order"),
        (lambda trace: trace["steps"].reverse(), "step_order"),
        (lambda trace: [step.update(screenshot="step-0.png") for step in trace["steps"]], "misaligned"),
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


def answers(outcome: Outcome, task: str) -> list[tuple[str, str]]:
    rows = [row for row in outcome.samples if row["task"] == task]
    return [(row["messages"][0]["parts"][-1]["text"], row["messages"][1]["parts"][0]["text"]) for row in rows]


def test_operations_and_next_actions_tell_the_recorded_steps(examples: Path, tmp_path: Path, recipe: Recipe) -> None:
    outcome = trace_with(examples, tmp_path, recipe, lambda trace: None, name="choose-list")
    asked = "These are two screens in a row. What was done on the first one?"
    assert answers(outcome, "gui.operation") == [
        (asked, '"Mariana" was selected in the combobox "Natividad".'),
        (asked, 'The button "Submit" was clicked.'),
    ]
    next_actions = answers(outcome, "gui.next_action")
    assert [json.loads(answer)["action"] for _, answer in next_actions] == ["select", "click", "done"]
    history = [question.partition("Done so far: ")[2].partition("\n")[0] for question, _ in next_actions]
    selected = '"Mariana" was selected in the combobox "Natividad".'
    assert history == ["nothing.", selected, f'{selected} The button "Submit" was clicked.']
    shown = [row for row in outcome.samples if row["task"] == "gui.operation"]
    assert all([part["kind"] for part in row["messages"][0]["parts"]] == ["image", "image", "text"] for row in shown)


def test_a_step_without_a_visible_change_is_not_told_as_an_operation(examples: Path, tmp_path: Path, recipe: Recipe) -> None:
    def repeat(trace: dict[str, Any]) -> None:
        trace["steps"].insert(1, copy.deepcopy(trace["steps"][0]))
        trace["steps"][0]["action"]["type"] = "click"

    outcome = trace_with(examples, tmp_path, recipe, repeat)
    assert [(row["task"], row["reason"]) for row in outcome.dropped] == [("gui.operation", "no_visible_change")]
    assert "step 0" in outcome.dropped[0]["detail"]
    assert len(answers(outcome, "gui.operation")) == 3


def test_screenshots_of_no_step_are_told(examples: Path, tmp_path: Path, recipe: Recipe) -> None:
    outcome = trace_with(examples, tmp_path, recipe, lambda trace: trace["steps"].pop())
    assert [(row["reason"], "step-3.png" in row["detail"]) for row in outcome.dropped] == [("unused_screenshot", True)]


def test_text_that_appears_elsewhere_than_in_its_field_is_noticed() -> None:
    before = Image.new("RGB", (100, 100), "white")
    after = before.copy()
    after.paste("black", (10, 10, 30, 20))
    assert effect(0, "type", (5, 5, 50, 25), before, after).change == "seen"
    assert effect(0, "type", (5, 60, 50, 80), before, after).change == "elsewhere"
    assert effect(0, "click", (5, 60, 50, 80), before, after).aligned
    assert effect(0, "click", None, before, before).change == "none"
    assert effect(0, "wait", None, before, before).aligned
    assert effect(0, "click", None, before, Image.new("RGB", (50, 100))).change == "resized"
