"""Page pictures as a hurried person would photograph them: bent, turned, unevenly lit, blurred, noisy, squeezed into a JPEG.

The text of the page stays its truth. Every choice is a function of (seed, source, page); the arithmetic is NumPy's and
OpenCV's on one thread, so that equal pages give equal bytes. Strengths are such that a person still reads the text: at most
2 degrees, 1.2 % of the width of bend, a third of the light.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from manifests.curate_spec import DocumentSpec
from manifests.fingerprint import sha256_bytes, unit_hash

Pixels = NDArray[np.float32]
"""Height x width x 3, 0 to 255."""
DEGREES_MAX, BEND_MAX, LIGHT_MAX, BLUR_MAX, NOISE_MAX = 2.0, 0.012, 0.35, 1.1, 9.0
QUALITY = (35, 75)


def damaged(picture: Image.Image, spec: DocumentSpec, source_id: str, place: object) -> Image.Image | None:
    """The damaged picture, or None when the recipe's share does not fall on it.

    Args:
        picture: RGB.
        spec: share and seed.
        source_id, place: which picture of which source: a page's number.
    """
    if unit_hash("augment", spec.augmentation_seed, source_id, place) >= spec.augmented_share:
        return None
    return damage(picture, f"{spec.augmentation_seed}\x1f{source_id}\x1f{place}")


def damage(picture: Image.Image, seed: str) -> Image.Image:
    """A picture of the same size, with damage that depends only on the picture's pixels and ``seed``."""
    import cv2

    cv2.setNumThreads(1)
    random = np.random.default_rng(int(sha256_bytes(seed.encode("utf-8", "surrogatepass"))[:16], 16))
    pixels = np.asarray(picture.convert("RGB"), dtype=np.float32)
    pixels = _bend(pixels, random)
    pixels = _light(pixels, random)
    sigma = float(random.uniform(0.2, BLUR_MAX)) * max(1.0, min(pixels.shape[:2]) / 1000)
    pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigma), dtype=np.float32)
    pixels = pixels + random.standard_normal(pixels.shape, dtype=np.float32) * np.float32(random.uniform(1.0, NOISE_MAX))
    stream = io.BytesIO()
    rounded = Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
    rounded.save(stream, "JPEG", quality=int(random.integers(QUALITY[0], QUALITY[1] + 1)))
    return Image.open(stream, formats=("JPEG",)).convert("RGB")


def _bend(pixels: Pixels, random: np.random.Generator) -> Pixels:
    """Turned a little, and drawn over two waves (a page that does not lie flat) and one crease."""
    import cv2

    height, width = pixels.shape[:2]
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    angle = np.float32(np.deg2rad(random.uniform(-DEGREES_MAX, DEGREES_MAX)))
    # Turned about the middle and shrunk, so that no text leaves the picture.
    shrink = np.float32(1 + abs(float(angle)) * max(height, width) / min(height, width) + 2 * BEND_MAX)
    across, down = (xs - width / 2) * shrink, (ys - height / 2) * shrink
    source_x = across * np.cos(angle) - down * np.sin(angle) + width / 2
    source_y = across * np.sin(angle) + down * np.cos(angle) + height / 2
    for _ in range(2):
        strength = np.float32(random.uniform(0, BEND_MAX / 2) * width)
        waves, phase = random.uniform(0.5, 2.0), random.uniform(0, 2 * np.pi)
        source_y = source_y + strength * np.sin(2 * np.pi * waves * xs / width + phase)
        source_x = source_x + strength * np.sin(2 * np.pi * waves * ys / height + phase) / 2
    crease = np.float32(random.uniform(0.2, 0.8) * height)
    source_x = source_x + np.float32(random.uniform(-0.003, 0.003) * width) * np.sign(ys - crease)
    paper = tuple(float(value) for value in np.median(pixels.reshape(-1, 3)[::97], axis=0))
    bent = cv2.remap(
        pixels,
        source_x.astype(np.float32),
        source_y.astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=paper,
    )
    shade = 1 - np.float32(random.uniform(0.05, 0.2)) * np.exp(-(((ys - crease) / np.float32(max(2.0, height / 150))) ** 2))
    return bent * shade[:, :, None]


def _light(pixels: Pixels, random: np.random.Generator) -> Pixels:
    """A lamp on one side, and the colour of its light."""
    height, width = pixels.shape[:2]
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    from_x, from_y = random.uniform(-0.3, 1.3) * width, random.uniform(-0.3, 1.3) * height
    distance = np.hypot((xs - from_x) / width, (ys - from_y) / height) / 1.8
    light = 1 - np.float32(random.uniform(0.1, LIGHT_MAX)) * distance
    tint = np.asarray([1.0, random.uniform(0.94, 1.0), random.uniform(0.84, 1.0)], dtype=np.float32)
    return (pixels * light[:, :, None] * tint).astype(np.float32)
