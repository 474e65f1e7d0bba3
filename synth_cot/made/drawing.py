"""Pixels from truth: shapes on a background, and changes of rendering (light, blur, noise, compression) that leave it true.

Shapes are drawn at `SCALE` times the size and made smaller, so that edges are smooth. What a rendering may do is bounded so
that neighbouring colours stay apart: light changes by at most a fifth, blur stays under a pixel, noise under four grey levels.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from manifests.fingerprint import ID_DIGITS, sha256_bytes
from manifests.shards import MediaItem
from synth_cot.known import Box, Thing
from synth_cot.made.dice import Dice

SCALE = 3
COLOURS = {
    "red": (214, 40, 40), "blue": (38, 84, 214), "green": (34, 150, 60), "yellow": (240, 200, 30), "purple": (138, 48, 190),
    "orange": (244, 126, 20), "black": (24, 24, 24), "white": (250, 250, 250),
}  # fmt: skip
SHAPES = ("circle", "square", "triangle", "star", "diamond", "cross")


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """How a picture is rendered; nothing here changes what is on it.

    Attributes:
        ground, ground_to: grey levels of the background, from its top to its bottom.
        light: factor of all pixels.
        blur: radius in pixels.
        noise: standard deviation in grey levels.
        quality: of the JPEG.
    """

    ground: int
    ground_to: int
    light: float
    blur: float
    noise: float
    quality: int
    grain: int


def rendering(dice: Dice) -> Rendering:
    """A rendering by chance."""
    return Rendering(
        ground=dice.between(130, 175), ground_to=dice.between(130, 175), light=round(0.85 + 0.3 * dice.unit(), 3),
        blur=round(0.8 * dice.unit(), 2), noise=round(4 * dice.unit(), 2), quality=dice.between(80, 95),
        grain=dice.between(0, 2**31 - 1),
    )  # fmt: skip


def draw(things: Sequence[Thing], width: int, height: int, how: Rendering) -> MediaItem:
    """The picture of some things, as a JPEG."""
    levels = np.linspace(how.ground, how.ground_to, height * SCALE).round().astype(np.uint8)
    ground = np.repeat(np.repeat(levels[:, None, None], width * SCALE, axis=1), 3, axis=2)
    picture = Image.fromarray(ground)
    pen = ImageDraw.Draw(picture)
    for thing in things:
        _shape(pen, thing.shape, tuple(SCALE * side for side in thing.box), COLOURS[thing.colour])  # type: ignore[arg-type]
    picture = picture.resize((width, height), Image.Resampling.LANCZOS).filter(ImageFilter.GaussianBlur(how.blur))
    noise = np.random.Generator(np.random.PCG64(how.grain)).normal(0.0, how.noise, (height, width, 1))
    pixels = np.clip(np.asarray(picture, dtype=np.float64) * how.light + noise, 0, 255).round().astype(np.uint8)
    return stored(Image.fromarray(pixels), how.quality)


def stored(picture: Image.Image, quality: int) -> MediaItem:
    """A picture as it is stored."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    data = stream.getvalue()
    return MediaItem(
        media_id=sha256_bytes(data)[:ID_DIGITS], extension="jpg", height=picture.height, width=picture.width, data=data
    )


def _shape(pen: ImageDraw.ImageDraw, shape: str, box: Box, colour: tuple[int, int, int]) -> None:
    x0, y0, x1, y1 = box
    x, y, w, h = (x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2, (y1 - y0) / 2
    inner = (x0, y0, x1 - 1, y1 - 1)
    if shape == "circle":
        pen.ellipse(inner, fill=colour)
    elif shape == "square":
        pen.rectangle(inner, fill=colour)
    elif shape == "triangle":
        pen.polygon([(x, y0), (x1, y1), (x0, y1)], fill=colour)
    elif shape == "diamond":
        pen.polygon([(x, y0), (x1, y), (x, y1), (x0, y)], fill=colour)
    elif shape == "cross":
        pen.rectangle((x - w / 3, y0, x + w / 3, y1 - 1), fill=colour)
        pen.rectangle((x0, y - h / 3, x1 - 1, y + h / 3), fill=colour)
    elif shape == "star":
        turns = [(math.pi * (2 * point / 10 - 0.5), 1.0 if point % 2 == 0 else 0.42) for point in range(10)]
        pen.polygon([(x + w * size * math.cos(turn), y + h * size * math.sin(turn)) for turn, size in turns], fill=colour)
    else:
        raise ValueError(f"unknown shape {shape!r}: one of {', '.join(SHAPES)}")
