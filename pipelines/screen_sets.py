"""Sets of screenshots described by one list: rows of picture, box and instruction, as ScreenSpot and its successors have them.

    [{"img_filename": "web_3b0a.png", "bbox": [42, 1102, 197, 70], "instruction": "view the details of the item",
      "data_type": "text", "data_source": "shop"}, ...]

Three ways to write the box are in use, and nothing in the file names them; this is which is read, the same for every row of
a kind and never guessed from where the box falls:

- a row with ``img_size`` (ScreenSpot-Pro): x0, y0, x1, y1 in pixels of a picture of that size;
- a row whose four numbers all lie in [0, 1] (the data sets' Parquet editions): x0, y0, x1, y1 as shares of the sides;
- any other row (ScreenSpot, ScreenSpot-v2): x, y, width, height in pixels.

Each picture is an item of its own and carries its rows; what is wrong with a row becomes a row of `dropped` with its number.
Rows that belong to no picture stay with the list, which then is an item itself.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

from pipelines.duplicates import Signature
from pipelines.extraction import Drop, Extracted, Setting
from pipelines.items import Attachment, Quarantined
from pipelines.pictures import PictureStore
from pipelines.screens import Box
from pipelines.sidecars import BYTES_MAX, clean, number, refuse_constant

ROLE = ".screens"
TASK = "gui.instruction"


@dataclass(frozen=True, kw_only=True)
class Target:
    """An instruction and the box it means, in pixels of the picture; ``kind`` and ``source`` as the set gives them."""

    instruction: str
    box: Box
    kind: str
    source: str


def parse_rows(data: bytes, name: str) -> list[Any]:
    """The rows of a list.

    Raises:
        Quarantined: it is too large, not UTF-8, not JSON or not a list.
    """
    try:
        if len(data) > BYTES_MAX:
            raise ValueError(f"{len(data):,} bytes are more than {BYTES_MAX:,}")
        rows = json.loads(data.decode("utf-8-sig"), parse_constant=refuse_constant)
        if not isinstance(rows, list):
            raise ValueError("it holds no list")
    except (ValueError, RecursionError) as error:
        raise Quarantined("check", "bad_sidecar", f"{name}: {str(error).splitlines()[0]}", "gui") from error
    return rows


def rows_by_picture(rows: list[Any]) -> tuple[dict[str, list[tuple[int, Any]]], list[tuple[int, str, str]]]:
    """Rows with their numbers (from 0) by file name, and (number, reason, detail) of those that name no file."""
    found: dict[str, list[tuple[int, Any]]] = defaultdict(list)
    problems = []
    for place, row in enumerate(rows):
        name = row.get("img_filename") if isinstance(row, dict) else None
        if isinstance(name, str) and name.strip():
            found[name.strip()].append((place, row))
        else:
            problems.append((place, "bad_entry", "it names no picture: img_filename is missing or no text"))
    return dict(found), problems


def read_targets(attached: Attachment, picture: tuple[int, int]) -> tuple[list[Target], list[Drop]]:
    """The targets of a picture, each checked to lie in it, and what is wrong with the other rows.

    Args:
        attached: of role `ROLE`; its content holds the rows.
        picture: width and height of the decoded picture.
    """
    assert attached.content is not None
    drops: list[Drop] = []
    read: list[tuple[int, Target]] = []

    def drop(place: int, reason: str, detail: str) -> None:
        words = f"{attached.source}: entry {place}: {detail}"
        drops.append(Drop(task=TASK, stage="filter", reason=reason, detail=words))

    for place, row in json.loads(attached.content):
        instruction = row.get("instruction")
        if not isinstance(instruction, str) or not clean(instruction):
            drop(place, "bad_entry", "it has no instruction")
            continue
        declared = row.get("img_size")
        if declared is not None and declared != list(picture):
            drop(place, "size_mismatch", f"img_size {declared} is not that of the picture, {list(picture)}")
            continue
        box = _box(row, picture)
        if box is None:
            drop(place, "bad_entry", f"bbox {row.get('bbox')!r} is no list of four numbers")
            continue
        x0, y0, x1, y1 = box
        if not (0 <= x0 < x1 <= picture[0] and 0 <= y0 < y1 <= picture[1]):
            size = f"{picture[0]}x{picture[1]}"
            drop(place, "boxes_outside", f"bbox {row['bbox']}, read as {[round(side, 2) for side in box]}, is not in {size} px")
            continue
        kind, source = (clean(str(row.get(key, ""))) for key in ("data_type", "data_source"))
        read.append((place, Target(instruction=clean(instruction), box=box, kind=kind, source=source)))
    return _unambiguous(read, drop), drops


def _unambiguous(read: list[tuple[int, Target]], drop: Any) -> list[Target]:
    """Targets whose instruction means one box: an equal row is left out once, two boxes for one instruction both are."""
    boxes = Counter(target.instruction.casefold() for target in {target for _, target in read})
    kept: list[Target] = []
    for place, target in read:
        if boxes[target.instruction.casefold()] > 1:
            drop(place, "ambiguous", f"instruction {target.instruction[:60]!r} has another box too")
        elif target in kept:
            drop(place, "exact_duplicate", "the same instruction and box again")
        else:
            kept.append(target)
    return kept


def _box(row: dict[str, Any], picture: tuple[int, int]) -> Box | None:
    given = row.get("bbox")
    values = [number(side) for side in given] if isinstance(given, list) and len(given) == 4 else []
    sides = [side for side in values if side is not None]
    if len(sides) != 4:
        return None
    x0, y0, x1, y1 = sides
    if row.get("img_size") is not None:
        return (x0, y0, x1, y1)
    if all(0 <= side <= 1 for side in sides):
        return (x0 * picture[0], y0 * picture[1], x1 * picture[0], y1 * picture[1])
    return (x0, y0, x0 + x1, y0 + y1)


def read_screen_set(setting: Setting) -> Extracted:
    """A list some of whose rows belong to no picture: each of them becomes a dropped row.

    Raises:
        Quarantined: it is no list of rows.
    """
    item = setting.item
    attached = item.attachment(ROLE)
    if attached is None or attached.content is None:
        parse_rows(setting.path.read_bytes(), item.source)
        raise Quarantined("check", "bad_sidecar", f"{item.source}: none of its rows is about a picture", "gui")
    drops = [
        Drop(task=TASK, stage="filter", reason=reason, detail=f"entry {place}: {detail}")
        for place, reason, detail in json.loads(attached.content)
    ]
    return Extracted(modality="gui", samples=[], store=PictureStore(), signature=Signature(kind="exact"), drops=drops)
