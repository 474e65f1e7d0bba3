"""Accessibility trees as XML: ``NAME.xml`` beside the screenshot ``NAME.png``, in pixels of the picture.

Read are the dumps of Android's uiautomator (``<hierarchy><node class= text= content-desc= bounds="[x0,y0][x1,y1]"/>``) and of
Linux desktops over AT-SPI as OSWorld writes them (``<push-button name= st:showing= cp:screencoord="(x, y)"
cp:size="(w, h)"/>``; only the end of a namespaced name is looked at, because the namespaces differ by system).

A document type is refused before parsing: no dump has one, and entities are how small XML becomes large.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree

from pipelines.accessibility import check_root
from pipelines.items import Quarantined
from pipelines.rico import CHECKED_ROLES, android_role
from pipelines.screens import Box, Node
from pipelines.sidecars import BYTES_MAX

NODES_MAX = 50_000
_BOUNDS = re.compile(r"\[(-?\d+),(-?\d+)\]\[(-?\d+),(-?\d+)\]")
_PAIR = re.compile(r"\(?\s*(-?\d+)\s*,\s*(-?\d+)\s*\)?")

ROLES = {
    "check-box": "checkbox", "check-menu-item": "menuitem", "combo-box": "combobox", "entry": "textbox", "heading": "text",
    "icon": "image", "image": "image", "label": "text", "link": "link", "list-item": "option", "menu": "menuitem",
    "menu-item": "menuitem", "page-tab": "tab", "paragraph": "text", "password-text": "textbox", "progress-bar": "progressbar",
    "push-button": "button", "radio-button": "radio", "radio-menu-item": "menuitem", "slider": "slider",
    "spin-button": "spinbutton", "static": "text", "table-cell": "text", "text": "textbox", "toggle-button": "button",
    "button": "button",
}  # fmt: skip


def xml_nodes(data: bytes, picture: tuple[int, int], name: str) -> list[Node]:
    """The nodes of a dump that are elements, parents first.

    Raises:
        Quarantined: it is no XML, holds a document type, is too large, is neither kind of dump, or is of another screen size.
    """
    if len(data) > BYTES_MAX:
        raise Quarantined("limit", "too_large", f"{name}: {len(data):,} bytes are more than {BYTES_MAX:,}", "gui")
    if b"<!" in data.replace(b"<!--", b"") or b"\0" in data:
        raise Quarantined("check", "bad_sidecar", f"{name} holds a document type, which no screen dump has", "gui")
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise Quarantined("check", "bad_sidecar", f"{name}: {error}", "gui") from error
    android = root.tag == "hierarchy"
    if android and len(root):
        check_root(_bounds(root[0].attrib.get("bounds", "")), picture, f"{name}:")
    nodes = []
    for place, (element, shown) in enumerate(_walk(root)):
        if place >= NODES_MAX:
            raise Quarantined("limit", "too_large", f"{name} has more than {NODES_MAX:,} nodes", "gui")
        told = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
        node = _android(told, shown) if android else _desktop(element, told, shown)
        if node is not None:
            nodes.append(node)
    if not android and not any(node.box for node in nodes):
        raise Quarantined("check", "bad_sidecar", f"{name} is neither a uiautomator nor an AT-SPI dump", "gui")
    return nodes


def _walk(root: ElementTree.Element) -> Iterator[tuple[ElementTree.Element, bool]]:
    waiting = [(root, True)]
    while waiting:
        element, shown = waiting.pop()
        yield element, shown
        waiting += [(child, shown) for child in reversed(element)]


def _android(told: dict[str, str], shown: bool) -> Node | None:
    role = android_role([told.get("class", "")])
    if role in ("text", "image") and told.get("clickable") == "true":
        role = "button"
    if role is None:
        return None
    states = []
    if role in CHECKED_ROLES and told.get("checked") in ("true", "false"):
        states.append("checked" if told["checked"] == "true" else "not checked")
    if told.get("enabled") in ("true", "false") and role not in ("text", "image"):
        states.append("not disabled" if told["enabled"] == "true" else "disabled")
    words = told.get("text", "").strip() or told.get("content-desc", "")
    visible = shown and told.get("visible-to-user", "true") == "true"
    return Node(role=role, text=words, box=_bounds(told.get("bounds", "")), visible=visible, states=tuple(states))


def _bounds(words: str) -> Box | None:
    found = _BOUNDS.fullmatch(words)
    if found is None:
        return None
    x0, y0, x1, y1 = (float(side) for side in found.groups())
    return (x0, y0, x1, y1)


def _desktop(element: ElementTree.Element, told: dict[str, str], shown: bool) -> Node | None:
    role = ROLES.get(element.tag.rpartition("}")[2])
    if role is None:
        return None
    corner, size = _PAIR.fullmatch(told.get("screencoord", "")), _PAIR.fullmatch(told.get("size", ""))
    box: Box | None = None
    if corner and size:
        x, y, width, height = (float(side) for side in (*corner.groups(), *size.groups()))
        box = (x, y, x + width, y + height)
    states = []
    if "checked" in told or role in CHECKED_ROLES:
        states.append("checked" if told.get("checked") == "true" else "not checked")
    # AT-SPI writes only the states that hold: a shown node says showing, and what is not shown says nothing.
    visible = shown and told.get("showing") == "true" and told.get("visible", "true") == "true"
    words = told.get("name", "").strip() or (element.text or "")
    if role in ("textbox", "combobox") and (element.text or "").strip():
        words = element.text or ""
    return Node(role=role, text=words, box=box, visible=visible, states=tuple(states))
