"""When a control of a screen can be asked about: its box holds, its name names it alone, and it is plain what is meant.

Every GUI family asks here, so that they agree on what is ambiguous.
"""

from __future__ import annotations

from synth_cot.known import Box, Element, Screen
from synth_cot.question import relative_box

NAMES = {
    "button": ("button", "buttons"), "checkbox": ("checkbox", "checkboxes"), "combobox": ("drop-down list", "drop-down lists"),
    "image": ("picture", "pictures"), "link": ("link", "links"), "listbox": ("list box", "list boxes"),
    "menuitem": ("menu item", "menu items"), "radio": ("radio button", "radio buttons"), "slider": ("slider", "sliders"),
    "spinbutton": ("number field", "number fields"), "tab": ("tab", "tabs"), "text": ("text", "texts"),
    "textbox": ("text field", "text fields"),
}  # fmt: skip
"""How a role is called, for one and for several. A role that is not here is not asked about."""

_LONGEST_NAME = 60


def area(box: Box) -> float:
    """Square pixels of a box; 0 when it has none."""
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def shared(left: Box, right: Box) -> float:
    """Square pixels that two boxes share."""
    return area((max(left[0], right[0]), max(left[1], right[1]), min(left[2], right[2]), min(left[3], right[3])))


def overlap(left: Box, right: Box) -> float:
    """Intersection over union of two boxes in pixels."""
    common = shared(left, right)
    return common / (area(left) + area(right) - common) if common else 0.0


def wrong_box(screen: Screen, element: Element) -> str | None:
    """What is wrong with a control's box, or None."""
    x0, y0, x1, y1 = element.box
    if not (0 <= x0 < x1 <= screen.width and 0 <= y0 < y1 <= screen.height):
        return f"box {list(element.box)} of {element.id} does not lie in {screen.width}x{screen.height} px"
    r0, s0, r1, s1 = relative_box(element.box, screen.width, screen.height)
    if r1 - r0 < 5 or s1 - s0 < 5:
        return f"box {list(element.box)} of {element.id} is too small to be pointed at"
    return None


def unnamed(screen: Screen, element: Element) -> tuple[str, str] | None:
    """Reason and detail when a control cannot be named by role and text, or None."""
    if element.role not in NAMES:
        return "unknown_role", f"{element.id} has role {element.role!r}"
    if not element.text:
        return "no_text", f"{element.id} has no text"
    if len(element.text) > _LONGEST_NAME or any(quote in element.text for quote in '“”"'):
        return "unquotable", f"the text of {element.id} is long or holds quotes: {element.text[:80]!r}"
    if wrong := wrong_box(screen, element):
        return "wrong_box", wrong
    twins = [
        other.id for other in screen.elements if other.text.casefold() == element.text.casefold() and other.role == element.role
    ]
    if len(twins) > 1:
        return "ambiguous", f"{', '.join(twins)} are all {element.role} {element.text!r}"
    return None


def called(element: Element) -> str:
    """How a prompt or a step names a control."""
    return f"the {NAMES[element.role][0]} “{element.text}”"
