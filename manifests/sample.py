"""What a training example IS: ordered text and media parts as chat messages, and where each part came from.

Identity is the hash of content: roles, text, the hashes of the media, their sizes and times, and the task. Where the content
came from (`Origin`) is not part of identity, so the same content from two places is one sample found twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from manifests.fingerprint import value_id

Role = Literal["system", "user", "assistant", "document"]
PartKind = Literal["text", "image", "video"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant", "document")


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A place in a source. Seconds for time, 1-based page numbers, boxes as pixels x0, y0, x1, y1 of the source."""

    source_id: str
    start_s: float | None = None
    end_s: float | None = None
    page: int | None = None
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Visual:
    """One picture as the model sees it.

    Attributes:
        media_id: which stored picture.
        height, width: pixels it is resized to: multiples of 28.
        time_s: for a frame, its presentation time in seconds from the start of its source video.
        label_s: for a frame, the time that is written before it: seconds from the start of this sample's clip.
    """

    media_id: str
    height: int
    width: int
    time_s: float | None = None
    label_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Part:
    """One piece of a message: text, one image, or the frames of one video."""

    kind: PartKind
    text: str | None = None
    visuals: tuple[Visual, ...] = ()
    origin: Origin | None = None

    def __post_init__(self) -> None:
        if (self.kind == "text") != (self.text is not None):
            raise ValueError(f"a {self.kind} part has {'no ' if self.text is None else ''}text")
        if (self.kind == "text") == bool(self.visuals):
            raise ValueError(f"a {self.kind} part has {len(self.visuals)} pictures")
        if self.kind == "image" and len(self.visuals) != 1:
            raise ValueError(f"an image part has {len(self.visuals)} pictures, not one")


@dataclass(frozen=True, kw_only=True)
class Message:
    """One turn. The model learns ``assistant`` and ``document`` text; ``system`` and ``user`` are only read."""

    role: Role
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"unknown role {self.role!r}: one of {', '.join(ROLES)}")


@dataclass(frozen=True, kw_only=True)
class Reasoning:
    """Why an answer is trusted: who wrote it, which verifier accepted it against which truth."""

    teacher: str
    verifier: str
    verifier_version: str
    truth: str
    score: float
    evidence: str
    cost_usd: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One training example before it is written; `manifests.schemas.SAMPLES` is its row."""

    task: str
    capabilities: tuple[str, ...]
    messages: tuple[Message, ...]
    licence: str
    duration_s: float | None = None
    quality: dict[str, float] = field(default_factory=dict)
    reasoning: Reasoning | None = None

    @property
    def sample_id(self) -> str:
        """32 hexadecimal digits of the hash of task and content."""
        return value_id({"task": self.task, "messages": [_content(message) for message in self.messages]})

    @property
    def visuals(self) -> tuple[Visual, ...]:
        """Every picture in the order in which the model reads them."""
        return tuple(visual for message in self.messages for part in message.parts for visual in part.visuals)

    @property
    def source_ids(self) -> tuple[str, ...]:
        """The sources of all parts, each once, sorted."""
        origins = (part.origin for message in self.messages for part in message.parts)
        return tuple(sorted({origin.source_id for origin in origins if origin is not None}))


def _content(message: Message) -> dict[str, Any]:
    parts = [
        {
            "kind": part.kind,
            "text": part.text,
            "visuals": [[v.media_id, v.height, v.width, v.label_s] for v in part.visuals],
        }
        for part in message.parts
    ]
    return {"role": message.role, "parts": parts}


def text(value: str, origin: Origin | None = None) -> Part:
    """A text part."""
    return Part(kind="text", text=value, origin=origin)


def messages_to_rows(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """Messages as the nested ``messages`` column of `manifests.schemas.SAMPLES`."""
    return [
        {
            "role": message.role,
            "parts": [
                {
                    "kind": part.kind,
                    "text": part.text,
                    "visuals": [
                        {
                            "media_id": visual.media_id,
                            "height": visual.height,
                            "width": visual.width,
                            "time_s": visual.time_s,
                            "label_s": visual.label_s,
                        }
                        for visual in part.visuals
                    ],
                    "origin": None if part.origin is None else _origin_to_row(part.origin),
                }
                for part in message.parts
            ],
        }
        for message in messages
    ]


def _origin_to_row(origin: Origin) -> dict[str, Any]:
    return {
        "source_id": origin.source_id,
        "start_s": origin.start_s,
        "end_s": origin.end_s,
        "page": origin.page,
        "box": None if origin.box is None else list(origin.box),
    }


def messages_from_rows(rows: list[dict[str, Any]]) -> tuple[Message, ...]:
    """The inverse of `messages_to_rows`."""
    return tuple(
        Message(
            role=row["role"],
            parts=tuple(
                Part(
                    kind=part["kind"],
                    text=part["text"],
                    visuals=tuple(Visual(**visual) for visual in part["visuals"] or ()),
                    origin=None if part["origin"] is None else _origin_from_row(part["origin"]),
                )
                for part in row["parts"]
            ),
        )
        for row in rows
    )


def _origin_from_row(row: dict[str, Any]) -> Origin:
    box = row["box"]
    return Origin(**{**row, "box": None if box is None else tuple(box)})
