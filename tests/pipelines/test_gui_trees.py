"""Trees that systems write down, in their own published forms: what shows becomes elements in pixels of the picture."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from pipelines.accessibility import accessibility_nodes
from pipelines.extraction import Outcome
from pipelines.screens import settle


def picture(width: int, height: int, *boxes: tuple[int, int, int, int]) -> bytes:
    """A PNG with rectangles."""
    image = Image.new("RGB", (width, height), "white")
    for box in boxes:
        ImageDraw.Draw(image).rectangle(box, fill="navy")
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def view(kind: str, bounds: list[int] | None, **more: Any) -> dict[str, Any]:
    """A view with the keys that Rico's raw hierarchies have."""
    value: dict[str, Any] = {
        "scrollable-horizontal": False, "draw": True, "ancestors": ["android.view.View", "java.lang.Object"],
        "clickable": False, "pressed": "not_pressed", "focusable": False, "long-clickable": False, "enabled": True,
        "visibility": "visible", "content-desc": [None], "focused": False, "selected": False,
        "scrollable-vertical": False, "adapter-view": False, "abs-pos": True, "pointer": "9d5e7a4", "class": kind,
        "visible-to-user": True,
    }  # fmt: skip
    if bounds is not None:
        value |= {"bounds": bounds, "rel-bounds": bounds}
    return {**value, **{key.replace("_", "-") if key == "content_desc" else key: item for key, item in more.items()}}


RICO = {
    "activity_name": "com.example.shop/com.example.shop.LoginActivity",
    "activity": {
        "root": view(
            "com.android.internal.policy.PhoneWindow$DecorView",
            [0, 0, 1440, 2560],
            children=[
                view(
                    "android.widget.LinearLayout",
                    [0, 84, 1440, 2392],
                    children=[
                        view("android.support.v7.widget.AppCompatTextView", [56, 200, 700, 320], text="Welcome",
                             ancestors=["android.widget.TextView", "android.view.View", "java.lang.Object"]),
                        view("android.widget.EditText", [56, 400, 1384, 540], text="Email"),
                        view("com.example.shop.FancyButton", [56, 600, 1384, 760], text="Sign in", clickable=True,
                             ancestors=["android.widget.Button", "android.widget.TextView", "android.view.View"]),
                        view("android.widget.ImageButton", [1300, 100, 1420, 180], content_desc=["Close"], clickable=True),
                        view("android.widget.CheckBox", [56, 800, 500, 900], text="Remember me", checked=True),
                        None,
                        view("android.widget.Button", [56, 1000, 1384, 1100], text="Hidden", **{"visible-to-user": False}),
                        view("android.widget.FrameLayout", [0, 1200, 1440, 1400], visibility="gone",
                             children=[view("android.widget.Button", [0, 1200, 1440, 1400], text="Inside gone")]),
                        view("android.widget.Button", [56, 1500, 56, 1600], text="No width"),
                        view("android.widget.Button", [1500, 1500, 1700, 1600], text="Off screen"),
                        view("android.widget.Button", None, text="No bounds"),
                        view("android.widget.EditText", [56, 400, 1384, 540], text="Email"),
                    ],
                )
            ],
        ),
        "added_fragments": [],
        "active_fragments": [],
    },
    "is_keyboard_deployed": False,
    "request_id": "2742",
}  # fmt: skip


def elements(outcome: Outcome) -> list[tuple[str, str, list[float]]]:
    assert outcome.annotation is not None, outcome.quarantine
    truth = json.loads(outcome.annotation[1])
    return [(element["role"], element["text"], element["box"]) for element in truth["elements"]]


def left_out(outcome: Outcome) -> dict[str, str]:
    return {row["reason"]: row["detail"] for row in outcome.dropped if row["task"] == "gui.element"}


def test_a_rico_hierarchy_is_scaled_to_its_picture(read: Callable[..., Outcome]) -> None:
    outcome = read("2742.png", picture(360, 640, (14, 150, 346, 190)), {".json": json.dumps(RICO).encode()})
    assert elements(outcome) == [
        ("text", "Welcome", [14, 50, 175, 80]),
        ("textbox", "Email", [14, 100, 346, 135]),
        ("button", "Sign in", [14, 150, 346, 190]),
        ("button", "Close", [325, 25, 355, 45]),
        ("checkbox", "Remember me", [14, 200, 125, 225]),
    ]
    assert left_out(outcome) == {
        "invisible": "2742.json: 2 of 11 elements",
        "zero_size": "2742.json: 1 of 11 elements",
        "outside": "2742.json: 1 of 11 elements",
        "boxless": "2742.json: 1 of 11 elements",
        "duplicate": "2742.json: 1 of 11 elements",
    }
    assert json.loads(outcome.annotation[1])["app"].startswith("com.example.shop/")  # type: ignore[index]
    asked = {
        row["messages"][0]["parts"][1]["text"]: row["messages"][1]["parts"][0]["text"]
        for row in outcome.samples
        if row["task"] in ("gui.locate", "gui.qa")
    }
    where = 'Where is the button "Sign in"? Answer with its box [x0, y0, x1, y1] in thousandths.'
    assert asked[where] == "[39, 234, 961, 297]"
    assert asked['Is the checkbox "Remember me" checked? Answer yes or no.'] == "yes"


def test_a_rico_picture_on_its_side_has_the_sides_swapped(read: Callable[..., Outcome]) -> None:
    lying = {"activity_name": "a", "activity": {"root": view("android.widget.Button", [256, 144, 512, 288], text="Go")}}
    outcome = read("1.png", picture(640, 360), {".json": json.dumps(lying).encode()})
    assert elements(outcome) == [("button", "Go", [64, 36, 128, 72])]
    wrong = read("1.png", picture(500, 500), {".json": json.dumps(lying).encode()})
    assert wrong.quarantine is not None
    assert (wrong.quarantine["reason"], "500x500" in wrong.quarantine["detail"]) == ("size_mismatch", True)


def test_a_rico_semantic_annotation(read: Callable[..., Outcome]) -> None:
    semantic = {
        "ancestors": ["android.widget.FrameLayout"], "class": "DecorView", "bounds": [0, 0, 1440, 2560],
        "clickable": False,
        "children": [
            {"class": "AppCompatImageButton", "bounds": [0, 84, 224, 308], "clickable": True, "componentLabel": "Icon",
             "iconClass": "arrow_backward", "resource-id": "toolbar", "ancestors": ["android.widget.ImageButton"]},
            {"class": "Toolbar", "bounds": [0, 84, 1440, 308], "componentLabel": "Toolbar", "ancestors": []},
            {"class": "AppCompatButton", "bounds": [84, 2000, 1356, 2200], "componentLabel": "Text Button",
             "textButtonClass": "continue", "text": "CONTINUE", "ancestors": ["android.widget.Button"]},
        ],
    }  # fmt: skip
    outcome = read("7.png", picture(360, 640), {".json": json.dumps(semantic).encode()})
    assert elements(outcome) == [("image", "arrow backward", [0, 21, 56, 77]), ("button", "CONTINUE", [21, 500, 339, 550])]


def ax(identifier: int, role: str, name: str, box: Any, **more: Any) -> dict[str, Any]:
    """A node as Chrome's protocol writes it, with the box that a recorder added."""
    return {
        "nodeId": str(identifier), "ignored": False, "role": {"type": "role", "value": role},
        "chromeRole": {"type": "internalRole", "value": 9}, "name": {"type": "computedString", "value": name, "sources": []},
        "properties": [], "childIds": [], "backendDOMNodeId": identifier, "frameId": "A1", "union_bound": box, **more,
    }  # fmt: skip


def test_a_devtools_tree_with_the_boxes_of_the_page(read: Callable[..., Outcome]) -> None:
    checked = [{"name": "checked", "value": {"type": "tristate", "value": "false"}}]
    tree = {
        "url": "shop",
        "viewport": {"x": 0, "y": 1000, "width": 200, "height": 100},
        "nodes": [
            ax(1, "RootWebArea", "Shop", [0, 0, 200, 4000]),
            ax(2, "button", "Buy", [20, 1010, 60, 20]),
            ax(3, "StaticText", "Buy", [30, 1012, 40, 16]),
            ax(4, "InlineTextBox", "Buy", [30, 1012, 40, 16]),
            ax(5, "checkbox", "Gift", {"x": 20, "y": 1050, "width": 10, "height": 10}, properties=checked),
            ax(6, "link", "Imprint", [20, 3900, 60, 20]),
            ax(7, "link", "Nowhere", None),
            ax(8, "link", "Skipped", [0, 1000, 50, 10], ignored=True),
            ax(9, "textbox", "Name", [100, 1010, 80, 20], value={"type": "string", "value": "Ada"}),
        ],
    }
    outcome = read("page.png", picture(400, 200), {".json": json.dumps(tree).encode()})
    assert elements(outcome) == [
        ("button", "Buy", [40, 20, 160, 60]),
        ("checkbox", "Gift", [40, 100, 60, 120]),
        ("textbox", "Ada", [200, 20, 360, 60]),
    ]
    assert {reason: detail.split(": ")[1] for reason, detail in left_out(outcome).items()} == {
        "boxless": "1 of 7 elements",
        "duplicate": "1 of 7 elements",
        "invisible": "1 of 7 elements",
        "outside": "1 of 7 elements",
    }
    answers = [row["messages"][1]["parts"][0]["text"] for row in outcome.samples if row["task"] == "gui.qa"]
    assert answers == ["no"]
    tree["viewport"] = {"width": 200, "height": 200}
    wrong = read("page.png", picture(400, 200), {".json": json.dumps(tree).encode()})
    assert wrong.quarantine is not None
    assert wrong.quarantine["reason"] == "size_mismatch"


def test_a_playwright_snapshot(read: Callable[..., Outcome]) -> None:
    box = {"x": 10, "y": 10, "width": 50, "height": 20}
    tree = {
        "role": "WebArea", "name": "Page",
        "children": [
            {"role": "tab", "name": "Home", "selected": True, "boundingBox": box},
            {"role": "generic", "children": [{"role": "link", "name": "More", "boundingBox": {**box, "y": 50}}]},
            {"role": "dialog", "hidden": True, "children": [{"role": "button", "name": "OK", "boundingBox": {**box, "y": 80}}]},
        ],
    }  # fmt: skip
    outcome = read("page.png", picture(100, 120), {".json": json.dumps(tree).encode()})
    assert elements(outcome) == [("tab", "Home", [10, 10, 60, 30]), ("link", "More", [10, 50, 60, 70])]
    assert list(left_out(outcome)) == ["invisible"]


def test_every_example_screen_is_the_same_as_an_accessibility_tree(examples: Path) -> None:
    """Its elements as a snapshot in CSS pixels of a scrolled page, at two picture pixels each, read back."""
    names = sorted((examples / "gui").glob("*.gui.json"))
    for path in names:
        sidecar = json.loads(path.read_text())
        size = (sidecar["width"], sidecar["height"])
        children = []
        for element in sidecar["elements"]:
            x0, y0, x1, y1 = (side / 2 for side in element["box"])
            box = {"x": x0, "y": y0 + 500, "width": x1 - x0, "height": y1 - y0}
            role = "img" if element["role"] == "shape" else element["role"]
            children.append({"role": role, "name": element["text"], "boundingBox": box})
        viewport = {"x": 0, "y": 500, "width": size[0] / 2, "height": size[1] / 2}
        nodes = accessibility_nodes({"role": "WebArea", "viewport": viewport, "children": children}, size, path.name)
        screen, left_out = settle(nodes, size)
        told = [(element.text, element.box) for element in screen.elements]
        wanted = [(" ".join(element["text"].split()), tuple(element["box"])) for element in sidecar["elements"]]
        assert (told, left_out) == (wanted, {}), path.name
    assert len(names) == 55


UIAUTOMATOR = """<?xml version='1.0' encoding='UTF-8' standalone='yes' ?>
<hierarchy rotation="0"><node index="0" text="" resource-id="" class="android.widget.FrameLayout" package="com.android.settings"
 content-desc="" checkable="false" checked="false" clickable="false" enabled="true" bounds="[0,0][360,640]">
 <node index="0" text="Wi-Fi" class="android.widget.TextView" content-desc="" clickable="false" enabled="true"
  bounds="[20,100][120,130]" />
 <node index="1" text="" class="android.widget.Switch" content-desc="Wi-Fi on" checkable="true" checked="true" clickable="true"
  enabled="true" bounds="[280,100][340,130]" />
 <node index="2" text="Off" class="android.widget.Button" content-desc="" clickable="true" enabled="true"
  visible-to-user="false" bounds="[20,200][120,230]" />
</node></hierarchy>"""

ATSPI = """<desktop-frame xmlns:st="https://accessibility.ubuntu.example.org/ns/state"
 xmlns:cp="https://accessibility.ubuntu.example.org/ns/component" xmlns:val="https://accessibility.ubuntu.example.org/ns/value">
 <application name="soffice"><frame name="Untitled" st:showing="true" st:visible="true" cp:screencoord="(0, 0)"
  cp:size="(360, 640)"/>
  <push-button name="Save" st:showing="true" st:visible="true" st:enabled="true" cp:screencoord="(100, 50)" cp:size="(32, 32)"/>
  <check-box name="Wrap" st:showing="true" st:visible="true" cp:screencoord="(100, 150)" cp:size="(20, 20)"/>
  <menu-item name="Print" st:enabled="true" cp:screencoord="(0, 0)" cp:size="(0, 0)"/>
 </application></desktop-frame>"""


def test_dumps_in_xml(read: Callable[..., Outcome]) -> None:
    android = read("phone.png", picture(360, 640), {".xml": UIAUTOMATOR.encode()})
    assert elements(android) == [("text", "Wi-Fi", [20, 100, 120, 130]), ("switch", "Wi-Fi on", [280, 100, 340, 130])]
    assert json.loads(android.annotation[1])["elements"][1]["states"] == ["checked", "not disabled"]  # type: ignore[index]
    desktop = read("desk.png", picture(360, 640), {".xml": ATSPI.encode()})
    assert elements(desktop) == [("button", "Save", [100, 50, 132, 82]), ("checkbox", "Wrap", [100, 150, 120, 170])]
    assert list(left_out(desktop)) == ["invisible"]


@pytest.mark.parametrize(
    ("suffix", "data", "reason"),
    [
        (".xml", b'<!DOCTYPE x [<!ENTITY a "aaaa">]><hierarchy>&a;</hierarchy>', "bad_sidecar"),
        (".xml", b"<hierarchy><node bounds=", "bad_sidecar"),
        (
            ".json",
            json.dumps({"activity_name": "a", "activity": {"root": view("android.view.View", [0, 0, 1, 1])}}).encode(),
            None,
        ),
        (".json", b'{"role": "button", "name": "x", "children": [], "viewport": 3}', "bad_sidecar"),
        (".json", b'{"role": "WebArea", "box": [0, 0, 180, 320], "children": []}', "size_mismatch"),
        (".xml", b'<hierarchy><node class="android.widget.Button" bounds="[0,0][1080,1920]"/></hierarchy>', "size_mismatch"),
    ],
)
def test_a_tree_that_is_broken_or_empty_says_so(
    suffix: str, data: bytes, reason: str | None, read: Callable[..., Outcome]
) -> None:
    outcome = read("a.png", picture(360, 640), {suffix: data})
    if reason is None:
        assert (outcome.status, outcome.dropped[0]["reason"]) == ("filtered", "no_sample")
    else:
        assert outcome.quarantine is not None
        assert outcome.quarantine["reason"] == reason
