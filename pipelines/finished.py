"""A finished item on disk: one file, whole or not at all, under a name made from everything its content depends on.

It is a kept file (`pipelines.kept`) of rows, signature and pictures. This is what makes a killed run cheap to repeat: the item
is read from here instead of decoded again, and since both give the same rows, the corpus has the same bytes either way.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.fingerprint import code_fingerprint, value_id
from manifests.recipe import Recipe
from pipelines.duplicates import Signature
from pipelines.extraction import CODE, Outcome, item_recipe
from pipelines.items import Item
from pipelines.kept import Places, read_kept, write_kept

MAGIC = b"LRITEM1\n"


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What is known of a finished item without its pictures.

    Attributes:
        media: where its pictures lie in the file.
        work: what models did for it, by kind of request: requests, failed, and what they cost.
    """

    status: str
    modality: str
    samples: list[dict[str, Any]]
    lineage: list[dict[str, Any]]
    dropped: list[dict[str, Any]]
    quarantine: dict[str, Any] | None
    annotation: tuple[str, str] | None
    signature: Signature | None
    media: Places
    work: dict[str, dict[str, int]]


def setting_id(recipe: Recipe) -> str:
    """What every item's result depends on besides the item: code, libraries, and the parts of the recipe that readers use."""
    return value_id({"code": code_fingerprint(*CODE), "recipe": item_recipe(recipe)})


def item_key(item: Item, setting: str) -> str:
    """The name of an item's result: a hash of its bytes and attachments, its name and licence, and the setting."""
    return value_id({"item": item.identity(), "setting": setting})


def write_outcome(path: Path, outcome: Outcome) -> None:
    """Writes a finished item."""
    value = {
        "status": outcome.status,
        "modality": outcome.modality,
        "samples": outcome.samples,
        "lineage": outcome.lineage,
        "dropped": outcome.dropped,
        "quarantine": outcome.quarantine,
        "annotation": outcome.annotation,
        "signature": None if outcome.signature is None else outcome.signature.to_json(),
        "work": outcome.work,
    }
    write_kept(path, MAGIC, value, outcome.store, outcome.media_ids)


def read_finished(path: Path) -> Finished:
    """Reads a finished item, but not its pictures.

    Raises:
        ValueError: the file is no finished item.
    """
    value, media = read_kept(path, MAGIC)
    signature, annotation = value.pop("signature"), value.pop("annotation")
    return Finished(
        **value,
        media=media,
        signature=None if signature is None else Signature.from_json(signature),
        annotation=None if annotation is None else (annotation[0], annotation[1]),
    )


def finished_path(work: Path, key: str) -> Path:
    """Where the finished item with this key lies in the work folder of a corpus."""
    return work / "items" / key[:2] / key
