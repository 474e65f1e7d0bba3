"""What an item IS: one input file with the files that describe it, and the three ways in which it can end.

An item is *used* (it gave samples), *filtered* (readable, but not wanted) or *quarantined* (not what it should be).
Extraction says so by returning or by raising `Filtered` or `Quarantined`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from manifests.fingerprint import ID_DIGITS, value_id


@dataclass(frozen=True, kw_only=True)
class Attachment:
    """A file that describes or completes an item.

    Attributes:
        role: the suffix of a sidecar (`pipelines.inputs.SIDECARS`), the file name of a screenshot of a trace, the link under
            which a document shows a picture, or `pipelines.screen_sets.ROLE`.
        source: its escaped path relative to the input.
        path: where it lies; undecodable bytes as surrogates.
        sha256: of its bytes.
        content: the part of the file that is about this item, where one file describes many; then ``bytes`` and ``sha256``
            are the part's.
    """

    role: str
    source: str
    path: str
    bytes: int
    sha256: str
    content: str | None = None


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Why an item is quarantined before anything reads it."""

    stage: str
    reason: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class Item:
    """One input.

    Attributes:
        source: its escaped path relative to the input it was found under; unique among the items of a run.
        path: where it lies; undecodable bytes as surrogates.
        bytes: its size, attached files included.
        sha256: of its own bytes; None when they cannot be read.
        licence, origin: what the inputs' inventory says.
        problem: set when it must not be opened.
    """

    source: str
    path: str
    bytes: int
    sha256: str | None
    attached: tuple[Attachment, ...] = ()
    licence: str = "unknown"
    origin: str | None = None
    problem: Problem | None = None

    @property
    def source_id(self) -> str:
        """Identity of its bytes and its attached files; a plain file's is the beginning of its SHA-256."""
        if self.sha256 is None:
            return value_id({"unreadable": self.source})
        if not self.attached:
            return self.sha256[:ID_DIGITS]
        return value_id([self.sha256, sorted((file.role, file.sha256) for file in self.attached)])

    def attachment(self, role: str) -> Attachment | None:
        """The attached file of that role, if there is one."""
        return next((file for file in self.attached if file.role == role), None)

    def identity(self) -> dict[str, Any]:
        """What a result depends on: everything but where the files lie."""
        value = dataclasses.asdict(self)
        del value["path"]
        for file in value["attached"]:
            del file["path"]
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Item:
        """The inverse of ``dataclasses.asdict``."""
        problem = value["problem"]
        attached = tuple(Attachment(**file) for file in value["attached"])
        return cls(**{**value, "attached": attached, "problem": None if problem is None else Problem(**problem)})


class Quarantined(Exception):  # noqa: N818 - an outcome, not a defect
    """An item is not what it should be.

    Args:
        stage: probe, decode, extract, check or limit.
        reason: short name, stable across versions.
        detail: what exactly was wrong.
    """

    def __init__(self, stage: str, reason: str, detail: str, modality: str | None = None) -> None:
        super().__init__(f"{stage}: {reason}: {detail}")
        self.stage, self.reason, self.detail, self.modality = stage, reason, detail, modality


class Filtered(Exception):  # noqa: N818 - an outcome, not a defect
    """An item is readable, but gives nothing to train on."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail
