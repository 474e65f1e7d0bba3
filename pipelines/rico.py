"""Android view hierarchies as Rico publishes them: ``N.json`` beside ``N.jpg``.

Two editions are read: the raw hierarchy (``activity.root``, with class, visibility, text and content-desc) and the semantic
annotation (the root itself, with ``componentLabel``, and ``iconClass`` or ``text``). Bounds are x0, y0, x1, y1 on a screen of
1440 x 2560, whatever the size of the picture; a picture on its side has the sides swapped. (Deka et al., UIST 2017; Liu et
al., UIST 2018.)

Containers are not elements: what is listed is what a person would name, told by the view's class or, for a class of the
app's own, by the nearest ancestor class that is Android's.
"""

from __future__ import annotations

from typing import Any

from pipelines.items import Quarantined
from pipelines.screens import Box, Node
from pipelines.sidecars import number

SIDES = (1440.0, 2560.0)
ASPECT_TOLERANCE = 0.03
NODES_MAX = 50_000

ROLES = {
    "AutoCompleteTextView": "textbox", "Button": "button", "CheckBox": "checkbox", "CheckedTextView": "checkbox",
    "CompoundButton": "checkbox", "EditText": "textbox", "FloatingActionButton": "button", "ImageButton": "button",
    "ImageView": "image", "MultiAutoCompleteTextView": "textbox", "NumberPicker": "spinbutton", "ProgressBar": "progressbar",
    "RadioButton": "radio", "RatingBar": "slider", "SearchView": "textbox", "SeekBar": "slider", "Spinner": "combobox",
    "Switch": "switch", "SwitchCompat": "switch", "TextView": "text", "ToggleButton": "switch",
}  # fmt: skip
LABELS = {
    "Checkbox": "checkbox", "Icon": "image", "Image": "image", "Input": "textbox", "Number Stepper": "spinbutton",
    "On/Off Switch": "switch", "Radio Button": "radio", "Slider": "slider", "Text": "text", "Text Button": "button",
    "Video": "image",
}  # fmt: skip
CHECKED_ROLES = frozenset({"checkbox", "radio", "switch"})


def is_rico(value: Any) -> bool:
    """Whether an object is a view hierarchy in one of the two editions."""
    return root_of(value) is not None


def root_of(value: Any) -> dict[str, Any] | None:
    """The root view of either edition."""
    if not isinstance(value, dict):
        return None
    activity = value.get("activity")
    root = activity.get("root") if isinstance(activity, dict) else None
    if isinstance(root, dict):
        return root
    return value if isinstance(value.get("bounds"), list) and ("class" in value or "ancestors" in value) else None


def rico_nodes(value: dict[str, Any], picture: tuple[int, int], name: str) -> list[Node]:
    """The views that are elements, parents first, their boxes scaled to the picture.

    Raises:
        Quarantined: the picture has not the shape of a screen of 1440 x 2560, or the tree is too large.
    """
    root = root_of(value)
    assert root is not None
    sides = SIDES if picture[0] <= picture[1] else (SIDES[1], SIDES[0])
    scale = (picture[0] / sides[0], picture[1] / sides[1])
    if abs(scale[0] / scale[1] - 1) > ASPECT_TOLERANCE:
        size = f"{picture[0]}x{picture[1]}"
        detail = f"{name} describes a screen of {sides[0]:g}x{sides[1]:g}, the picture of {size} px has another shape"
        raise Quarantined("check", "size_mismatch", detail, "gui")
    nodes: list[Node] = []
    waiting: list[tuple[Any, bool]] = [(root, True)]
    visited = 0
    while waiting:
        view, shown = waiting.pop()
        visited += 1
        if visited > NODES_MAX:
            raise Quarantined("limit", "too_large", f"{name} has more than {NODES_MAX:,} views", "gui")
        if not isinstance(view, dict):  # Rico writes null for a child that was gone when it was asked
            continue
        shown = shown and view.get("visibility", "visible") == "visible"
        role = role_of(view)
        if role is not None:
            visible = shown and view.get("visible-to-user", True) is not False
            nodes.append(
                Node(
                    role=role,
                    text=_text(view),
                    box=_box(view.get("bounds"), scale),
                    visible=visible,
                    states=_states(view, role),
                )
            )
        children = view.get("children")
        waiting += [(child, shown) for child in reversed(children if isinstance(children, list) else [])]
    return nodes


def role_of(view: dict[str, Any]) -> str | None:
    """What a view is for a person; None for containers."""
    label = view.get("componentLabel")
    if isinstance(label, str):
        return LABELS.get(label)
    ancestors = view.get("ancestors")
    names = [view.get("class"), *(ancestors if isinstance(ancestors, list) else [])]
    role = android_role([name for name in names if isinstance(name, str)])
    if role in ("text", "image") and view.get("clickable") is True:
        return "button"
    return role


def android_role(classes: list[str]) -> str | None:
    """The role of the first of these class names (nearest first) that is a widget of Android."""
    return next((ROLES[end] for name in classes if (end := name.rpartition(".")[2].rpartition("$")[2]) in ROLES), None)


def _text(view: dict[str, Any]) -> str:
    words = view.get("text")
    if isinstance(words, str) and words.strip():
        return words
    told = view.get("content-desc")
    for word in told if isinstance(told, list) else [told]:
        if isinstance(word, str) and word.strip():
            return word
    icon = view.get("iconClass")
    return icon.replace("_", " ") if isinstance(icon, str) else ""


def _box(bounds: Any, scale: tuple[float, float]) -> Box | None:
    values = [number(side) for side in bounds] if isinstance(bounds, list) and len(bounds) == 4 else []
    sides = [side for side in values if side is not None]
    if len(sides) != 4:
        return None
    return (sides[0] * scale[0], sides[1] * scale[1], sides[2] * scale[0], sides[3] * scale[1])


def _states(view: dict[str, Any], role: str) -> tuple[str, ...]:
    states = []
    if role in CHECKED_ROLES and isinstance(view.get("checked"), bool):
        states.append("checked" if view["checked"] else "not checked")
    if isinstance(view.get("enabled"), bool) and role not in ("text", "image"):
        states.append("not disabled" if view["enabled"] else "disabled")
    return tuple(states)
