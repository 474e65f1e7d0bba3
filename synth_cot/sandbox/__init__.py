"""Running a program that nobody trusts: `run_tests` gives what each hidden test found, or refuses to run at all."""

from __future__ import annotations

from synth_cot.sandbox.report import Limits, Outcome, Report, SandboxUnavailableError

__all__ = ["Limits", "Outcome", "Report", "SandboxUnavailableError", "run_tests"]


def run_tests(program: str, tests: list[dict], *, entry: str = "", limits: Limits = Limits()) -> Report:  # noqa: B008
    """Runs a program's hidden tests.

    Raises:
        SandboxUnavailableError: this machine cannot contain a program.
    """
    raise SandboxUnavailableError("the sandbox cannot contain programs on this machine yet")
