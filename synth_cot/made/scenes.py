"""What is on a drawn picture, and what is edited between two: things in cells of a coarse grid, so that none hides another.

Every box keeps its distance from its cell's border, edits included, so no box ever touches another.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from manifests.shards import MediaItem
from synth_cot.known import Box, Thing
from synth_cot.made.dice import Dice
from synth_cot.made.drawing import COLOURS, SHAPES, draw, rendering

WIDTH, HEIGHT = 224, 168
COLUMNS, ROWS = 5, 4
SMALL, LARGE = (16, 20), (28, 34)
EDITS_MAX = 4
NO_EDIT_SHARE = 0.15


def place(dice: Dice, cell: int, sides: tuple[int, int]) -> Box:
    """A box of a size between ``sides`` pixels somewhere in a cell."""
    column, row = cell % COLUMNS, cell // COLUMNS
    wide, high = WIDTH // COLUMNS, HEIGHT // ROWS
    side = dice.between(*sides)
    x = column * wide + dice.between(3, wide - side - 3)
    y = row * high + dice.between(3, high - side - 3)
    return (float(x), float(y), float(x + side), float(y + side))


def things(dice: Dice, count: int, kinds: int) -> list[Thing]:
    """Some things of at most ``kinds`` different colours and shapes each."""
    colours, shapes = dice.some(sorted(COLOURS), kinds), dice.some(SHAPES, kinds)
    cells = dice.some(range(COLUMNS * ROWS), count)
    return [
        Thing(
            id=f"t{number}", shape=dice.pick(shapes), colour=dice.pick(colours),
            box=place(dice, cell, dice.pick((SMALL, LARGE))),
        )
        for number, cell in enumerate(cells, start=1)
    ]  # fmt: skip


def _shown(found: list[Thing], dice: Dice) -> tuple[dict[str, Any], MediaItem]:
    how = rendering(dice)
    item = draw(found, WIDTH, HEIGHT, how)
    things = [asdict(thing) | {"box": list(thing.box)} for thing in found]
    payload = {"media_id": item.media_id, "width": WIDTH, "height": HEIGHT, "things": things, "rendering": asdict(how)}
    return payload, item


def shapes(*name: object) -> tuple[dict[str, Any], list[MediaItem]]:
    """The payload of kind ``shapes`` and its picture."""
    dice = Dice("shapes", *name)
    payload, item = _shown(things(dice, dice.between(6, 14), dice.between(2, 4)), dice)
    return payload, [item]


def edits(*name: object) -> tuple[dict[str, Any], list[MediaItem]]:
    """The payload of kind ``edits`` and its two pictures, each rendered in its own way; some pairs have no edit."""
    dice = Dice("edits", *name)
    before = things(dice, dice.between(6, 11), 4)
    free = [cell for cell in range(COLUMNS * ROWS) if not any(_cell(thing.box) == cell for thing in before)]
    wanted = 0 if dice.unit() < NO_EDIT_SHARE else dice.between(1, EDITS_MAX)
    after, made = list(before), []
    for number, victim in enumerate(dice.some(before, wanted), start=1):
        kind = dice.pick(("removed", "added", "recoloured", "resized"))
        if kind == "added":
            new = Thing(
                id=f"n{number}", shape=dice.pick(SHAPES), colour=dice.pick(sorted(COLOURS)),
                box=place(dice, free.pop(dice.between(0, len(free) - 1)), LARGE),
            )  # fmt: skip
            after.append(new)
            box = new.box
        elif kind == "removed":
            after.remove(victim)
            box = victim.box
        else:
            new = _changed(dice, victim, kind)
            after[after.index(victim)] = new
            box = (
                min(victim.box[0], new.box[0]), min(victim.box[1], new.box[1]),
                max(victim.box[2], new.box[2]), max(victim.box[3], new.box[3]),
            )  # fmt: skip
        made.append({"id": f"d{number}", "kind": kind, "thing": new.id if kind == "added" else victim.id, "box": list(box)})
    one, first = _shown(before, dice)
    other, second = _shown(after, dice)
    return {"before": one, "after": other, "edits": made}, [first, second]


def _cell(box: Box) -> int:
    return int(box[1] // (HEIGHT // ROWS)) * COLUMNS + int(box[0] // (WIDTH // COLUMNS))


def _changed(dice: Dice, thing: Thing, kind: str) -> Thing:
    if kind == "recoloured":
        return replace(thing, colour=dice.pick([colour for colour in sorted(COLOURS) if colour != thing.colour]))
    small = thing.box[2] - thing.box[0] <= SMALL[1]
    return replace(thing, box=place(dice, _cell(thing.box), LARGE if small else SMALL))
