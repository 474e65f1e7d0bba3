"""What describes a screenshot, in whichever form: one list of elements, instructions with their boxes, questions with answers.

In this order the first one that stands beside ``NAME.png`` is the list of elements: ``NAME.gui.json`` (the documented form),
``NAME.json`` (Rico's view hierarchies, browsers' accessibility trees), ``NAME.xml`` (uiautomator and AT-SPI dumps). Rows of a
ScreenSpot-style set come in addition; alone they say where a few things are, not what else is on the screen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipelines.accessibility import accessibility_nodes, is_accessibility
from pipelines.accessibility_xml import xml_nodes
from pipelines.extraction import Drop
from pipelines.items import Attachment, Item, Quarantined
from pipelines.rico import is_rico, rico_nodes
from pipelines.screen_sets import ROLE, Target, read_targets
from pipelines.screens import Node, Screen, read_screen, settle
from pipelines.sidecars import BYTES_MAX, clean, parse_object, read_sidecar, text_field

FORMAT = "longreel-gui/1"


@dataclass(frozen=True, kw_only=True)
class Description:
    """What is known of a screenshot.

    Attributes:
        form: gui, rico, accessibility, xml or screens: what the elements, or without elements the targets, come from.
        screen: its elements; none where only a set's rows describe it.
        questions: question and answer that a person wrote.
        targets: instructions and what they mean, of a set.
        drops: rows of a set that were left out, and counts of the nodes of a tree that were.
    """

    form: str
    screen: Screen
    app: str = ""
    instruction: str = ""
    questions: tuple[tuple[str, str], ...] = ()
    targets: tuple[Target, ...] = ()
    drops: tuple[Drop, ...] = ()


def describes_screen(item: Item) -> bool:
    """Whether a picture's attached files make it a screenshot. A ``NAME.json`` or ``NAME.xml`` of another form does not."""
    if item.attachment(".gui.json") is not None or item.attachment(ROLE) is not None:
        return True
    tree, dump = item.attachment(".json"), item.attachment(".xml")
    if tree is not None and _tree(tree) is not None:
        return True
    if dump is None:
        return False
    with Path(dump.path).open("rb") as stream:
        head = stream.read(4096)
    return b"<hierarchy" in head or b"screencoord=" in head or b"accessibility." in head


def _tree(attached: Attachment) -> dict[str, Any] | None:
    """The object of a ``NAME.json`` when it is a tree of one of the known forms."""
    try:
        value = read_sidecar(attached)
    except Quarantined:
        return None
    return value if is_rico(value) or is_accessibility(value) else None


def read_description(item: Item, picture: tuple[int, int]) -> Description:
    """Everything that describes a screenshot.

    Args:
        picture: width and height of the decoded screenshot.

    Raises:
        Quarantined: a file that describes it is broken, or does not fit it.
    """
    described = _elements(item, picture)
    targets: list[Target] = []
    drops = list(described.drops)
    for rows in (attached for attached in item.attached if attached.role == ROLE):
        more, left_out = read_targets(rows, picture)
        targets += [target for target in more if target not in targets]
        drops += left_out
    return replace(described, targets=tuple(targets), drops=tuple(drops))


def _elements(item: Item, picture: tuple[int, int]) -> Description:
    own, beside, dump = (item.attachment(role) for role in (".gui.json", ".json", ".xml"))
    if own is not None:
        return _own(own, picture)
    tree = None if beside is None else _tree(beside)
    if tree is not None:
        assert beside is not None
        if is_rico(tree):
            app = tree.get("activity_name")
            return _settled("rico", rico_nodes(tree, picture, beside.source), picture, beside, str(app or ""))
        app = tree.get("app") or tree.get("url")
        return _settled("accessibility", accessibility_nodes(tree, picture, beside.source), picture, beside, str(app or ""))
    if dump is not None:
        if dump.bytes > BYTES_MAX:
            raise Quarantined("limit", "too_large", f"{dump.source}: {dump.bytes:,} bytes are more than {BYTES_MAX:,}", "gui")
        return _settled("xml", xml_nodes(Path(dump.path).read_bytes(), picture, dump.source), picture, dump, "")
    return Description(form="screens", screen=Screen(width=picture[0], height=picture[1], elements=()))


def _settled(form: str, nodes: list[Node], picture: tuple[int, int], attached: Attachment, app: str) -> Description:
    screen, left_out = settle(nodes, picture)
    drops = tuple(
        Drop(task="gui.element", stage="filter", reason=reason, detail=f"{attached.source}: {count} of {len(nodes)} elements")
        for reason, count in left_out.items()
    )
    return Description(form=form, screen=screen, app=clean(app), drops=drops)


def _own(attached: Attachment, picture: tuple[int, int]) -> Description:
    value = parse_object(Path(attached.path).read_bytes(), attached.source)
    if value.get("format") != FORMAT:
        detail = f"{attached.source} has format {value.get('format')!r}, not {FORMAT!r}"
        raise Quarantined("check", "bad_sidecar", detail, "gui")
    return Description(
        form="gui",
        screen=read_screen(value, picture, attached.source, "gui"),
        app=text_field(value, "app", attached),
        instruction=text_field(value, "instruction", attached),
        questions=tuple(_questions(value.get("questions"), attached)),
    )


def _questions(listed: Any, attached: Attachment) -> list[tuple[str, str]]:
    questions = []
    for place, entry in enumerate(listed if isinstance(listed, list) else [] if listed is None else [listed]):
        told = entry if isinstance(entry, dict) else {}
        pair = [clean(words) for words in (told.get("question"), told.get("answer")) if isinstance(words, str)]
        if len(pair) != 2 or not all(pair):
            detail = f"{attached.source}: question {place} has no question and answer as text"
            raise Quarantined("check", "bad_sidecar", detail, "gui")
        questions.append((pair[0], pair[1]))
    return questions
