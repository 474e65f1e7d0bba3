"""What a picture looks like, small enough to keep for every picture of an archive, and whether two pictures look the same.

A look is the picture's perceptual hash (pHash: which of its 64 lowest cosine coefficients lie above their median) and the same
hash of 24 windows of it: every cut of up to 5 % of its width or height from either side. A copy that was cropped is then near
one window of the original, where the hash of the whole is not: of 693 pictures cropped by 5 % at a random place the whole
finds two in five within 6 bits, the windows 99 %. All 25 come from one product of small matrices, as cheap as one hash.

Whole numbers below 2**53 are exact in double precision whatever the order of the sum, so a look is the same on every machine.

Coefficients that are almost zero, as in flags and patterns, fall on either side of the median by noise. Such pictures are told
by the outline of their thumbnail instead, which counts only steps in brightness that noise does not make.

Hashes of simple drawings collide. Two pictures are therefore only the same when their thumbnails agree as well, laid over
each other at the best of 625 crops: correlated by at least `AGREEMENT_MIN`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

HASH_BITS = 64
CROPS = ((0.0, 1.0), (0.0, 0.95), (0.025, 0.975), (0.05, 1.0), (0.05, 0.95))
WINDOWS = len(CROPS) ** 2
AGREEMENT_MIN = 0.97
FLAT_DEVIATION = 4.0
OUTLINE_STEP = 4
_FREQUENCIES = 8
_GRID = 96
_WEIGHT = 1 << 14
_SMALL = 32
_CELLS = 12
_EDGES = (0.0, 0.0125, 0.025, 0.0375, 0.05)


@dataclass(frozen=True, kw_only=True)
class Look:
    """A picture, as it is compared.

    Attributes:
        windows: its hash and those of its windows, 64 bits each, big-endian; the whole is first.
        small: grey thumbnail of 32 x 32 bytes, whatever the picture's shape.
    """

    windows: bytes
    small: bytes

    @property
    def whole(self) -> int:
        """The hash of the whole picture."""
        return int.from_bytes(self.windows[:8], "big")


def upright_rgb(opened: Image.Image) -> Image.Image:
    """A decoded picture as it is seen: upright, RGB, transparency over white, 16 bits stretched to 8."""
    picture = ImageOps.exif_transpose(opened)
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        whole = picture.convert("RGBA")
        white = Image.new("RGBA", whole.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, whole).convert("RGB")
    if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
        values = np.asarray(picture, dtype=np.float64)
        span = float(values.max() - values.min()) or 1.0
        return Image.fromarray(((values - values.min()) / span * 255).astype(np.uint8)).convert("RGB")
    return picture.convert("RGB")


def look(picture: Image.Image) -> Look | None:
    """How a picture looks; None for a picture so flat that its hash would be noise."""
    grey = picture.convert("L")
    small = grey.resize((_SMALL, _SMALL), Image.Resampling.BOX)
    if float(np.asarray(small).std()) < FLAT_DEVIATION:
        return None
    values = np.asarray(grey.resize((_GRID, _GRID), Image.Resampling.BOX), dtype=np.float64) - 128
    waves = _waves()
    count, low = len(CROPS), _FREQUENCIES
    coefficients = (waves @ values @ waves.T).reshape(count, low, count, low).transpose(0, 2, 1, 3).reshape(-1, low * low)
    # The first coefficient is the brightness: it would only tell light pictures from dark ones.
    above = coefficients > np.median(coefficients[:, 1:], axis=1, keepdims=True)
    return Look(windows=np.packbits(above, axis=1).tobytes(), small=small.tobytes())


@lru_cache(maxsize=1)
def _waves() -> NDArray[np.float64]:
    """Rows that turn a line of `_GRID` pixels into its lowest cosine coefficients within each crop, in whole numbers."""
    edges = np.arange(_GRID + 1) / _GRID
    rows = []
    for start, end in CROPS:
        inside = np.clip((edges - start) / (end - start), 0, 1)
        for frequency in range(_FREQUENCIES):
            integral = inside if frequency == 0 else np.sin(np.pi * frequency * inside) / (np.pi * frequency)
            rows.append(np.diff(integral) * _GRID)
    return np.rint(np.array(rows) * _WEIGHT)


def outlines(small: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Where thumbnails get brighter, to the right and downwards, by more than `OUTLINE_STEP`: 2 x 28 bits each.

    Args:
        small: [n, 1024], thumbnails as of `Look.small`.
    """
    cells = small.reshape(-1, _SMALL, _SMALL).astype(np.int64)
    wide, tall = cells.reshape(-1, 4, 8, 8, 4).sum((2, 4)), cells.reshape(-1, 8, 4, 4, 8).sum((2, 4))
    steps = [np.diff(wide, axis=2).reshape(-1, 28), np.diff(tall, axis=1).reshape(-1, 28)]
    bits = np.concatenate(steps, axis=1) > OUTLINE_STEP * 32
    return np.packbits(np.pad(bits, ((0, 0), (8, 0))), axis=1).view(">u8").astype(np.uint64).ravel()


def agreement(one: bytes, other: bytes) -> float:
    """Correlation of two thumbnails at the best crop of up to 5 % of either: 1.0 for the same picture."""
    return max(_agreement(one, other), _agreement(other, one))


def _agreement(cropped: bytes, whole: bytes) -> float:
    crops, all_of_it = _cells()
    first, second = (
        np.frombuffer(data, dtype=np.uint8).reshape(_SMALL, _SMALL).astype(np.float64) for data in (cropped, whole)
    )
    target = all_of_it @ second @ all_of_it.T
    target = (target - target.mean()).ravel()
    grid = (crops @ first @ crops.T).reshape(-1, _CELLS, len(crops) // _CELLS, _CELLS).transpose(0, 2, 1, 3)
    views = grid.reshape(-1, _CELLS * _CELLS)
    views = views - views.mean(axis=1, keepdims=True)
    scale = np.sqrt((views * views).sum(axis=1) * (target @ target))
    # Rounded: the last bits of a sum depend on the machine, and the verdict must not.
    return round(float(np.max(views @ target / np.maximum(scale, 1e-9))), 6)


@lru_cache(maxsize=1)
def _cells() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows that average a line of a thumbnail to `_CELLS` cells: of every crop, and of the whole."""
    pixels = np.arange(_SMALL)

    def rows(start: float, end: float) -> NDArray[np.float64]:
        edges = (start + (end - start) * np.arange(_CELLS + 1) / _CELLS) * _SMALL
        covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
        return np.clip(covered, 0, None) / (edges[1:] - edges[:-1])[:, None]

    return np.concatenate([rows(low, 1 - high) for low, high in itertools.product(_EDGES, _EDGES)]), rows(0.0, 1.0)
