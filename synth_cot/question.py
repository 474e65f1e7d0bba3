"""What a question IS: what is asked, the truth, which verifier compares, and the evidence the truth stands on.

`Ask` is the question as a value. It is stored with the sample, so that anybody can recompute the truth from the annotation
without reading the prose; `synth_cot.checks.response` is the first to do so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from manifests.fingerprint import unit_hash
from synth_cot.known import Box, Subject


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A question as a value.

    Attributes:
        task: its task, e.g. ``reason.gui.count``.
        place: which subject of the source: "" or the number of a trace's step or a video's window.
        ids: what it is about, in the order of the question: element ids, indices of scenes, page numbers.
        value: what is asked of them: a role, a relation, a moment in seconds.
        start_s: where the clip begins in the source; times in prompt and answer count from here.
        think: whether reasoning is wanted before the answer.
        clues: whether the answer names the intervals that show it, too.
    """

    task: str
    place: str = ""
    ids: tuple[str, ...] = ()
    value: str = ""
    start_s: float = 0.0
    think: bool = False
    clues: bool = False


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Where the truth can be seen.

    Boxes are in pixels of the source picture (of both, for a pair), intervals in seconds of the source, pages 1-based.
    """

    boxes: tuple[Box, ...] = ()
    intervals: tuple[tuple[float, float], ...] = ()
    pages: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question with its answer. ``truth`` is in the form that its verifier reads."""

    ask: Ask
    prompt: str
    truth: str
    verifier: str
    evidence: Evidence


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """A question that is not asked, or an answer that is not kept, and why."""

    ask: Ask
    reason: str
    detail: str


class Family(Protocol):
    """One kind of question: a module of `synth_cot.questions`."""

    TASK: str

    def candidates(self, subject: Subject) -> list[Ask]:
        """All that could be asked of a subject; none when the family is not about it."""
        ...

    def build(self, subject: Subject, ask: Ask, seed: int) -> Question | Rejection:
        """The question with its truth, or why it is not asked."""
        ...


def pick(options: Sequence[str], *ids: object) -> str:
    """One of several phrasings, by hash of ``ids``."""
    return options[int(unit_hash(*ids) * len(options))]


def shuffled(ids: Sequence[str], *seed: object) -> tuple[str, ...]:
    """``ids`` in an order that depends only on ``seed`` and the ids."""
    return tuple(sorted(ids, key=lambda one: (unit_hash(*seed, one), one)))


def relative_box(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """A box in pixels as 0-1000 coordinates of its picture, rounded (half to even, as curated boxes are)."""
    x0, y0, x1, y1 = box
    return round(1000 * x0 / width), round(1000 * y0 / height), round(1000 * x1 / width), round(1000 * y1 / height)
