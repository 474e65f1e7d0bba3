"""A process that compares expressions, with a time limit that holds: it is ended when it does not answer, and started anew.

One for each process that asks, whatever its threads; a forked child starts its own. It is started when first asked (a second or
two, most of it sympy) and ends when its owner does. No signals are used, so it works in threads and in worker processes.
"""

from __future__ import annotations

import atexit
import json
import os
import resource
import select
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

SECONDS = 5.0
_START_S = 60.0
_MEMORY_BYTES = 2 << 30
_BOOT = "from synth_cot.verifiers.referee import serve; serve()"


class Referee:
    """The process, as its owner sees it."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def ask(self, question: dict[str, Any]) -> dict[str, Any] | None:
        """The answer of `symbolic.answer`; None when it takes longer than the limit, or more memory than there may be."""
        with self._lock:
            process = self._running()
            try:
                return self._answer(process, question, self.seconds)
            except (OSError, ValueError):
                self._end(process)
                return None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._owner == os.getpid() and self._process.poll() is None:
            return self._process
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join([root, *filter(None, sys.path)])
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BOOT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "0"},
        )  # fmt: skip
        self._owner = os.getpid()
        self._answer(self._process, {"left": "x", "right": "x"}, _START_S)
        return self._process

    def _answer(self, process: subprocess.Popen[bytes], question: dict[str, Any], seconds: float) -> dict[str, Any] | None:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(question).encode() + b"\n")
        process.stdin.flush()
        waiting = select.poll()
        waiting.register(process.stdout.fileno(), select.POLLIN)
        until, line = time.monotonic() + seconds, b""
        while not line.endswith(b"\n"):
            if not waiting.poll(max(0.0, until - time.monotonic()) * 1000):
                raise TimeoutError
            piece = os.read(process.stdout.fileno(), 1 << 16)
            if not piece:
                raise OSError("the referee ended")
            line += piece
        found: dict[str, Any] | None = json.loads(line)
        return found

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        self._process = None

    def end(self) -> None:
        """Ends the process, if it is this one's."""
        if self._process is not None and self._owner == os.getpid():
            self._end(self._process)


def serve() -> None:
    """The process itself: a question a line, an answer a line, until there are no more."""
    from synth_cot.verifiers import symbolic

    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = _MEMORY_BYTES if most == resource.RLIM_INFINITY else min(_MEMORY_BYTES, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, most))
    sys.setrecursionlimit(2_000)
    for line in sys.stdin:
        try:
            found: dict[str, Any] | None = symbolic.answer(json.loads(line))
        except Exception:  # sympy's errors are of every kind; an expression that breaks it equals nothing
            found = {"unread": "left"}
        print(json.dumps(found), flush=True)


REFEREE = Referee()
atexit.register(REFEREE.end)
# A lock that another thread held at a fork would never be given back in the child.
os.register_at_fork(after_in_child=lambda: setattr(REFEREE, "_lock", threading.Lock()))
