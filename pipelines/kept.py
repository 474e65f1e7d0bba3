"""A kept file: a JSON header and pictures, whole or not at all. Finished and waiting items are kept in this form.

magic (8 bytes)   length of the JSON (8 bytes, big-endian)   JSON: anything, and places of pictures   pictures
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from manifests.files import writing
from manifests.shards import MediaItem
from pipelines.pictures import PictureStore

Places = dict[str, tuple[str, int, int, int, int]]
"""media_id -> extension, height, width, first byte and length in the file."""


def write_kept(path: Path, magic: bytes, header: dict[str, Any], store: PictureStore | None, media_ids: Iterable[str]) -> None:
    """Writes a kept file with these pictures of the store, in the order of the ids."""
    wanted = list(media_ids)
    media: list[list[Any]] = []
    offset = 0
    for picture in store.pictures(wanted) if store is not None else ():
        media.append([picture.media_id, picture.extension, picture.height, picture.width, offset, len(picture.data)])
        offset += len(picture.data)
    encoded = json.dumps({**header, "media": media}, separators=(",", ":")).encode()
    with writing(path) as stream:
        stream.write(magic + len(encoded).to_bytes(8, "big") + encoded)
        for picture in store.pictures(wanted) if store is not None else ():
            stream.write(picture.data)


def read_kept(path: Path, magic: bytes) -> tuple[dict[str, Any], Places]:
    """The header of a kept file, and where its pictures lie.

    Raises:
        ValueError: the file does not begin with ``magic``.
    """
    with path.open("rb") as stream:
        if stream.read(len(magic)) != magic:
            raise ValueError(f"{path} does not begin with {magic!r}: delete it and curate again")
        length = int.from_bytes(stream.read(8), "big")
        header = json.loads(stream.read(length))
    start = len(magic) + 8 + length
    return header, {row[0]: (row[1], row[2], row[3], start + row[4], row[5]) for row in header.pop("media")}


def pictures_at(path: Path, places: Places, media_ids: Iterable[str]) -> Iterator[MediaItem]:
    """The pictures with these ids, in the order of the ids."""
    with path.open("rb") as stream:
        for media_id in media_ids:
            extension, height, width, offset, length = places[media_id]
            stream.seek(offset)
            yield MediaItem(media_id=media_id, extension=extension, height=height, width=width, data=stream.read(length))


class KeptPictures(PictureStore):
    """The pictures of a kept file as a store: they are read when they are wanted; what is added stays apart from the file.

    Args:
        path, places: a kept file and what `read_kept` says of it.
    """

    def __init__(self, path: Path, places: Places) -> None:
        super().__init__()
        self._path, self._kept = path, places

    def __contains__(self, media_id: str) -> bool:
        return media_id in self._kept or super().__contains__(media_id)

    def __len__(self) -> int:
        return len(self.media_ids())

    def media_ids(self) -> list[str]:
        """The ids of all pictures, those of the file first."""
        return list(dict.fromkeys([*self._kept, *super().media_ids()]))

    def pictures(self, media_ids: Iterable[str]) -> Iterator[MediaItem]:
        """The pictures with these ids, in the order of the ids."""
        for media_id in media_ids:
            if media_id in self._kept:
                yield from pictures_at(self._path, self._kept, [media_id])
            else:
                yield from super().pictures([media_id])
