"""A few samples as a person can judge them: the conversation, the real pictures with what the answer points at, the sources.

Chosen by the last digits of the sample id, one from each kind of task in turn: ids are hashes, so this is chance, and equal
corpora show equal samples. Pictures are read from the media shards by offset, checked, and made small: a page stays below
`BYTES_MAX` of pictures.
"""

from __future__ import annotations

import base64
import io
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from manifests.catalog import Catalog, quoted
from manifests.errors import CorruptCorpusError
from manifests.report.marks import Evidence, Mark, Span, answer_marks, answer_spans, evidence_marks, read_evidence
from manifests.report.plain import shortened
from manifests.sample import Message, Visual, messages_from_rows
from manifests.shards import read_media

SAMPLES_MAX = 20
PICTURES_EACH = 6
BYTES_MAX = 1_000_000
SIDE_MAX = 320
TEXT_MAX = 700
REASONED_MAX = 1_600
TEXT_OF_SAMPLE_MAX = 2_400
LINEAGE_MAX = 6
POINTING = ("gui", "image", "reason")
"""Kinds of tasks whose answers hold boxes or points in thousandths of a picture."""


@dataclass(kw_only=True)
class Picture:
    """A thumbnail, or why there is none.

    Attributes:
        marks: what is drawn over it.
        shows: ``evidence`` or ``answer`` for a frame within an interval of either; empty otherwise.
    """

    data: str = ""
    width: int = 0
    height: int = 0
    caption: str = ""
    size: str = ""
    problem: str = ""
    marks: list[Mark] = field(default_factory=list)
    shows: str = ""


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
        evidence: of a verified answer.
        lineage: part, tokens, source, place in the source.
        lineage_more: spans beyond those shown.
        unseen: text parts left out, because the question or the answer is above `TEXT_OF_SAMPLE_MAX` characters.
        packed: recipe, stage, split and position of sequences that hold it.
    """

    figures: dict[str, Any]
    turns: list[tuple[str, list[Piece]]]
    evidence: Evidence
    lineage: list[tuple[str, str, str, str]]
    lineage_more: int
    unseen: int
    packed: list[tuple[str, int, str, int]]

    @property
    def code(self) -> bool:
        """Whether its text is a program."""
        return str(self.figures["task"]).startswith("code.")


def chosen_samples(catalog: Catalog, most: int = SAMPLES_MAX) -> list[str]:
    """Ids of up to ``most`` samples over all tasks."""
    rows = catalog.connection.execute(
        """
        WITH best AS (SELECT task, min(reverse(sample_id), 3) AS ids FROM samples GROUP BY task),
        ranked AS (
            SELECT task, CASE WHEN task LIKE 'reason.%' THEN split_part(task, '.', 2) ELSE '' END || '/'
                         || split_part(task, '.', 1) AS kind,
                   reverse(unnest(ids)) AS sample_id, unnest(range(1, len(ids) + 1)) AS turn FROM best
        ), dealt AS (SELECT *, row_number() OVER (PARTITION BY kind ORDER BY turn, md5(task), task) AS round FROM ranked),
        chosen AS (SELECT * FROM dealt ORDER BY round, kind LIMIT ?)
        SELECT sample_id FROM chosen ORDER BY task, turn
        """,
        [most],
    ).fetchall()
    return [row[0] for row in rows]


def read_previews(catalog: Catalog) -> list[Preview]:
    """Up to `SAMPLES_MAX` samples over all tasks."""
    ids = chosen_samples(catalog)
    if not ids:
        return []
    relation = catalog.connection.execute(f"SELECT * FROM samples WHERE sample_id IN {listed(ids)}")
    names = [column[0] for column in relation.description or []]
    rows = {row["sample_id"]: row for row in (dict(zip(names, found, strict=True)) for found in relation.fetchall())}
    ids = [sample_id for sample_id in ids if sample_id in rows]
    messages = {sample_id: messages_from_rows(rows[sample_id].pop("messages")) for sample_id in ids}
    lineage, packed = _lineage(catalog, ids), _packed(catalog, ids)
    room = BYTES_MAX
    previews = []
    for sample_id in ids:
        row = rows[sample_id]
        evidence = read_evidence(row["reasoning"]["evidence"]) if row["reasoning"] else Evidence()
        turns, unseen, used = _turns(catalog, row, messages[sample_id], evidence, min(room, 2 * BYTES_MAX // SAMPLES_MAX))
        room -= used
        spans = lineage[sample_id]
        previews.append(
            Preview(
                figures=row,
                turns=turns,
                evidence=evidence,
                lineage=spans[:LINEAGE_MAX],
                lineage_more=max(0, len(spans) - LINEAGE_MAX),
                unseen=unseen,
                packed=packed[sample_id],
            )
        )
    return previews


def _turns(
    catalog: Catalog, row: dict[str, Any], messages: tuple[Message, ...], evidence: Evidence, room: int
) -> tuple[list[tuple[str, list[Piece]]], int, int]:
    """The conversation; text parts left out; characters of pictures used."""
    points = str(row["task"]).split(".")[0] in POINTING
    marks = _marks(messages, evidence) if points else {}
    spans = evidence.intervals or _spans(messages)
    thumbnails, used = _thumbnails(catalog, [v for m in messages for p in m.parts for v in p.visuals], spans, room)
    turns: list[tuple[str, list[Piece]]] = []
    number = shown = unseen = 0
    most = REASONED_MAX if row["reasoning"] else TEXT_MAX
    for message in messages:
        pieces = []
        shown = 0 if message is messages[-1] else shown  # the answer is always there to read
        for part in message.parts:
            if part.kind == "text":
                if shown > TEXT_OF_SAMPLE_MAX:
                    unseen += 1
                    continue
                pieces.append(Piece(text=shortened(part.text or "", most)))
                shown += min(len(part.text or ""), most)
                continue
            piece = Piece()
            for visual in part.visuals:
                if number in thumbnails:
                    picture = thumbnails[number]
                    size = f"{visual.width} × {visual.height} px"
                    picture.caption = size if visual.label_s is None else f"{visual.label_s:.1f} s"
                    picture.size = size
                    picture.marks = marks.get(number, [])
                    if visual.time_s is not None and any(start <= visual.time_s <= end for start, end in spans):
                        picture.shows = "evidence" if evidence.intervals else "answer"
                    piece.pictures.append(picture)
                else:
                    piece.more += 1
                number += 1
            pieces.append(piece)
        if pieces:
            turns.append((message.role, pieces))
    return turns, unseen, used


def _marks(messages: tuple[Message, ...], evidence: Evidence) -> dict[int, list[Mark]]:
    """By number of the picture: an answer's marks on the last one before it, the evidence's where there is only one."""
    found: dict[int, list[Mark]] = defaultdict(list)
    last, frames = -1, []
    for message in messages:
        for part in message.parts:
            last += len(part.visuals)
            frames += [part.origin.box if part.origin else None for _ in part.visuals]
            if part.kind == "text" and message.role == "assistant" and last >= 0:
                found[last] += answer_marks(part.text or "")
    if len(frames) == 1:
        found[0] = evidence_marks(evidence, frames[0]) + found[0]
    return found


def _spans(messages: tuple[Message, ...]) -> tuple[Span, ...]:
    """Seconds of the source that a temporal answer names; only for one clip, whose labels begin at its own start."""
    clips = [part for message in messages for part in message.parts if part.kind == "video"]
    if len(clips) != 1 or messages[-1].role != "assistant":
        return ()
    first = clips[0].visuals[0]
    offset = (first.time_s or 0.0) - (first.label_s or 0.0)
    return tuple(
        (start + offset, end + offset) for part in messages[-1].parts if part.text for start, end in answer_spans(part.text)
    )


def _thumbnails(catalog: Catalog, visuals: list[Visual], spans: tuple[Span, ...], room: int) -> tuple[dict[int, Picture], int]:
    """By number of the picture: some evenly over the sample, and one within the first interval that the answer stands on."""
    step = max(1, -(-len(visuals) // PICTURES_EACH))
    chosen = set(range(0, len(visuals), step))
    within = [
        number
        for number, visual in enumerate(visuals)
        if visual.time_s is not None and any(start <= visual.time_s <= end for start, end in spans[:1])
    ]
    if within and not chosen & set(within):
        chosen.add(within[len(within) // 2])
    places = _places(catalog, sorted({visuals[number].media_id for number in chosen}))
    found: dict[int, Picture] = {}
    used = 0
    for number in sorted(chosen):
        picture = _thumbnail(catalog, visuals[number].media_id, places)
        if used + len(picture.data) > room:
            break
        used += len(picture.data)
        found[number] = picture
    return found, used


def _places(catalog: Catalog, media_ids: list[str]) -> dict[str, tuple[str, int, int, str]]:
    if not media_ids:
        return {}
    query = f'SELECT media_id, shard, "offset", length, sha256 FROM media WHERE media_id IN {listed(media_ids)}'
    return {row[0]: row[1:] for row in catalog.connection.execute(query).fetchall()}


def _thumbnail(catalog: Catalog, media_id: str, places: dict[str, tuple[str, int, int, str]]) -> Picture:
    from PIL import Image

    if media_id not in places:
        return Picture(problem=f"no shard holds picture {media_id}")
    shard, offset, length, checksum = places[media_id]
    try:
        with Image.open(io.BytesIO(read_media(catalog.corpus.folder / shard, offset, length, checksum))) as image:
            small = image.convert("RGB")
            small.thumbnail((SIDE_MAX, SIDE_MAX))
    except (CorruptCorpusError, OSError, ValueError) as error:
        return Picture(problem=f"this picture could not be read: {error}")
    stream = io.BytesIO()
    small.save(stream, format="JPEG", quality=70, optimize=True)
    return Picture(data=base64.b64encode(stream.getvalue()).decode(), width=small.width, height=small.height)


def _packed(catalog: Catalog, ids: list[str]) -> dict[str, list[tuple[str, int, str, int]]]:
    """Up to five sequences that hold each sample: recipe, stage, split, position."""
    found: dict[str, list[tuple[str, int, str, int]]] = defaultdict(list)
    rows = catalog.connection.execute(
        f"SELECT sample_id, recipe, stage, split, position FROM segments WHERE sample_id IN {listed(ids)} "
        "QUALIFY row_number() OVER (PARTITION BY sample_id ORDER BY recipe, stage, position) <= 5 "
        "ORDER BY sample_id, recipe, stage, position"
    ).fetchall()
    for sample_id, *place in rows:
        found[sample_id].append((place[0], place[1], place[2], place[3]))
    return found


def _lineage(catalog: Catalog, ids: list[str]) -> dict[str, list[tuple[str, str, str, str]]]:
    """For each part that came from a source: turn and part, tokens, source, and the place in it."""
    query = f"""
        WITH l AS (SELECT * FROM lineage WHERE sample_id IN {listed(ids)} AND source_id IS NOT NULL),
             s AS (SELECT source_id, min(source) AS source FROM sources SEMI JOIN l USING (source_id) GROUP BY source_id)
        SELECT l.sample_id, l.message, l.part, min(l.token_start), max(l.token_end), coalesce(any_value(s.source), l.source_id),
               min(l.start_s), max(l.end_s), l.page, l.box, count(l.frame)
        FROM l LEFT JOIN s USING (source_id) GROUP BY l.sample_id, l.message, l.part, l.source_id, l.page, l.box ORDER BY ALL
    """
    found: dict[str, list[tuple[str, str, str, str]]] = defaultdict(list)
    for sample_id, message, part, start, end, source, start_s, end_s, page, box, frames in catalog.connection.execute(
        query
    ).fetchall():
        place = place_in_source(start_s, end_s, page, box)
        place = [f"{frames} frames", *place] if frames else place
        found[sample_id].append((f"{message}.{part}", f"{start:,} – {end:,}", str(source), "; ".join(place) or "all of it"))
    return found


def listed(ids: list[str]) -> str:
    """Ids as SQL: written out, so that DuckDB can pass over the row groups that hold none of them."""
    return f"({', '.join(map(quoted, ids))})"


def place_in_source(start_s: float | None, end_s: float | None, page: int | None, box: list[float] | None) -> list[str]:
    """Seconds, page and box in words; empty for a whole source."""
    place = []
    if start_s is not None or end_s is not None:
        begin, end = start_s or 0.0, end_s if end_s is not None else start_s or 0.0
        place.append(f"{begin:g} s" if begin == end else f"{begin:g} – {end:g} s")
    if page is not None:
        place.append(f"page {page}")
    if box is not None:
        place.append("box " + ", ".join(f"{value:g}" for value in box))
    return place
