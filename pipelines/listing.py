"""The listing: the items of a curation and their keys, a line of JSON each, so that what travels is a place in a file.

The driver writes it before the pipeline starts and forgets the items; workers read their lines from the shared work folder.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from manifests.corpus import Corpus
from manifests.files import writing
from pipelines.items import Item


def listing_path(work: Path) -> Path:
    """Where the listing of a curation lies."""
    return work / "listing.jsonl"


def write_listing(path: Path, items: Iterable[tuple[str, Item]]) -> list[int]:
    """Writes keys and items; returns the first byte of each line."""
    starts = []
    with writing(path) as stream:
        for key, item in items:
            starts.append(stream.tell())
            stream.write(json.dumps({"key": key, "item": dataclasses.asdict(item)}).encode() + b"\n")
    return starts


def listed(path: Path) -> Iterator[tuple[str, Item]]:
    """All keys and items, in the order of the listing."""
    with path.open("rb") as stream:
        for line in stream:
            yield _parsed(line)


def listed_item(start: int, folder: str) -> tuple[str, Item]:
    """The key and item whose line begins at a byte of the listing of the corpus ``folder``."""
    with listing_path(Corpus(Path(folder)).work).open("rb") as stream:
        stream.seek(start)
        return _parsed(stream.readline())


def _parsed(line: bytes) -> tuple[str, Item]:
    value = json.loads(line)
    return value["key"], Item.from_json(value["item"])
