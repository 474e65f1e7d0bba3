"""From outside: starts the sandbox's interpreter, hands over the program and the tests, reads the outcomes, ends it.

Nothing is inherited: an empty environment, no descriptors but two pipes, a session of its own. Safe in threads, since nothing
runs between fork and exec. The interpreter is the base one, without site packages, and hashes are not random, so that a program
behaves the same every time.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any

from synth_cot.sandbox import values
from synth_cot.sandbox.report import Limits, Outcome, Report, SandboxUnavailableError

_GRACE_S = 10.0
_MESSAGE_MOST = 64 << 20
# The package's own files without the package: its other modules are not loaded inside.
_BOOT = """
import sys
outer, inner = sys.argv[1:3]
for name, path in (("synth_cot", outer), ("synth_cot.sandbox", inner)):
    module = type(sys)(name)
    module.__path__ = [path]
    sys.modules[name] = module
from synth_cot.sandbox.inside import main
main()
"""


def readable_paths() -> list[str]:
    """What a program may read: the standard library, and the shared libraries that it loads."""
    paths = [os.path.join(prefix, "lib") for prefix in (sys.base_prefix, sys.base_exec_prefix)]
    paths += ["/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/share/zoneinfo", "/etc/ld.so.cache", "/etc/localtime"]
    return sorted({os.path.abspath(path) for path in paths if os.path.lexists(path)}, key=lambda path: (path.count("/"), path))


def run(
    program: str,
    tests: Sequence[dict[str, Any]],
    *,
    entry: str,
    limits: Limits,
    support: str = "",
    without: Sequence[str] = (),
    watch: bool = True,
) -> Report:
    """Runs a program's tests in the sandbox; `synth_cot.sandbox.run_tests` first makes sure that it contains.

    Args:
        support: code that the problem itself gives; tests see its names rather than the program's.
        without: of ``namespaces``, ``Landlock``, ``seccomp``, the layers to do without, so that a test can see them missed.
        watch: whether trying what is refused fails a test.

    Raises:
        SandboxUnavailableError: the sandbox did not start.
    """
    job = {
        "program": program, "entry": entry, "support": support, "limits": asdict(limits), "wall": limits.wall,
        "paths": readable_paths(),
        "without": list(without), "watch": watch,
    }  # fmt: skip
    outcomes: list[Outcome] = []
    with _started() as process:
        assert process.stdin is not None
        assert process.stdout is not None
        to, back = process.stdin.fileno(), process.stdout.fileno()
        layers = tuple(_answer(to, back, b"", job, _GRACE_S)["layers"])
        for test in tests:
            kind = b"s" if "stdout" in test else b"t"
            try:
                found = _answer(to, back, kind, test, limits.wall + _GRACE_S)
            except SandboxUnavailableError as error:
                outcomes += [Outcome(False, str(error))] * (len(tests) - len(outcomes))
                break
            outcomes.append(Outcome(bool(found["passed"]), str(found["reason"])))
    return Report(tuple(outcomes), layers)


@contextmanager
def _started() -> Iterator[subprocess.Popen[bytes]]:
    inner = os.path.dirname(os.path.abspath(__file__))
    python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    process = subprocess.Popen(
        [python, "-S", "-s", "-P", "-c", _BOOT, os.path.dirname(inner), inner],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={"PYTHONHASHSEED": "0"}, cwd="/",
        start_new_session=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process
    finally:
        with suppress(BrokenPipeError):
            process.stdin.close()  # the supervisor ends when nobody is there, and everything inside with it
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()  # its child dies with it
            process.wait()
        process.stdout.close()


def _answer(to: int, back: int, kind: bytes, message: Any, seconds: float) -> Any:
    """Sends a message, waits for the answer.

    Raises:
        SandboxUnavailableError: none came in time.
    """
    try:
        if kind:
            os.write(to, kind)
        values.send(to, message, _MESSAGE_MOST)
        waiting = select.poll()
        waiting.register(back, select.POLLIN)
        until = time.monotonic() + seconds
        while not waiting.poll(max(0.0, until - time.monotonic()) * 1000):
            if time.monotonic() >= until:
                raise SandboxUnavailableError("the sandbox does not answer")
        return values.receive(back, _MESSAGE_MOST)
    except (EOFError, BrokenPipeError) as error:
        raise SandboxUnavailableError("the sandbox ended") from error
