"""A drawn source as a corpus knows it: what it is called, which side of the split it is on, its annotation and its pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from manifests.fingerprint import canonical_json, sha256_bytes, unit_hash, value_id
from manifests.recipe import Recipe
from manifests.shards import MediaItem
from synth_cot.known import Known, Source, from_annotation
from synth_cot.made import VERSION, films, scenes, tables

LICENCE = "CC0-1.0"
KINDS: dict[str, Callable[..., tuple[dict[str, Any], list[MediaItem]]]] = {
    "edits": lambda recipe, *name: scenes.edits(*name),
    "events": lambda recipe, *name: films.events(recipe.visual.fps, *name),
    "shapes": lambda recipe, *name: scenes.shapes(*name),
    "table": lambda recipe, *name: tables.table(*name),
}
_MODALITY = {"edits": "image", "events": "video", "shapes": "image", "table": "image"}


@dataclass(frozen=True, kw_only=True)
class Made:
    """A source that is yet to be drawn: the ``number``-th of its kind."""

    kind: str
    number: int


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A drawn source: what is known of it, its annotation row, and its pictures."""

    known: Known
    annotation: dict[str, Any]
    pictures: tuple[MediaItem, ...]


def planned(recipe: Recipe) -> list[Made]:
    """What the recipe wants drawn, in the order of kinds."""
    wanted = recipe.synth.made
    counts = {"edits": wanted.pairs, "events": wanted.films, "shapes": wanted.pictures, "table": wanted.tables}
    return [Made(kind=kind, number=number) for kind in sorted(counts) for number in range(counts[kind])]


def draw_source(made: Made, recipe: Recipe) -> Drawn:
    """Draws a source. The same recipe gives the same bytes."""
    seed = recipe.synth.seed
    payload, pictures = KINDS[made.kind](recipe, seed, made.number)
    payload["maker"] = f"made/{VERSION}"
    source_id = value_id({"made": made.kind, "payload": payload})
    source = Source(
        source_id=source_id,
        source=f"made/{made.kind}/{seed}/{made.number}",
        split="heldout" if unit_hash(seed, source_id) < recipe.curate.heldout_share else "train",
        licence=LICENCE,
        duplicate_cluster=source_id,
    )
    row = {**vars(source), "kind": made.kind, "payload": canonical_json(payload)}
    return Drawn(known=from_annotation(row, recipe.curate.video_forms, {}), annotation=row, pictures=tuple(pictures))


def source_row(drawn: Drawn) -> dict[str, Any]:
    """The row of a drawn source in ``sources``, before its samples are counted."""
    source, payload = drawn.known.source, drawn.annotation["payload"].encode()
    return {
        "source_id": source.source_id,
        "source": source.source,
        "modality": _MODALITY[drawn.annotation["kind"]],
        "bytes": len(payload) + sum(len(picture.data) for picture in drawn.pictures),
        "sha256": sha256_bytes(payload),
        "attached": [],
        "licence": source.licence,
        "came_from": f"longreel made/{VERSION}",
        "status": "filtered",
        "samples": 0,
        "tokens": 0,
        "duplicate_cluster": source.duplicate_cluster,
        "split": source.split,
    }
