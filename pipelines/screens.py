"""A screen and its elements, as ``longreel-gui/1`` writes them: checked against the picture before anyone learns from them.

Boxes are pixels x0, y0, x1, y1 of the screenshot; models read and answer them in thousandths of its sides, so that an answer
does not depend on the size at which the picture is shown.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from pipelines.items import Quarantined
from pipelines.sidecars import clean, number

GRID = 1000
Box = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Element:
    """A control or text of a screen; ``box`` in pixels."""

    id: str
    role: str
    text: str
    box: Box

    def to_json(self) -> dict[str, Any]:
        """As in the annotation payload."""
        return {"id": self.id, "role": self.role, "text": self.text, "box": list(self.box)}


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
    return Element(id=identifier, role=clean(entry["role"]), text=" ".join(clean(words).split()), box=(x0, y0, x1, y1))
