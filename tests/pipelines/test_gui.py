"""Screens: boxes are checked, questions have one answer, answers are thousandths of the picture."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.extraction import Outcome
from pipelines.gui import named_target
from pipelines.screen_questions import screen_questions
from pipelines.screens import Element, Node, Screen, settle


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
        ({"states": ["open"]}, "bad_sidecar", "'open'"),
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


def test_what_a_person_asked_about_a_screen_is_asked(login: tuple[Path, dict[str, Any]], read: Callable[..., Outcome]) -> None:
    picture, sidecar = login
    sidecar["questions"] = [{"question": "Which name has to be entered?", "answer": "keli"}]
    outcome = read("a.png", picture, {".gui.json": json.dumps(sidecar).encode()})
    asked = [
        (row["messages"][0]["parts"][1]["text"], row["messages"][1]["parts"][0]["text"])
        for row in outcome.samples
        if row["task"] == "gui.qa"
    ]
    assert ("Which name has to be entered?", "keli") in asked
    sidecar["questions"] = [{"question": "Why?"}]
    outcome = read("a.png", picture, {".gui.json": json.dumps(sidecar).encode()})
    assert outcome.quarantine is not None
    assert "question 0" in outcome.quarantine["detail"]


def test_questions_of_elements_have_the_answer_that_the_elements_give() -> None:
    def element(place: int, role: str, text: str, *states: str) -> Element:
        return Element(id=f"e{place}", role=role, text=text, box=(0, 20 * place, 50, 20 * place + 15), states=states)

    elements = (
        element(0, "checkbox", "Mail", "checked"),
        element(1, "checkbox", "Post", "not checked"),
        element(2, "checkbox", "Fax", "not disabled"),
        element(3, "button", "Send", "disabled"),
        element(4, "button", "Send", "checked"),
    )
    found = {each.question: each.answer for each in screen_questions(Screen(width=50, height=100, elements=elements), "seed")}
    assert found == {
        'Is the checkbox "Mail" checked? Answer yes or no.': "yes",
        'Is the checkbox "Post" checked? Answer yes or no.': "no",
        "How many checkboxes are on this screen? Answer with a number.": "3",
        "How many buttons are on this screen? Answer with a number.": "2",
        "Which text has the highest of the checkboxes on this screen?": "Mail",
        "Which text has the lowest of the checkboxes on this screen?": "Fax",
        "Which text has the highest of the buttons on this screen?": "Send",
        "Which text has the lowest of the buttons on this screen?": "Send",
    }
    covered = (*elements[:3], Element(id="e9", role="checkbox", text="Fax", box=(0, 42, 50, 50)))
    asked = {each.question for each in screen_questions(Screen(width=50, height=100, elements=covered), "seed")}
    assert "How many checkboxes are on this screen? Answer with a number." not in asked
    assert "Which text has the lowest of the checkboxes on this screen?" not in asked


def test_what_does_not_show_of_a_tree_is_left_out_and_counted() -> None:
    screen, left_out = settle(
        [
            Node(role="button", text="Login", box=(10, 10, 60, 30)),
            Node(role="text", text="login", box=(20, 12, 50, 28)),
            Node(role="button", text="Login", box=(10, 10, 60, 30)),
            Node(role="text", text="login", box=(20, 62, 50, 78)),
            Node(role="button", text="Gone", box=(10, 40, 60, 60), visible=False),
            Node(role="button", text="Flat", box=(10, 40, 60, 40)),
            Node(role="button", text="Far", box=(90, 40, 140, 60)),
            Node(role="button", text="Edge", box=(60, 40, 120, 60)),
            Node(role="button", text="Nowhere", box=None),
            Node(role="text", text=" ", box=(0, 0, 5, 5)),
        ],
        (100, 100),
    )
    assert [(element.id, element.text, element.box) for element in screen.elements] == [
        ("e1", "Login", (10, 10, 60, 30)),
        ("e2", "login", (20, 62, 50, 78)),
        ("e3", "Edge", (60, 40, 100, 60)),
    ]
    assert left_out == {"boxless": 1, "duplicate": 2, "invisible": 1, "outside": 1, "textless": 1, "zero_size": 1}
