"""Who looks on while a run trains: told what begins, every step, and every checkpoint. The front door's live view is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from trainer.step_line import StepLine


@dataclass(frozen=True, kw_only=True)
class PhaseView:
    """A phase as somebody looking on needs it.

    Attributes:
        stage, name, phase: which, e.g. 2, ``verified``, ``sparse``.
        attention, trains: as in `manifests.stage_spec.PhaseSpec`.
        first, last: steps ``[first, last)`` of the stage. steps: of the whole stage.
        peak_source: what ``mfu`` is a share of: a GPU's name, or ``measured``.
    """

    stage: int
    name: str
    phase: str
    attention: str
    trains: str
    first: int
    last: int
    steps: int
    peak_source: str


class Watch(Protocol):
    """Told by the leading rank only."""

    def phase(self, view: PhaseView, earlier: list[float]) -> None:
        """A phase begins; ``earlier`` are the losses of the stage's steps before it, oldest first."""

    def step(self, line: StepLine) -> None:
        """A step is done."""

    def checkpoint(self, stage: int, steps: int) -> None:
        """A whole checkpoint stands after so many steps of a stage."""


class Nobody:
    """Looks at nothing."""

    def phase(self, view: PhaseView, earlier: list[float]) -> None:
        pass

    def step(self, line: StepLine) -> None:
        pass

    def checkpoint(self, stage: int, steps: int) -> None:
        pass
