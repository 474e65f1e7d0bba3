"""The files of the step: tables in sorted order, and the shards of the pictures that it drew, in its own partition."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from manifests.corpus import Corpus
from manifests.recipe import Recipe
from manifests.shards import MediaItem, write_shard
from synth_cot.gathering import Gathered

STEP = "synthesize"
TABLES = ("samples", "sources", "lineage", "dropped", "annotations", "media", "requests", "costs")


def owned_folders(corpus: Corpus) -> list[Path]:
    """The folders in which nothing but the step's files may stand."""
    return [corpus.table(table, origin=STEP) for table in TABLES]


def clear(corpus: Corpus) -> None:
    """Removes what a killed run left, so that it is never read, nor taken for this run's."""
    for folder in owned_folders(corpus):
        shutil.rmtree(folder, ignore_errors=True)


def write(corpus: Corpus, recipe: Recipe, total: Gathered) -> list[Path]:
    """Writes everything; the same rows give the same bytes."""
    limit = recipe.curate.rows_per_file
    partitions: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in sorted(total.samples, key=lambda row: row["sample_id"]):
        partitions.setdefault((row["context_bucket"], row["duration_bucket"] or ""), []).append(row)
    written = []
    for (context, duration), rows in sorted(partitions.items()):
        written += corpus.write_table(
            "samples", rows, rows_per_file=limit, origin=STEP, context_bucket=context, duration_bucket=duration or None
        )
    keys = {
        "lineage": ("sample_id", "token_start", "token_end", "message", "part"),
        "dropped": ("source_id", "task", "reason", "detail", "source"),
        "sources": ("source_id",),
        "annotations": ("source_id",),
        "requests": ("source_id", "task", "purpose", "request_id", "sample"),
        "costs": ("task", "teacher"),
    }
    for table, key in keys.items():
        found = sorted(getattr(total, table), key=lambda row, key=key: tuple(row[name] for name in key))  # type: ignore[misc]
        written += corpus.write_table(table, found, origin=STEP)
    shards, media = _shards(corpus, recipe, total)
    return written + shards + corpus.write_table("media", media, origin=STEP)


def _shards(corpus: Corpus, recipe: Recipe, total: Gathered) -> tuple[list[Path], list[dict[str, Any]]]:
    """Shards of about ``curate.shard_bytes`` with the pictures in the order of their names, and the rows of ``media``."""
    groups: list[list[MediaItem]] = []
    size = recipe.curate.shard_bytes
    for _, (_, item) in sorted(total.media.items()):
        if size + len(item.data) > recipe.curate.shard_bytes:
            groups.append([])
            size = 0
        groups[-1].append(item)
        size += len(item.data)
    paths, rows = [], []
    for number, items in enumerate(groups):
        path = corpus.table("media", origin=STEP) / f"shard-{number:05d}.tar"
        paths.append(path)
        for item, place in zip(items, write_shard(path, items), strict=True):
            rows.append(
                {
                    "media_id": item.media_id, "shard": path.relative_to(corpus.folder).as_posix(), "offset": place.offset,
                    "length": place.length, "sha256": place.sha256, "extension": item.extension, "height": item.height,
                    "width": item.width, "source_id": total.media[item.media_id][0],
                }
            )  # fmt: skip
    return paths, rows
