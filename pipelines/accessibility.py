"""Accessibility trees of browsers: ``NAME.json`` beside the screenshot ``NAME.png``.

Read is the flat list of Chrome's DevTools protocol (``Accessibility.getFullAXTree``: ``nodes`` with ``role.value``,
``name.value``, ``properties``, ``ignored``) and the nested snapshot of Playwright and Puppeteer (``role``, ``name``,
``checked``, ``children``). Neither holds boxes by itself; whoever records them adds one to each node, as

- ``boundingBox``, ``box``, ``bounds`` or ``rect``: ``{"x", "y", "width", "height"}`` (``locator.boundingBox()``), or
- ``union_bound`` or ``bound``: ``[x, y, width, height]`` (WebArena); a list under the first names is read alike.

Boxes are CSS pixels of the window. The tree's object may say how they meet the picture: ``viewport`` {x, y, width, height} is
the part of the page that the picture shows, x and y being how far it is scrolled; without it the picture is the window, and a
tree whose root is clearly wider or narrower is refused: its boxes would all lie in the wrong place.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipelines.items import Quarantined
from pipelines.screens import STATES, Box, Node
from pipelines.sidecars import number

NODES_MAX = 50_000
WIDTH_TOLERANCE = 0.05
BOX_KEYS = ("boundingBox", "box", "bounds", "rect", "union_bound", "bound")

ROLES = {
    "StaticText": "text", "button": "button", "cell": "text", "checkbox": "checkbox", "columnheader": "text",
    "combobox": "combobox", "disclosuretriangle": "button", "heading": "text", "image": "image", "img": "image",
    "labeltext": "text", "link": "link", "listbox": "listbox", "menuitem": "menuitem", "menuitemcheckbox": "menuitem",
    "menuitemradio": "menuitem", "meter": "progressbar", "option": "option", "popupbutton": "combobox",
    "progressbar": "progressbar", "radio": "radio", "rowheader": "text", "searchbox": "textbox", "slider": "slider",
    "spinbutton": "spinbutton", "statictext": "text", "switch": "switch", "tab": "tab", "text": "text", "textbox": "textbox",
    "togglebutton": "button", "treeitem": "option",
}  # fmt: skip


def is_accessibility(value: Any) -> bool:
    """Whether an object is a tree in one of the two forms."""
    if not isinstance(value, dict):
        return False
    nodes = value.get("nodes")
    if isinstance(nodes, list):
        return any(isinstance(node, dict) and "role" in node for node in nodes)
    return "role" in value and isinstance(value.get("children"), list)


def accessibility_nodes(value: dict[str, Any], picture: tuple[int, int], name: str) -> list[Node]:
    """The nodes that are elements, in the tree's order, their boxes scaled to the picture.

    Raises:
        Quarantined: the viewport has no size or another shape than the picture, or the tree is too large.
    """
    x, y, scale = _viewport(value, picture, name)
    nodes: list[Node] = []
    for place, (node, shown) in enumerate(_walk(value)):
        if place >= NODES_MAX:
            raise Quarantined("limit", "too_large", f"{name} has more than {NODES_MAX:,} nodes", "gui")
        role = ROLES.get(said(node.get("role")), ROLES.get(said(node.get("role")).lower()))
        if role is None:
            continue
        told = properties(node)
        box = _box(node)
        if box is not None:
            box = ((box[0] - x) * scale, (box[1] - y) * scale, (box[2] - x) * scale, (box[3] - y) * scale)
        visible = shown and node.get("ignored") is not True and told.get("hidden") is not True
        words = said(node.get("name"))
        if role in ("textbox", "combobox") and said(node.get("value")):
            words = said(node.get("value"))  # what a field shows is its content, then its name
        nodes.append(Node(role=role, text=words, box=box, visible=visible, states=_states(told)))
    return nodes


def said(value: Any) -> str:
    """A value as DevTools wraps it (``{"type", "value"}``) or as it is; empty when it is no text or number."""
    if isinstance(value, dict):
        value = value.get("value")
    if isinstance(value, str):
        return value
    return f"{value}" if isinstance(value, int | float) and not isinstance(value, bool) else ""


def properties(node: dict[str, Any]) -> dict[str, Any]:
    """States by name from either form."""
    told = {key: node[key] for key in (*STATES, "hidden") if key in node}
    listed = node.get("properties")
    for entry in listed if isinstance(listed, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("name"), str):
            value = entry.get("value")
            told[entry["name"]] = value.get("value") if isinstance(value, dict) else value
    return told


def _walk(value: dict[str, Any]) -> Iterator[tuple[dict[str, Any], bool]]:
    """Every node with whether no ancestor hides it; the flat list in its own order, which Chrome writes parents first."""
    flat = value.get("nodes")
    if isinstance(flat, list):
        yield from ((node, True) for node in flat if isinstance(node, dict))
        return
    waiting: list[tuple[Any, bool]] = [(value, True)]
    while waiting:
        node, shown = waiting.pop()
        if not isinstance(node, dict):
            continue
        yield node, shown
        children = node.get("children")
        shown = shown and node.get("hidden") is not True
        waiting += [(child, shown) for child in reversed(children if isinstance(children, list) else [])]


def _viewport(value: dict[str, Any], picture: tuple[int, int], name: str) -> tuple[float, float, float]:
    viewport = value.get("viewport")
    if viewport is None:
        check_root(_box(next((node for node, _ in _walk(value)), {})), picture, f"{name} names no viewport, and")
        return 0.0, 0.0, 1.0
    told = viewport if isinstance(viewport, dict) else {}
    width, height = number(told.get("width")), number(told.get("height"))
    if width is None or height is None or not (width > 0 and height > 0):
        raise Quarantined("check", "bad_sidecar", f"{name}: viewport {viewport!r} has no width and height", "gui")
    scale = picture[0] / width
    if abs(height * scale - picture[1]) > max(2.0, 0.01 * picture[1]):
        detail = f"{name} has a viewport of {width:g}x{height:g}, the picture of {picture[0]}x{picture[1]} px has another shape"
        raise Quarantined("check", "size_mismatch", detail, "gui")
    return number(told.get("x")) or 0.0, number(told.get("y")) or 0.0, scale


def check_root(box: Box | None, picture: tuple[int, int], name: str) -> None:
    """Refuses a tree whose root, where it has a box, is not about as wide as the picture; scroll bars are allowed for.

    Raises:
        Quarantined: ``size_mismatch``.
    """
    if box is not None and abs(box[2] - box[0] - picture[0]) > WIDTH_TOLERANCE * picture[0]:
        detail = f"{name} its root is {box[2] - box[0]:g} wide, the picture {picture[0]} px"
        raise Quarantined("check", "size_mismatch", detail, "gui")


def _box(node: dict[str, Any]) -> Box | None:
    for key in BOX_KEYS:
        found = node.get(key)
        if isinstance(found, dict):
            found = [found.get(side) for side in ("x", "y", "width", "height")]
        values = [number(side) for side in found] if isinstance(found, list) and len(found) == 4 else []
        sides = [side for side in values if side is not None]
        if len(sides) == 4:
            return (sides[0], sides[1], sides[0] + sides[2], sides[1] + sides[3])
    return None


def _states(told: dict[str, Any]) -> tuple[str, ...]:
    states = []
    for state in STATES:
        value = told.get(state)
        if value in (True, "true"):
            states.append(state)
        elif value in (False, "false"):
            states.append(f"not {state}")
    return tuple(states)
