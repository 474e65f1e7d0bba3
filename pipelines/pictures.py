"""Pictures: opened safely, hashed for their look, stored once each.

A stored picture keeps its pixels unless it is larger than the recipe's bound. It is encoded anew: what a corpus holds then
carries no metadata of its photographer, and equal pixels under equal settings are one picture.
"""

from __future__ import annotations

import io
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from manifests import looks
from manifests.fingerprint import ID_DIGITS, sha256_bytes
from manifests.shards import MediaItem
from manifests.visual import VisualSpec
from pipelines.items import Quarantined

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
PIXELS_MAX = 100_000_000
_MEMORY_BYTES = 64 * 2**20


@dataclass(frozen=True, kw_only=True)
class _Place:
    extension: str
    height: int
    width: int
    offset: int
    length: int


class PictureStore:
    """The pictures of one item, each once, in memory while they are few and on disk when they are many."""

    def __init__(self) -> None:
        self._bytes = tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES)  # noqa: SIM115 - lives as long as the store
        self._places: dict[str, _Place] = {}

    def __contains__(self, media_id: str) -> bool:
        return media_id in self._places

    def __len__(self) -> int:
        return len(self._places)

    def media_ids(self) -> list[str]:
        """The ids of all pictures, in the order in which they were added."""
        return list(self._places)

    def add(self, data: bytes, extension: str, height: int, width: int) -> str:
        """Stores an encoded picture and returns its media_id."""
        media_id = sha256_bytes(data)[:ID_DIGITS]
        if media_id not in self._places:
            offset = self._bytes.seek(0, io.SEEK_END)
            self._bytes.write(data)
            self._places[media_id] = _Place(extension=extension, height=height, width=width, offset=offset, length=len(data))
        return media_id

    def pictures(self, media_ids: Iterable[str]) -> Iterator[MediaItem]:
        """The pictures with these ids, in the order of the ids."""
        for media_id in media_ids:
            place = self._places[media_id]
            self._bytes.seek(place.offset)
            yield MediaItem(
                media_id=media_id,
                extension=place.extension,
                height=place.height,
                width=place.width,
                data=self._bytes.read(place.length),
            )


def open_picture(path: Path, frame: int = 0) -> Image.Image:
    """Decodes a picture whole: RGB, upright, transparency over white; of an animation or several pages the ``frame``-th.

    Raises:
        Quarantined: it cannot be decoded, or would unpack to more than `PIXELS_MAX` pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as opened:
                if frame:
                    opened.seek(frame)
                if opened.width * opened.height > PIXELS_MAX:
                    size = f"{opened.width}x{opened.height}"
                    raise Quarantined("probe", "too_large", f"{size} px are more than {PIXELS_MAX:,}", "image")
                opened.load()
                picture = looks.upright_rgb(opened)
    except Quarantined:
        raise
    except Image.DecompressionBombError as error:
        raise Quarantined("probe", "too_large", _words(error, path), "image") from error
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and others
        raise Quarantined("decode", "undecodable", _words(error, path), "image") from error
    return picture


def _words(error: Exception, path: Path) -> str:
    """The first line of an error, without the path: where a corpus lies must not show in it."""
    lines = str(error).replace(str(path), path.name).splitlines()
    return (lines[0] if lines else type(error).__name__)[:200]


def stored_size(height: int, width: int, visual: VisualSpec, tokens_max: int) -> tuple[int, int]:
    """The size at which a picture of this size is stored: its own, or the nearest one of ``tokens_max`` visual tokens."""
    if height * width <= tokens_max * visual.unit**2:
        return height, width
    return visual.resize(height, width, 1, tokens_max)


def encode_jpeg(picture: Image.Image, quality: int) -> bytes:
    """A JPEG of the picture, the same for the same pixels."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def encode_png(picture: Image.Image) -> bytes:
    """A PNG of the picture, the same for the same pixels: for screens, whose small text JPEG would smear."""
    stream = io.BytesIO()
    picture.save(stream, "PNG", compress_level=6)
    return stream.getvalue()


def store_picture(
    store: PictureStore, picture: Image.Image, visual: VisualSpec, tokens_max: int, *, jpeg_quality: int | None
) -> tuple[str, tuple[int, int]]:
    """Stores a picture, as a PNG when no JPEG quality is given; returns its media_id and stored (height, width)."""
    height, width = stored_size(picture.height, picture.width, visual, tokens_max)
    if (width, height) != picture.size:
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    if jpeg_quality is None:
        return store.add(encode_png(picture), "png", height, width), (height, width)
    return store.add(encode_jpeg(picture, jpeg_quality), "jpg", height, width), (height, width)


def look(picture: Image.Image) -> int | None:
    """The 64-bit perceptual hash of a picture; None for a picture so flat that its hash would be noise."""
    found = looks.look(picture)
    return None if found is None else found.whole


def sharpness(grey: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian of a grey picture: low when it is blurred (Pech-Pacheco et al. 2000)."""
    values = grey.astype(np.float32)
    if min(values.shape) < 3:
        return 0.0
    inner = values[1:-1, 1:-1]
    around = values[:-2, 1:-1] + values[2:, 1:-1] + values[1:-1, :-2] + values[1:-1, 2:]
    return float((around - 4 * inner).var())
