"""A user's own questions with answers: ``.jsonl`` files, one question a line.

    {"question": "What is 3/4 of 120?", "answer": "90", "verifier": "math"}
    {"question": "How many cups are on the table?", "answer": "3", "verifier": "count", "image": "table.jpg", "task": "cups"}

``verifier`` is a name of `synth_cot.verifiers` (``text`` when left out), ``image`` a picture or a list of them, relative to the
file, ``task`` the last part of the task's name (``query.cups``), ``licence`` an SPDX identifier. Every line is a source of its
own: its question and its pictures are its identity. Responses to them are written by a teacher that is routed to ``query``.
"""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from manifests.errors import UsageError
from manifests.fingerprint import ID_DIGITS, sha256_bytes, unit_hash, value_id
from manifests.recipe import Recipe
from manifests.shards import MediaItem
from synth_cot.known import Known, Query, Source
from synth_cot.verifiers import NAMES, get

QUALITY = 92


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A user's question: what is known of it, and its pictures."""

    known: Known
    pictures: tuple[MediaItem, ...]


def query_paths(given: tuple[str, ...]) -> list[tuple[str, Path]]:
    """Every file of questions with its name.

    Raises:
        UsageError: a path does not exist.
    """
    found = []
    for one in given:
        path = Path(one)
        if not path.exists():
            raise UsageError(f"synth.question_files names {one}, which does not exist")
        files = sorted(path.rglob("*.jsonl")) if path.is_dir() else [path]
        found += [(f"{path.name}/{file.relative_to(path)}" if path.is_dir() else path.name, file) for file in files]
    return found


def query_identity(given: tuple[str, ...]) -> str:
    """A hash of the files of questions and of the pictures that they name."""
    return value_id([[name, asked.known.source.source_id] for name, path in query_paths(given) for asked in _read(name, path)])


def read_query_files(recipe: Recipe) -> list[Asked]:
    """Every question of the recipe's files.

    Raises:
        UsageError: a line is no question; the message names file and line.
    """
    asked = [one for name, path in query_paths(recipe.synth.question_files) for one in _read(name, path)]
    share, seed = recipe.curate.heldout_share, recipe.synth.seed
    return [_on_side(one, unit_hash(seed, one.known.source.source_id) < share) for one in asked]


def _on_side(asked: Asked, heldout: bool) -> Asked:
    source = replace(asked.known.source, split="heldout" if heldout else "train")
    return replace(asked, known=replace(asked.known, source=source))


def _read(name: str, path: Path) -> list[Asked]:
    found = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        if line.strip():
            try:
                found.append(_question(name, path, number, json.loads(line)))
            except (ValueError, KeyError, OSError) as error:
                raise UsageError(f"synth.question_files: {name}:{number}: {error}") from error
    return found


def _question(name: str, path: Path, number: int, value: Any) -> Asked:
    if not isinstance(value, dict):
        raise ValueError(f"it is {type(value).__name__}, not an object")
    prompt, answer = (str(value.get(key) or "").strip() for key in ("question", "answer"))
    if not prompt or not answer:
        raise ValueError("it has no question or no answer")
    verifier = value.get("verifier", "text")
    if verifier not in NAMES:
        raise ValueError(f"verifier {verifier!r} is none of {', '.join(NAMES)}")
    get(verifier).score(answer, answer)  # says so when the answer is not of the verifier's kind
    images = value.get("image", [])
    pictures = tuple(_picture(path.parent / one) for one in ([images] if isinstance(images, str) else images))
    task = re.sub(r"\W+", "_", str(value.get("task", "qa"))).strip("_") or "qa"
    query = Query(
        place="", prompt=prompt, answer=answer, verifier=verifier, task=task,
        media_ids=tuple(picture.media_id for picture in pictures),
    )  # fmt: skip
    source_id = value_id({"query": prompt, "media": query.media_ids})
    source = Source(
        source_id=source_id, source=f"{name}:{number}", split="train", licence=str(value.get("licence", "unknown")),
        duplicate_cluster=source_id,
    )  # fmt: skip
    return Asked(known=Known(source=source, payload={}, subjects=(query,)), pictures=pictures)


def _picture(path: Path) -> MediaItem:
    with Image.open(path) as opened:
        picture = ImageOps.exif_transpose(opened).convert("RGB")
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=QUALITY)
    data = stream.getvalue()
    return MediaItem(
        media_id=sha256_bytes(data)[:ID_DIGITS], extension="jpg", height=picture.height, width=picture.width, data=data
    )


def source_row(asked: Asked) -> dict[str, Any]:
    """The row of a user's question in ``sources``, before its samples are counted."""
    source, (query,) = asked.known.source, asked.known.subjects
    assert isinstance(query, Query)
    text = query.prompt.encode()
    return {
        "source_id": source.source_id,
        "source": source.source,
        "modality": "image" if asked.pictures else "text",
        "bytes": len(text) + sum(len(picture.data) for picture in asked.pictures),
        "sha256": sha256_bytes(text),
        "attached": [],
        "licence": source.licence,
        "origin": "synth.question_files",
        "status": "filtered",
        "samples": 0,
        "tokens": 0,
        "duplicate_cluster": source.duplicate_cluster,
        "split": source.split,
    }
