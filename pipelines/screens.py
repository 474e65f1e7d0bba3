"""A screen and its elements: checked against the picture before anyone learns from them.

Boxes are pixels x0, y0, x1, y1 of the screenshot; models read and answer them in thousandths of its sides, so that an answer
does not depend on the size at which the picture is shown.

Two roads lead here. ``longreel-gui/1`` lists what is seen and nothing else, so a box that does not fit means that list and
picture do not belong together: the screenshot is quarantined (`read_screen`). Trees that a system writes down (Rico,
accessibility) hold much that is not seen; what does not show is left out and counted (`settle`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.items import Quarantined
from pipelines.sidecars import clean, number

GRID = 1000
STATES = ("checked", "disabled", "expanded", "selected")
INSIDE_MIN = 0.5
Box = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Element:
    """A control or text of a screen.

    Attributes:
        box: in pixels.
        states: which of `STATES` it is known to be, and ``not ...`` for those that it is known not to be.
    """

    id: str
    role: str
    text: str
    box: Box
    states: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As in the annotation payload."""
        value = {"id": self.id, "role": self.role, "text": self.text, "box": list(self.box)}
        return {**value, "states": list(self.states)} if self.states else value


@dataclass(frozen=True, kw_only=True)
class Screen:
    """What a screenshot shows."""

    width: int
    height: int
    elements: tuple[Element, ...]

    def scaled(self, box: Box) -> list[int]:
        """A box of pixels in thousandths of the screen."""
        sides = (self.width, self.height, self.width, self.height)
        return [round(GRID * value / side) for value, side in zip(box, sides, strict=True)]

    def point(self, x: float, y: float) -> list[int]:
        """A point of pixels in thousandths of the screen."""
        return [round(GRID * x / self.width), round(GRID * y / self.height)]

    def unique_names(self) -> list[Element]:
        """The elements whose role and text no other has."""
        counts = Counter((element.role, element.text) for element in self.elements)
        return [element for element in self.elements if element.text and counts[element.role, element.text] == 1]


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node of a tree that may be an element, its box in pixels of the picture and anywhere; None when it has none."""

    role: str
    text: str
    box: Box | None
    visible: bool = True
    states: tuple[str, ...] = ()


def settle(nodes: Sequence[Node], picture: tuple[int, int]) -> tuple[Screen, dict[str, int]]:
    """A screen of what shows of a tree's nodes, and how many were left out for which reason.

    A box that reaches over the edge is cut there when at least `INSIDE_MIN` of it is inside. A node is a duplicate when an
    earlier one has its role, text and box, or when it is a text that only repeats the control it stands in.

    Args:
        nodes: in the tree's order, parents first; ids are given in this order.
        picture: width and height in pixels.
    """
    left_out: Counter[str] = Counter()
    seen: set[tuple[str, str, Box]] = set()
    holders: dict[str, list[Box]] = defaultdict(list)
    elements: list[Element] = []
    for node in nodes:
        words = " ".join(clean(node.text).split())
        reason = _why_not(node, picture)
        if reason is None:
            assert node.box is not None
            x0, y0, x1, y1 = node.box
            cut = (max(0.0, x0), max(0.0, y0), min(float(picture[0]), x1), min(float(picture[1]), y1))
            box = (round(cut[0], 2), round(cut[1], 2), round(cut[2], 2), round(cut[3], 2))
            repeats = node.role == "text" and any(_holds(holder, box) for holder in holders[words.casefold()])
            if (node.role, words, box) in seen or repeats:
                reason = "duplicate"
            elif node.role == "text" and not words:
                reason = "textless"
        if reason is not None:
            left_out[reason] += 1
            continue
        seen.add((node.role, words, box))
        if node.role != "text" and words:
            holders[words.casefold()].append(box)
        elements.append(Element(id=f"e{len(elements) + 1}", role=node.role, text=words, box=box, states=node.states))
    return Screen(width=picture[0], height=picture[1], elements=tuple(elements)), dict(sorted(left_out.items()))


def _why_not(node: Node, picture: tuple[int, int]) -> str | None:
    """Why a node does not show, or None."""
    if not node.visible:
        return "invisible"
    if node.box is None:
        return "boxless"
    x0, y0, x1, y1 = node.box
    if not (x1 - x0 >= 1 and y1 - y0 >= 1):
        return "zero_size"
    inside = max(0.0, min(x1, picture[0]) - max(x0, 0)) * max(0.0, min(y1, picture[1]) - max(y0, 0))
    return None if inside >= INSIDE_MIN * (x1 - x0) * (y1 - y0) else "outside"


def _holds(outer: Box, inner: Box, slack: float = 2.0) -> bool:
    """Whether one box lies in another, give or take ``slack`` pixels."""
    return (
        outer[0] - slack <= inner[0]
        and outer[1] - slack <= inner[1]
        and inner[2] <= outer[2] + slack
        and inner[3] <= outer[3] + slack
    )


def read_screen(value: dict[str, Any], picture: tuple[int, int], name: str, modality: str) -> Screen:
    """A screen from its JSON, checked against the picture.

    Args:
        picture: width and height of the decoded screenshot.
        name: what messages call the file.

    Raises:
        Quarantined: sizes differ, an element is malformed, or a box is empty or lies outside the picture.
    """
    width, height = value.get("width"), value.get("height")
    if (width, height) != picture:
        detail = f"{name} declares {width}x{height} px, the picture has {picture[0]}x{picture[1]} px"
        raise Quarantined("check", "size_mismatch", detail, modality)
    listed = value.get("elements")
    if not isinstance(listed, list):
        raise Quarantined("check", "bad_sidecar", f"{name} has no list of elements", modality)
    elements = tuple(_element(entry, place, picture, name, modality) for place, entry in enumerate(listed))
    ids = Counter(element.id for element in elements)
    twice = sorted(identifier for identifier, count in ids.items() if count > 1)
    if twice:
        raise Quarantined("check", "bad_sidecar", f"{name} has element {twice[0]!r} twice", modality)
    return Screen(width=picture[0], height=picture[1], elements=elements)


def _element(entry: Any, place: int, picture: tuple[int, int], name: str, modality: str) -> Element:
    if not isinstance(entry, dict) or not isinstance(entry.get("role"), str):
        raise Quarantined("check", "bad_sidecar", f"{name}: element {place} has no role", modality)
    identifier = str(entry.get("id", f"e{place + 1}"))
    words = entry.get("text") or ""
    box = entry.get("box")
    values = [number(side) for side in box] if isinstance(box, list) and len(box) == 4 else [None]
    if not isinstance(words, str) or any(side is None for side in values):
        raise Quarantined(
            "check", "bad_sidecar", f"{name}: element {identifier!r} has no text or no box of four numbers", modality
        )
    x0, y0, x1, y1 = (float(side) for side in values if side is not None)
    if not (0 <= x0 < x1 <= picture[0] and 0 <= y0 < y1 <= picture[1]):
        detail = f"element {identifier!r} ({clean(words)[:40]!r}) has box {box}; the picture is {picture[0]}x{picture[1]} px"
        raise Quarantined("check", "boxes_outside", detail, modality)
    states = entry.get("states") or []
    known = {*STATES, *(f"not {state}" for state in STATES)}
    if not isinstance(states, list) or not all(isinstance(state, str) and state in known for state in states):
        detail = (
            f"{name}: element {identifier!r} has states {states!r}; there are {', '.join(STATES)}, each with or without 'not '"
        )
        raise Quarantined("check", "bad_sidecar", detail, modality)
    text = " ".join(clean(words).split())
    return Element(id=identifier, role=clean(entry["role"]), text=text, box=(x0, y0, x1, y1), states=tuple(states))
