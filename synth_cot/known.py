"""What is known to be true of a source: annotation payloads and generated problems as typed values, one for each kind.

A screen is a screenshot or one step of a trace; a clip is a whole video, or a window of one that no video form holds whole; a
paper is a document with the text of its pages; a problem comes from a generator that knows its answer. Pictures, pairs and
tables are drawn by `synth_cot.made`, and so are the clips that have presences. A query is a user's own, with its answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from manifests.curate_spec import VideoForm

Box = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where knowledge comes from, and what its samples inherit."""

    source_id: str
    source: str
    split: str
    licence: str
    duplicate_cluster: str


@dataclass(frozen=True, kw_only=True)
class Element:
    """A control on a screen; the box is x0, y0, x1, y1 in pixels of the screen."""

    id: str
    role: str
    text: str
    box: Box


@dataclass(frozen=True, kw_only=True)
class Screen:
    """A screenshot and its controls.

    Attributes:
        place: which screen of its source, "" for a screenshot, the step's number for a trace.
        width, height: pixels in which the boxes are given.
    """

    place: str
    media_id: str
    width: int
    height: int
    elements: tuple[Element, ...]

    def element(self, element_id: str) -> Element:
        """The control of that id."""
        return next(element for element in self.elements if element.id == element_id)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A described stretch of video, in seconds of the source."""

    start: float
    end: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A stretch of video as one sample shows it; every time is in seconds of the source video.

    Attributes:
        whole: whether it is the whole video.
        form: the video form whose budget it is shown under.
        fps: of the grid on which frames are stored.
        frames: stored picture by grid point.
    """

    place: str
    start_s: float
    end_s: float
    whole: bool
    form: VideoForm
    width: int
    height: int
    fps: float
    frames: dict[int, str]
    shots: tuple[tuple[float, float], ...]
    scenes: tuple[Scene, ...]
    presences: tuple[Presence, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Presence:
    """A thing of a drawn film and when it can be seen, in seconds of the film."""

    id: str
    name: str
    spans: tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class Thing:
    """A thing of a drawn picture; the box is x0, y0, x1, y1 in its pixels."""

    id: str
    shape: str
    colour: str
    box: Box

    @property
    def name(self) -> str:
        """Colour and shape."""
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A drawn picture and everything on it."""

    place: str
    media_id: str
    width: int
    height: int
    things: tuple[Thing, ...]

    def thing(self, thing_id: str) -> Thing:
        """The thing of that id."""
        return next(thing for thing in self.things if thing.id == thing_id)


@dataclass(frozen=True, kw_only=True)
class Edit:
    """What differs between two pictures at one place; ``kind`` is removed, added, recoloured or resized."""

    id: str
    kind: str
    box: Box


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two pictures that differ by known edits, and in how they were rendered."""

    place: str
    before: Picture
    after: Picture
    edits: tuple[Edit, ...]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table shown as a picture. The first column names the rows.

    Attributes:
        page, area: where in its document the picture was taken from (pixels or points of the page); None when it was drawn.
        drawn: whether the table is this project's own.
    """

    place: str
    media_id: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    drawn: bool
    page: int | None = None
    area: Box | None = None


@dataclass(frozen=True, kw_only=True)
class Query:
    """A user's question with its answer, and the verifier that compares."""

    place: str
    prompt: str
    answer: str
    verifier: str
    task: str
    media_ids: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page of a document; ``text`` is "" where no sample holds it."""

    number: int
    first_line: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Paper:
    """A document."""

    place: str
    pages: tuple[Page, ...]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A generated problem: `entry` is the generator's own record with question, answer and metadata."""

    place: str
    generator: str
    entry: dict[str, Any]

    @property
    def question(self) -> str:
        """The problem as it is asked."""
        return str(self.entry["question"]).strip()


Subject = Screen | Clip | Paper | Problem | Picture | Pair | Grid | Query


@dataclass(frozen=True, kw_only=True)
class Known:
    """One source, its raw payload, and what can be asked about."""

    source: Source
    payload: dict[str, Any]
    subjects: tuple[Subject, ...]


def from_annotation(
    row: dict[str, Any], forms: tuple[VideoForm, ...], page_texts: dict[int, str], tables: Sequence[dict[str, Any]] = ()
) -> Known:
    """A row of `manifests.schemas.ANNOTATIONS` as knowledge.

    Args:
        forms: the recipe's video forms, shortest first.
        page_texts: for a document, the text of its pages where samples hold it.
        tables: for a document, the tables that samples show: ``media_id``, ``columns``, ``rows``, ``page``, ``area``.
    """
    payload = json.loads(row["payload"]) | ({"tables": list(tables)} if tables else {})
    if page_texts:
        payload["texts"] = {str(number): text for number, text in sorted(page_texts.items())}
    source = Source(**{name: row[name] for name in ("source_id", "source", "split", "licence", "duplicate_cluster")})
    subjects: tuple[Subject, ...]
    if row["kind"] == "gui":
        subjects = (_screen("", payload),)
    elif row["kind"] == "trace":
        subjects = tuple(_screen(str(number), step) for number, step in enumerate(payload["steps"]))
    elif row["kind"] == "video":
        subjects = _clips(payload, forms)
    elif row["kind"] == "document":
        pages = (
            Page(number=p["page"], first_line=p["first_line"] or "", text=page_texts.get(p["page"], ""))
            for p in payload["pages"]
        )
        subjects = (Paper(place="", pages=tuple(pages)), *(_grid(str(n), table) for n, table in enumerate(tables)))
    elif row["kind"] in SUBJECTS:
        subjects = (SUBJECTS[row["kind"]](payload, forms),)
    else:
        subjects = ()
    return Known(source=source, payload=payload, subjects=subjects)


def _screen(place: str, payload: dict[str, Any]) -> Screen:
    elements = tuple(
        Element(id=str(item["id"]), role=item["role"], text=" ".join(item["text"].split()), box=_box(item["box"]))
        for item in payload["elements"]
    )
    return Screen(
        place=place, media_id=payload["media_id"], width=payload["width"], height=payload["height"], elements=elements
    )


def _box(value: list[float]) -> Box:
    x0, y0, x1, y1 = value
    return (x0, y0, x1, y1)


def _clips(payload: dict[str, Any], forms: tuple[VideoForm, ...]) -> tuple[Clip, ...]:
    duration = float(payload["duration_s"])
    form = next((form for form in forms if duration <= form.max_s), forms[-1])
    count = 1 if duration <= form.max_s else -int(-duration // form.max_s)
    scenes = tuple(Scene(start=s["start"], end=s["end"], text=" ".join(s["text"].split())) for s in payload["scenes"])
    shots = tuple((float(start), float(end)) for start, end in payload["shots"])
    clips = []
    for number in range(count):
        start, end = number * form.max_s, duration if number == count - 1 else (number + 1) * form.max_s
        clips.append(
            Clip(
                place="" if count == 1 else str(number), start_s=start, end_s=end, whole=count == 1, form=form,
                width=payload["width"], height=payload["height"], fps=float(payload["fps_grid"]),
                frames={int(point): media_id for point, media_id in payload["frames"]},
                shots=shots if count == 1 else (),
                scenes=tuple(scene for scene in scenes if start <= scene.start and scene.end <= end),
            )
        )  # fmt: skip
    return tuple(clips)


def _picture(payload: dict[str, Any], place: str = "") -> Picture:
    things = (
        Thing(id=item["id"], shape=item["shape"], colour=item["colour"], box=_box(item["box"])) for item in payload["things"]
    )
    return Picture(
        place=place, media_id=payload["media_id"], width=payload["width"], height=payload["height"], things=tuple(things)
    )


def _pair(payload: dict[str, Any]) -> Pair:
    edits = (Edit(id=item["id"], kind=item["kind"], box=_box(item["box"])) for item in payload["edits"])
    return Pair(
        place="", before=_picture(payload["before"], "before"), after=_picture(payload["after"], "after"), edits=tuple(edits)
    )


def _film(payload: dict[str, Any], forms: tuple[VideoForm, ...]) -> Clip:
    (clip,) = _clips(payload, forms)
    presences = (
        Presence(id=item["id"], name=item["name"], spans=tuple((start, end) for start, end in item["spans"]))
        for item in payload["presences"]
    )
    return replace(clip, presences=tuple(presences))


def _grid(place: str, payload: dict[str, Any]) -> Grid:
    area = payload.get("area")
    return Grid(
        place=place, media_id=payload["media_id"], columns=tuple(payload["columns"]),
        rows=tuple(tuple(row) for row in payload["rows"]), drawn="area" not in payload,
        page=payload.get("page"), area=None if area is None else _box(area),
    )  # fmt: skip


SUBJECTS: dict[str, Callable[[dict[str, Any], tuple[VideoForm, ...]], Subject]] = {
    "shapes": lambda payload, forms: _picture(payload),
    "edits": lambda payload, forms: _pair(payload),
    "events": _film,
    "table": lambda payload, forms: _grid("", payload),
}
"""Kinds of annotations that `synth_cot.made` writes, and how each is read."""
