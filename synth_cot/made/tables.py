"""Drawn tables: goods or places by name, and whole numbers; rendered with the font that comes with Pillow."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from manifests.shards import MediaItem
from synth_cot.made.dice import Dice
from synth_cot.made.drawing import Rendering, rendering, stored

ROW_NAMES = {
    "Item": ("Apples", "Bread", "Candles", "Dates", "Eggs", "Flour", "Grapes", "Honey", "Ink", "Jam", "Kettles", "Lemons"),
    "Town": ("Arden", "Brook", "Cliffe", "Dale", "Elm", "Ford", "Grove", "Hill", "Isle", "Kirk", "Lake", "Moor"),
}
COLUMN_NAMES = {"Item": ("Price", "Sold", "Stock", "Orders"), "Town": ("People", "Farms", "Schools", "Boats")}
CELL = (64, 22)
FONT = 13


def table(*name: object) -> tuple[dict[str, Any], list[MediaItem]]:
    """The payload of kind ``table`` and its picture."""
    dice = Dice("table", *name)
    head = dice.pick(sorted(ROW_NAMES))
    columns = [head, *dice.some(COLUMN_NAMES[head], dice.between(2, 3))]
    rows = [
        [label, *(str(dice.between(2, 98)) for _ in columns[1:])] for label in dice.some(ROW_NAMES[head], dice.between(3, 6))
    ]
    how = rendering(dice)
    item = _draw([columns, *rows], how)
    payload = {
        "media_id": item.media_id, "width": item.width, "height": item.height, "columns": columns, "rows": rows,
        "rendering": asdict(how),
    }  # fmt: skip
    return payload, [item]


def _draw(lines: list[list[str]], how: Rendering) -> MediaItem:
    width, height = CELL[0] * len(lines[0]) + 1, CELL[1] * len(lines) + 1
    picture = Image.new("RGB", (width, height), (how.ground + 75,) * 3)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(FONT)
    for row, line in enumerate(lines):
        for column, words in enumerate(line):
            x, y = column * CELL[0], row * CELL[1]
            pen.rectangle((x, y, x + CELL[0], y + CELL[1]), outline=(90, 90, 90))
            pen.text((x + 5, y + 3), words, fill=(20, 20, 20), font=font)
    picture = picture.filter(ImageFilter.GaussianBlur(how.blur / 2))
    noise = np.random.Generator(np.random.PCG64(how.grain)).normal(0.0, how.noise, (height, width, 1))
    pixels = np.clip(np.asarray(picture, dtype=np.float64) + noise, 0, 255).round().astype(np.uint8)
    return stored(Image.fromarray(pixels), how.quality)
