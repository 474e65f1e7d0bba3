"""How long work tells the front door how far it is: a callable, so that packages need no terminal library."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called whenever something moved."""

    def __call__(self, label: str, done: float, total: float | None, detail: str = "") -> None:
        """``label`` names the work, ``done`` of ``total`` units are finished (total None: unknown), ``detail`` is free text."""


def silent(label: str, done: float, total: float | None, detail: str = "") -> None:
    """Reports nothing."""
