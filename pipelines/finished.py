"""A finished item on disk: one file, whole or not at all, under a name made from everything its content depends on.

    LRITEM1\\n   length of the JSON (8 bytes, big-endian)   JSON: rows, signature, places of pictures   pictures

This is what makes a killed run cheap to repeat: the item is read from here instead of decoded again, and since both give the
same rows, the corpus has the same bytes either way.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.files import writing
from manifests.fingerprint import code_fingerprint, value_id
from manifests.recipe import Recipe
from manifests.shards import MediaItem
from pipelines.duplicates import Signature
from pipelines.extraction import CODE, Outcome, item_recipe
from pipelines.items import Item

MAGIC = b"LRITEM1\n"


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What is known of a finished item without its pictures.

    Attributes:
        media: media_id, extension, height, width, first byte and length in the file.
    """

    status: str
    modality: str
    samples: list[dict[str, Any]]
    lineage: list[dict[str, Any]]
    dropped: list[dict[str, Any]]
    quarantine: dict[str, Any] | None
    annotation: tuple[str, str] | None
    signature: Signature | None
    media: dict[str, tuple[str, int, int, int, int]]


def setting_id(recipe: Recipe) -> str:
    """What every item's result depends on besides the item: code, libraries, and the parts of the recipe that readers use."""
    return value_id({"code": code_fingerprint(*CODE), "recipe": item_recipe(recipe)})


def item_key(item: Item, setting: str) -> str:
    """The name of an item's result: a hash of its bytes and attachments, its name and licence, and the setting."""
    return value_id({"item": item.identity(), "setting": setting})


def write_outcome(path: Path, outcome: Outcome) -> None:
    """Writes a finished item."""
    media: list[list[Any]] = []
    offset = 0
    for picture in outcome.store.pictures(outcome.media_ids) if outcome.store is not None else ():
        media.append([picture.media_id, picture.extension, picture.height, picture.width, offset, len(picture.data)])
        offset += len(picture.data)
    value = {
        "status": outcome.status,
        "modality": outcome.modality,
        "samples": outcome.samples,
        "lineage": outcome.lineage,
        "dropped": outcome.dropped,
        "quarantine": outcome.quarantine,
        "annotation": outcome.annotation,
        "signature": None if outcome.signature is None else outcome.signature.to_json(),
        "media": media,
    }
    header = json.dumps(value, separators=(",", ":")).encode()
    with writing(path) as stream:
        stream.write(MAGIC + len(header).to_bytes(8, "big") + header)
        for picture in outcome.store.pictures(outcome.media_ids) if outcome.store is not None else ():
            stream.write(picture.data)


def read_finished(path: Path) -> Finished:
    """Reads a finished item, but not its pictures.

    Raises:
        ValueError: the file is no finished item.
    """
    with path.open("rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            raise ValueError(f"{path} is no finished item: delete it")
        length = int.from_bytes(stream.read(8), "big")
        value = json.loads(stream.read(length))
    start = len(MAGIC) + 8 + length
    media = {row[0]: (row[1], row[2], row[3], start + row[4], row[5]) for row in value.pop("media")}
    signature, annotation = value.pop("signature"), value.pop("annotation")
    return Finished(
        **value,
        media=media,
        signature=None if signature is None else Signature.from_json(signature),
        annotation=None if annotation is None else (annotation[0], annotation[1]),
    )


def read_pictures(path: Path, media_ids: Iterable[str]) -> Iterator[MediaItem]:
    """The pictures of a finished item with these ids, in the order of the ids."""
    media = read_finished(path).media
    with path.open("rb") as stream:
        for media_id in media_ids:
            extension, height, width, offset, length = media[media_id]
            stream.seek(offset)
            yield MediaItem(media_id=media_id, extension=extension, height=height, width=width, data=stream.read(length))
