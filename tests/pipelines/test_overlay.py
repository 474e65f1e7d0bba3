"""Thumbnails laid over each other: a crop is found, encoding forgiven, a moved piece is not."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pipelines.overlay import ENCODED, apart, thumbnail, unpack

SIZE = (480, 320)


def screen(piece: tuple[int, int]) -> Image.Image:
    """Windows and buttons, with one more at a place."""
    rng = np.random.default_rng(7)
    picture = Image.new("RGB", SIZE, (40, 60, 90))
    draw = ImageDraw.Draw(picture)
    for x, y, width, height, grey in rng.integers((0, 0, 10, 10, 30), (440, 290, 120, 60, 200), (60, 5)).tolist():
        draw.rectangle((x, y, x + width, y + height), fill=(grey,) * 3)
    draw.rectangle((*piece, piece[0] + 40, piece[1] + 40), fill=(255, 255, 255))
    return picture


def film(*pictures: Image.Image) -> np.ndarray:
    return unpack(b"".join(thumbnail(picture) for picture in pictures))


def encoded(picture: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return Image.open(stream)


STILL = film(*[screen((100, 100))] * 4)
TIMES = np.arange(4.0)


@pytest.mark.parametrize("crop", [(0.0, 0.0), (0.01, 0.04), (0.05, 0.0), (0.025, 0.025)])
def test_a_crop_is_found_from_either_side(crop: tuple[float, float]) -> None:
    left, top = round(crop[0] * SIZE[0]), round(crop[1] * SIZE[1])
    part = (0, 0, *SIZE) if crop == (0, 0) else (left, top, left + round(0.95 * SIZE[0]), top + round(0.95 * SIZE[1]))
    copy = film(*[encoded(screen((100, 100)).crop(part), 40)] * 4)
    for one, other in ((STILL, copy), (copy, STILL)):
        found = apart(one, TIMES, other, TIMES, 1.0)
        assert found is not None
        assert found.copies, found
        assert found.moved <= 1


@pytest.mark.parametrize("crop", [False, True])
def test_a_moved_piece_is_seen(crop: bool) -> None:
    later = screen((300, 200))
    other = film(*[later.crop((12, 6, 468, 310)) if crop else later] * 4)
    found = apart(STILL, TIMES, other, TIMES, 1.0)
    assert found is not None
    assert not found.copies
    assert found.difference > 1.5 * ENCODED


def test_a_film_that_moves_may_be_a_moment_off() -> None:
    moving = film(*[screen((20 + 60 * place, 120)) for place in range(7)])
    later = film(*[screen((20 + 60 * place + 20, 120)) for place in range(7)])
    times = np.arange(7.0)
    found = apart(moving, times, later, times, 1.0)
    assert found is not None
    assert ENCODED < found.difference < found.moved
    assert found.copies


def test_what_moves_elsewhere_is_no_copy_though_the_rest_is_one() -> None:
    rng = np.random.default_rng(3)
    walks = [film(*[screen((int(x), int(y))) for x, y in rng.integers((20, 20), (400, 250), (7, 2))]) for _ in range(2)]
    times = np.arange(7.0)
    found = apart(walks[0], times, walks[1], times, 1.0)
    assert found is not None
    assert found.difference <= found.moved  # nothing but what moves is different
    assert found.alike < 0.3
    assert not found.copies


def test_key_looks_that_do_not_fall_together_tell_nothing() -> None:
    assert apart(STILL, TIMES, STILL, TIMES + 40, 1.0) is None
    assert apart(STILL[:0], TIMES[:0], STILL, TIMES, 1.0) is None
    found = apart(STILL[:1], TIMES[:1], STILL, TIMES, 1.0)
    assert found is not None
    assert (found.difference, found.moved) == (0.0, 0.0)
