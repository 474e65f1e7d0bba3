"""Running a program that nobody trusts: `run_tests` gives what each hidden test found, or refuses to run at all.

`synth_cot.sandbox.inside` tells how it works; docs/verifiers.md lists the layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from synth_cot.sandbox.containment import require_containment
from synth_cot.sandbox.report import Limits, Outcome, Report, SandboxUnavailableError
from synth_cot.sandbox.runner import run

__all__ = ["Limits", "Outcome", "Report", "SandboxUnavailableError", "run_tests"]


def run_tests(
    program: str, tests: Sequence[dict[str, Any]], *, entry: str = "", limits: Limits | None = None, support: str = ""
) -> Report:
    """Runs a program's hidden tests, in the forms of `synth_cot.verifiers.program`.

    Raises:
        SandboxUnavailableError: this machine cannot contain a program.
    """
    require_containment()
    return run(program, tests, entry=entry, limits=limits or Limits(), support=support)
