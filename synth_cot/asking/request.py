"""One request to a teacher, and what came of it. Equal requests are one request, whoever asks, and are answered once.

A request is named by everything that its answer depends on: model and revision, what is shown and said, and how it is sampled.
How long an answer may be is not part of the name: an answer that ended by itself within the limit holds under every limit that
leaves it room, and one that was cut off holds under every shorter one (`holds`). Prices, limits of time and rate, and the name
by which the teacher goes in the recipe are not part of it either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from manifests.fingerprint import value_id

OVER_BUDGET = "over_budget"


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A piece of what is shown: text, or a stored picture with parts of it masked.

    Attributes:
        masks: rectangles that are greyed out, x0, y0, x1, y1 as fractions of width and height.
    """

    text: str = ""
    media_id: str = ""
    masks: tuple[tuple[float, float, float, float], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a teacher is asked.

    Attributes:
        teacher: its name in the recipe.
        purpose: ``answer``, ``masked`` or ``review``.
        task, source_id: what it is asked for.
        system: the system message.
        pieces: the user message.
        sample: which of several responses to the same question, from 0.
        max_tokens: length of the response, at most.
    """

    teacher: str
    purpose: str
    task: str
    source_id: str
    model: str
    revision: str
    system: str
    pieces: tuple[Piece, ...]
    pixels_max: int
    temperature: float
    top_p: float
    sample: int
    max_tokens: int

    @property
    def request_id(self) -> str:
        """32 hexadecimal digits of the hash of everything that the answer depends on but its length."""
        shown = any(piece.media_id for piece in self.pieces)
        return value_id(
            {
                "model": self.model,
                "revision": self.revision,
                "system": self.system,
                "pieces": self.pieces,
                "pixels_max": self.pixels_max if shown else 0,
                # Without chance, how likely words are does not matter.
                "sampling": [self.temperature, self.top_p, self.sample] if self.temperature else [0.0, 1.0, 0],
            }
        )


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of a request.

    Attributes:
        text: the response; "" when there is none.
        error: why there is none, or None.
        again: whether the reason may be gone another time.
        cut: whether it was cut off at ``max_tokens``.
        seconds: the call took, waits before it not counted.
        usd: what it cost by the teacher's prices when it was asked.
    """

    text: str = ""
    error: str | None = None
    again: bool = False
    cut: bool = False
    max_tokens: int = 0
    usage: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    usd: float = 0.0

    def holds(self, request: Request) -> bool:
        """Whether this is still the answer to a request of the same name, under its limit of length."""
        if self.error is not None and not self.cut:
            return not self.again
        if self.cut:
            return request.max_tokens <= self.max_tokens
        used = self.usage.get("completion_tokens")
        return request.max_tokens >= self.max_tokens if used is None else used <= request.max_tokens

    def row(self, request: Request) -> dict[str, Any]:
        """The row of `manifests.schemas.REQUESTS`, before it is known what came of the question."""
        return {
            "request_id": request.request_id,
            "teacher": request.teacher,
            "model": request.model,
            "revision": request.revision,
            "purpose": request.purpose,
            "task": request.task,
            "source_id": request.source_id,
            "sample_id": None,
            "sample": request.sample,
            "prompt_tokens": self.usage.get("prompt_tokens"),
            "completion_tokens": self.usage.get("completion_tokens"),
            "seconds": self.seconds,
            "usd": self.usd,
            "response": self.text or None,
            "outcome": "failed" if self.again else "refused" if self.error else "answered",
            "reason": OVER_BUDGET if (self.error or "").startswith(OVER_BUDGET.replace("_", " ")) else None,
            "detail": self.error,
        }
