"""Every request and what was answered, kept by content: a file each, whole or not at all.

    LEDGER/ab/ab12...-1024     one JSON: the request in words (pictures by name), and its answer; how long it might be

Answers outlive runs, kills and changes of everything that is not part of a request's name (`synth_cot.asking.request`). What
failed for a passing reason is kept for the run that asked, and forgotten by the next.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict
from pathlib import Path

from manifests.files import write_bytes
from manifests.fingerprint import canonical_json
from synth_cot.asking.request import Answer, Request

FAILED = ".failed"


class Ledger:
    """A folder of answers. Making one touches nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, request: Request) -> Path:
        """Where the answer to a request lies."""
        name = request.request_id
        return self.folder / name[:2] / f"{name}-{request.max_tokens}"

    def find(self, request: Request) -> Answer | None:
        """The answer to a request, or None when it has to be asked; one that failed in this run has an answer with an error."""
        path = self.path(request)
        failed = path.with_name(path.name + FAILED)
        others = (kept for kept in path.parent.glob(f"{request.request_id}-*") if kept.suffix != FAILED)
        for kept in (path, failed, *sorted(others)):
            with contextlib.suppress(FileNotFoundError, ValueError, TypeError, KeyError):
                answer = Answer(**json.loads(kept.read_bytes())["answer"])
                if answer.again or answer.holds(request):
                    return answer
        return None

    def keep(self, request: Request, answer: Answer) -> None:
        """Keeps an answer."""
        path = self.path(request)
        if answer.again:
            path = path.with_name(path.name + FAILED)
        value = {"request": asdict(request), "answer": asdict(answer)}
        write_bytes(path, canonical_json(value).encode())

    def forget_failures(self) -> int:
        """Lets a new run ask again what failed for a passing reason; returns how many requests that are."""
        failed = list(self.folder.glob(f"??/*{FAILED}"))
        for path in failed:
            path.unlink(missing_ok=True)
        return len(failed)
