"""Code: a program that passes its hidden tests, run where it can do no harm (`synth_cot.sandbox`).

The truth is JSON or its value: ``{"entry": name, "prompt": code, "tests": [test, ...], "limits": {...}}``. A test is one of

- ``{"args": [...], "kwargs": {...}, "returns": value}``: the function ``entry`` is called; ``tolerance`` compares numbers;
- ``{"stdin": text, "stdout": text}``: the program is run; lines compare without trailing white space;
- ``{"code": source}``: Python that raises unless all is well; ``candidate`` and the names that the program defines are there.

``prompt`` goes before a completion that does not define ``entry`` itself; what else it defines, tests take from it and not from
the program. The score is the share of tests passed.
"""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass
from typing import Any

from synth_cot.sandbox import Limits, run_tests
from synth_cot.verifiers.answer_format import final_answer
from synth_cot.verifiers.verdict import Verdict

_FENCE = re.compile(r"```[^\n`]*\n(.*?)```", re.DOTALL)
_LONGEST = 100_000


def program_of(answer: str, prompt: str, entry: str) -> str:
    """The program of an answer: its last fenced block, or all of it; after the prompt where it continues it."""
    blocks = _FENCE.findall(answer)
    code: str = blocks[-1] if blocks else answer
    return code if not prompt or _defines(code, entry) else f"{prompt}{code}"


def _defines(code: str, entry: str) -> bool:
    try:
        body = ast.parse(code).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == entry:
            return True
        if isinstance(node, ast.Assign) and any(isinstance(one, ast.Name) and one.id == entry for one in node.targets):
            return True
    return False


@dataclass(frozen=True)
class CodeVerifier:
    """The share of hidden tests that a program passes."""

    name: str = "code"
    version: str = "1"
    needs: str = "Linux with seccomp, and Landlock or mount namespaces"

    def score(self, prediction: str, truth: Any) -> Verdict:
        """See `Verifier.score`; the truth as the module says.

        Raises:
            SandboxUnavailableError: this machine cannot contain a program.
        """
        wanted = json.loads(truth) if isinstance(truth, str) else truth
        tests = wanted.get("tests") if isinstance(wanted, dict) else None
        if not isinstance(tests, list) or not tests:
            raise ValueError("the truth of code names no tests")
        entry, prompt = str(wanted.get("entry", "")), str(wanted.get("prompt", ""))
        # Not stripped, unlike other answers: the indentation of the first line belongs to a completion.
        answer = final_answer(prediction) if "<answer>" in prediction or "<think>" in prediction else prediction
        if answer is None:
            return Verdict(0.0, "malformed response")
        if len(answer) > _LONGEST:
            return Verdict(0.0, f"{len(answer)} characters are more than {_LONGEST}")
        limits = Limits(**wanted.get("limits", {}))
        report = run_tests(program_of(answer, prompt, entry), tests, entry=entry, limits=limits, support=prompt)
        failed = next((f"; test {n}: {one.reason}" for n, one in enumerate(report.outcomes, 1) if not one.passed), "")
        return Verdict(report.passed / len(tests), f"{report.passed} of {len(tests)} tests passed{failed}")


VERIFIER = CodeVerifier()
