"""What the sandbox is asked and what it answers: limits, the outcome of a test, a report of all."""

from __future__ import annotations

from dataclasses import dataclass


class SandboxUnavailableError(RuntimeError):
    """This machine cannot contain a program, so none is run; the message says what is missing."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one test may use.

    Attributes:
        seconds: of processor time, rounded up to whole ones; what decides, since it depends little on what else runs.
        wall_seconds: of time passing; three times as many where it is 0.
        memory_mb: of address space, MiB.
        output_kb: of output or of a result, KiB.
        threads: at once.
    """

    seconds: float = 5.0
    wall_seconds: float = 0.0
    memory_mb: int = 512
    output_kb: int = 256
    threads: int = 16

    @property
    def wall(self) -> float:
        """Seconds after which a test is ended whatever it did."""
        return self.wall_seconds or 3 * self.seconds


@dataclass(frozen=True)
class Outcome:
    """Whether a test passed, and why not."""

    passed: bool
    reason: str


@dataclass(frozen=True)
class Report:
    """The outcomes of all tests, in order; ``layers`` names what contained the program."""

    outcomes: tuple[Outcome, ...]
    layers: tuple[str, ...]

    @property
    def passed(self) -> int:
        """How many tests passed."""
        return sum(outcome.passed for outcome in self.outcomes)
