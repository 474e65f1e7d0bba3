"""Stored pictures as a teacher is shown them: read from their shard by place, with what is masked greyed out."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw

from manifests.catalog import Catalog
from manifests.shards import MediaItem, read_media
from synth_cot.asking.request import Piece

GREY = (128, 128, 128)
QUALITY = 90


@dataclass(frozen=True)
class Place:
    """Where a picture lies."""

    shard: str
    offset: int
    length: int
    sha256: str
    extension: str
    height: int
    width: int


class Shown:
    """The pictures of a corpus, and those that were drawn for it and are not stored yet.

    Args:
        folder: the corpus.
        drawn: a folder with files named by their picture.
    """

    def __init__(self, folder: Path, drawn: Path) -> None:
        self.folder, self.drawn = folder, drawn
        query = 'SELECT media_id, shard, "offset", length, sha256, extension, height, width FROM media'
        self.places = {row[0]: Place(*row[1:]) for row in Catalog(folder).sql(query).fetchall()}

    def picture(self, piece: Piece) -> MediaItem:
        """The picture of a piece, masked as it says.

        Raises:
            CorruptCorpusError: the shard does not hold it.
            FileNotFoundError: neither knows it.
        """
        item = self._stored(piece.media_id)
        return masked(item, piece) if piece.masks else item

    @lru_cache(maxsize=256)  # noqa: B019 - one object a run
    def _stored(self, media_id: str) -> MediaItem:
        place = self.places.get(media_id)
        if place is None:
            return self._drawn(media_id)
        data = read_media(self.folder / place.shard, place.offset, place.length, place.sha256)
        return MediaItem(media_id=media_id, extension=place.extension, height=place.height, width=place.width, data=data)

    def _drawn(self, media_id: str) -> MediaItem:
        path = next(self.drawn.glob(f"{media_id}.*"), self.drawn / media_id)
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as picture:
            width, height = picture.size
        return MediaItem(media_id=media_id, extension=path.suffix[1:], height=height, width=width, data=data)


def masked(item: MediaItem, piece: Piece) -> MediaItem:
    """A picture with its masks greyed out."""
    with Image.open(io.BytesIO(item.data)) as opened:
        picture = opened.convert("RGB")
    pen = ImageDraw.Draw(picture)
    for x0, y0, x1, y1 in piece.masks:
        pen.rectangle((x0 * picture.width, y0 * picture.height, x1 * picture.width, y1 * picture.height), fill=GREY)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=QUALITY)
    return MediaItem(
        media_id=item.media_id, extension="jpg", height=picture.height, width=picture.width, data=stream.getvalue()
    )
