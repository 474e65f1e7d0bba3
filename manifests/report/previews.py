"""A few samples as a person can judge them: the conversation, the real pictures, and where each piece came from.

Chosen by hash of the sample id, one from each kind of task in turn, so that equal corpora show equal samples. Pictures are
read from the media shards by offset, checked, and made small: a page stays below `BYTES_MAX` of pictures.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from typing import Any

from manifests.catalog import Catalog
from manifests.errors import CorruptCorpusError
from manifests.report.plain import shortened
from manifests.sample import messages_from_rows
from manifests.shards import read_media

SAMPLES_MAX = 16
PICTURES_EACH = 6
BYTES_MAX = 1_600_000
SIDE_MAX = 360
TEXT_MAX = 700
TEXT_OF_SAMPLE_MAX = 2_400
LINEAGE_MAX = 8


@dataclass(kw_only=True)
class Picture:
    """A thumbnail, or why there is none."""

    data: str = ""
    width: int = 0
    height: int = 0
    caption: str = ""
    problem: str = ""


@dataclass(kw_only=True)
class Piece:
    """A part of a turn: text, or pictures with how many more there are."""

    text: str | None = None
    pictures: list[Picture] = field(default_factory=list)
    more: int = 0


@dataclass(kw_only=True)
class Preview:
    """One sample to look at.

    Attributes:
        figures: columns of its ``samples`` row.
        turns: role and pieces.
        lineage: part, tokens, source, place in the source.
        lineage_more: spans beyond those shown.
        unseen: text parts left out, because the question or the answer is above `TEXT_OF_SAMPLE_MAX` characters.
        packed: stage, split and position of sequences that hold it.
    """

    figures: dict[str, Any]
    turns: list[tuple[str, list[Piece]]]
    lineage: list[tuple[str, str, str, str]]
    lineage_more: int
    unseen: int
    packed: list[tuple[str, int, str, int]]


def read_previews(catalog: Catalog) -> list[Preview]:
    """Up to `SAMPLES_MAX` samples over all tasks."""
    chosen = catalog.connection.execute(
        """
        WITH ranked AS (
            SELECT sample_id, task, split_part(task, '.', 1) AS kind,
                   row_number() OVER (PARTITION BY task ORDER BY md5(sample_id), sample_id) AS turn FROM samples
        ), dealt AS (SELECT *, row_number() OVER (PARTITION BY kind ORDER BY turn, task) AS round FROM ranked WHERE turn <= 3),
        chosen AS (SELECT * FROM dealt ORDER BY round, kind LIMIT ?)
        SELECT sample_id FROM chosen ORDER BY task, turn
        """,
        [SAMPLES_MAX],
    ).fetchall()
    room = BYTES_MAX
    previews = []
    for (sample_id,) in chosen:
        preview, used = _preview(catalog, sample_id, min(room, 2 * BYTES_MAX // SAMPLES_MAX))
        room -= used
        previews.append(preview)
    return previews


def _preview(catalog: Catalog, sample_id: str, room: int) -> tuple[Preview, int]:
    relation = catalog.connection.execute("SELECT * FROM samples WHERE sample_id = ?", [sample_id])
    names = [column[0] for column in relation.description or []]
    row = dict(zip(names, relation.fetchall()[0], strict=True))
    messages = messages_from_rows(row.pop("messages"))
    visuals = [visual for message in messages for part in message.parts for visual in part.visuals]
    step = max(1, -(-len(visuals) // PICTURES_EACH))
    thumbnails: dict[int, Picture] = {}
    used = 0
    for index in range(0, len(visuals), step):
        picture = _thumbnail(catalog, visuals[index].media_id)
        if used + len(picture.data) > room:
            break
        used += len(picture.data)
        thumbnails[index] = picture
    turns: list[tuple[str, list[Piece]]] = []
    number = shown = unseen = 0
    for message in messages:
        pieces = []
        shown = 0 if message is messages[-1] else shown  # the answer is always there to read
        for part in message.parts:
            if part.kind == "text":
                if shown > TEXT_OF_SAMPLE_MAX:
                    unseen += 1
                    continue
                pieces.append(Piece(text=shortened(part.text or "", TEXT_MAX)))
                shown += min(len(part.text or ""), TEXT_MAX)
                continue
            piece = Piece()
            for visual in part.visuals:
                if number in thumbnails:
                    picture = thumbnails[number]
                    time = "" if visual.label_s is None else f"{visual.label_s:.1f} s · "
                    picture.caption = f"{time}{visual.width} × {visual.height} px"
                    piece.pictures.append(picture)
                else:
                    piece.more += 1
                number += 1
            pieces.append(piece)
        if pieces:
            turns.append((message.role, pieces))
    lineage = _lineage(catalog, sample_id)
    packed = catalog.connection.execute(
        "SELECT recipe, stage, split, position FROM segments WHERE sample_id = ? ORDER BY recipe, stage, position LIMIT 5",
        [sample_id],
    ).fetchall()
    preview = Preview(
        figures=row,
        turns=turns,
        lineage=lineage[:LINEAGE_MAX],
        lineage_more=max(0, len(lineage) - LINEAGE_MAX),
        packed=packed,
        unseen=unseen,
    )
    return preview, used


def _thumbnail(catalog: Catalog, media_id: str) -> Picture:
    from PIL import Image

    query = 'SELECT shard, "offset", length, sha256 FROM media WHERE media_id = ?'
    place = catalog.connection.execute(query, [media_id]).fetchall()
    if not place:
        return Picture(problem=f"no shard holds picture {media_id}")
    shard, offset, length, checksum = place[0]
    try:
        with Image.open(io.BytesIO(read_media(catalog.corpus.folder / shard, offset, length, checksum))) as image:
            small = image.convert("RGB")
            small.thumbnail((SIDE_MAX, SIDE_MAX))
    except (CorruptCorpusError, OSError, ValueError) as error:
        return Picture(problem=f"this picture could not be read: {error}")
    stream = io.BytesIO()
    small.save(stream, format="JPEG", quality=72, optimize=True)
    return Picture(data=base64.b64encode(stream.getvalue()).decode(), width=small.width, height=small.height)


def _lineage(catalog: Catalog, sample_id: str) -> list[tuple[str, str, str, str]]:
    """For each part that came from a source: turn and part, tokens, source, and the place in it."""
    query = """
        SELECT l.message, l.part, min(l.token_start), max(l.token_end), coalesce(s.source, l.source_id),
               min(l.start_s), max(l.end_s), l.page, l.box, count(l.frame)
        FROM lineage l LEFT JOIN sources s USING (source_id) WHERE l.sample_id = ? AND l.source_id IS NOT NULL
        GROUP BY l.message, l.part, s.source, l.source_id, l.page, l.box ORDER BY ALL
    """
    found = []
    for message, part, start, end, source, start_s, end_s, page, box, frames in catalog.connection.execute(
        query, [sample_id]
    ).fetchall():
        place = [f"{frames} frames"] if frames else []
        if start_s is not None or end_s is not None:
            place.append(f"{start_s or 0:g} – {end_s if end_s is not None else start_s:g} s")
        if page is not None:
            place.append(f"page {page}")
        if box is not None:
            place.append("box " + ", ".join(f"{value:g}" for value in box))
        found.append((f"{message}.{part}", f"{start:,} – {end:,}", str(source), "; ".join(place) or "all of it"))
    return found
