"""What a teacher is: something that writes a response to a question, under a name that says which revision wrote it.

A teacher may be wrong: nothing it writes is kept before `synth_cot.checks` has compared it with the annotation. Teachers of
this kind answer at once; models are asked through `synth_cot.asking`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from synth_cot.known import Subject
from synth_cot.question import Question


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A response as written, ``<answer>`` tags included."""

    text: str


class Teacher(Protocol):
    """Writes responses.

    Attributes:
        name: of teacher and revision, e.g. ``programmatic/1``; stored with every sample.
    """

    @property
    def name(self) -> str: ...

    def write(self, question: Question, subject: Subject, *, seed: int) -> Reply | None:
        """A response in the form that the question's ask wants; None when this teacher cannot answer."""
        ...
