"""A look survives storage and cropping; thumbnails tell apart what hashes confuse."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from manifests.looks import AGREEMENT_MIN, WINDOWS, agreement, look
from pipelines.duplicates import Signature, find_links, look_distance

BITS = 6


def stored(picture: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


def links(*pictures: Image.Image) -> list[tuple[int, int]]:
    signatures = [Signature.of_picture(look(picture)) for picture in pictures]
    names = [str(place) for place in range(len(pictures))]
    return [(link.left, link.right) for link in find_links(names, signatures, near_image_bits=BITS, near_text_similarity=0.8)]


@pytest.mark.parametrize("sides", [(0.05, 0, 0, 0), (0, 0.05, 0.05, 0), (0.025, 0.025, 0.025, 0.025), (0.05, 0.05, 0.05, 0.05)])
@pytest.mark.parametrize("name", ["coffee.jpg", "chelsea.jpg", "china.jpg", "rocket.jpg"])
def test_a_crop_is_found_from_either_side(examples: Path, name: str, sides: tuple[float, ...]) -> None:
    picture = Image.open(examples / "images" / name).convert("RGB")
    width, height = picture.size
    box = (width * sides[0], height * sides[1], width * (1 - sides[2]), height * (1 - sides[3]))
    copy = stored(picture.crop(tuple(map(round, box))).resize((width // 2, height // 2)), 40)
    assert links(picture, copy) == links(copy, picture) == [(0, 1)]


def test_different_pictures_are_not_linked(examples: Path) -> None:
    paths = sorted(path for path in (examples / "images").iterdir() if path.suffix in (".jpg", ".png"))
    assert len(paths) > 25
    assert links(*(Image.open(path).convert("RGB") for path in paths)) == []


def test_equal_hashes_of_different_drawings_are_told_apart() -> None:
    pictures = []
    for offset in (60, 84):
        picture = Image.new("RGB", (256, 256), "white")
        draw = ImageDraw.Draw(picture)
        draw.ellipse((20, 20, 236, 236), outline="black", width=12)
        draw.ellipse((offset, 100, offset + 44, 144), fill="black")
        pictures.append(picture)
    one, other = (look(picture) for picture in pictures)
    assert one is not None
    assert other is not None
    assert agreement(one.small, other.small) < AGREEMENT_MIN
    assert agreement(one.small, one.small) == 1.0
    assert look_distance(one.windows, one.windows) == 0
    assert links(*pictures) == []


def test_a_look_has_every_window_and_a_flat_picture_has_none(examples: Path) -> None:
    found = look(Image.open(examples / "images" / "coffee.jpg"))
    assert found is not None
    assert len(found.windows) == 8 * WINDOWS
    assert look(Image.new("RGB", (64, 64), (90, 90, 90))) is None


def test_a_hash_does_not_depend_on_the_order_of_sums(examples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import manifests.looks as module

    picture = Image.open(examples / "images" / "china.jpg")
    plain = look(picture)
    waves = module._waves()
    # Summed one by one in whole numbers of Python, which never round.
    values = np.asarray(picture.convert("L").resize((96, 96), Image.Resampling.BOX)).astype(object) - 128
    exact = waves.astype(np.int64).astype(object) @ values @ waves.astype(np.int64).astype(object).T
    assert plain is not None
    first = exact[:8, :8].astype(np.float64).ravel()
    bits = "".join(str(int(value > np.median(first[1:]))) for value in first)
    assert int(bits, 2) == plain.whole
