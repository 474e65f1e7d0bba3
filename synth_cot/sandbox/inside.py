"""Inside the sandbox: a fresh interpreter that makes its walls, then judges a program's tests one by one.

Three processes. The **supervisor** (first process of its own world, where there are namespaces) keeps the time and never
reads a test. For every test it starts the **program**, locked down, and then the **tester**, locked down too, which reads the
test from the one outside, talks to the program in plain values (`synth_cot.sandbox.values`) and writes the outcome to the one
outside. So the program's memory never held a test, nothing it returns is more than a value, and it has no descriptor that
reaches further than its tester: it can fail, but it can neither read the tests nor say that it passed.

Only light modules are imported here, and none of the package's own beside these: starting is most of what a small test costs.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from contextlib import suppress

from synth_cot.sandbox import kernel, tester, values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

WORK = "/sandbox"
_MESSAGE_MOST = 64 << 20
_ROOT_MB = 16
_NAME_MOST = 4_000
_GRACE_S = 0.5
# What the program may not try, as Python's audit events name it; the kernel refuses it whether or not it is seen here.
_REFUSED = frozenset((
    "socket.__new__", "socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "os.fork", "os.forkpty",
    "os.exec", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen", "os.kill", "os.killpg", "pty.spawn", "os.symlink",
    "os.link", "os.chmod", "os.chown", "os.setxattr", "os.removexattr", "resource.setrlimit", "resource.prlimit",
))  # fmt: skip


def main() -> None:
    """Reads the job, makes the walls, and answers tests until there are no more."""
    job = values.receive(0, _MESSAGE_MOST)
    layers = [] if "namespaces" in job["without"] else kernel.enter_namespaces()
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        os._exit(0 if status == 0 else 1)
    kernel.die_with_parent()
    rooted = False
    if layers:
        try:
            kernel.enter_root(job["paths"], _ROOT_MB, WORK)
        except OSError as error:
            layers.append(f"no private root: {error}")
        else:
            rooted = True
            layers.append("private root")
            if os.geteuid() == 0:
                with suppress(OSError):
                    os.chown(WORK, kernel.NOBODY, kernel.NOBODY)
    version = 0 if "Landlock" in job["without"] else kernel.landlock_version()
    if version >= kernel.LANDLOCK_LEAST:
        layers.append(f"Landlock {version}")
    values.send(1, {"layers": [*layers, "seccomp", "limits"]}, _MESSAGE_MOST)
    supervisor = Supervisor(job, rooted=rooted, landlock=version >= kernel.LANDLOCK_LEAST)
    while True:
        try:
            kind = os.read(0, 1)
        except OSError:
            kind = b""
        if not kind:
            os._exit(0)
        supervisor.test(stdin=kind == b"s")


class Supervisor:
    """Starts program and tester for each test, and ends them when their time is over.

    Args:
        rooted: whether the root is private.
        landlock: whether Landlock is to be used.
    """

    def __init__(self, job: dict[str, Any], *, rooted: bool, landlock: bool) -> None:
        self.job, self.rooted, self.landlock = job, rooted, landlock

    def lock_down(self) -> None:
        """Gives up everything that this process does not need to run a program.

        Raises:
            OSError: too little can be given up; then nothing may be run.
        """
        limits = self.job["limits"]
        if self.rooted:
            os.chdir(WORK)
        kernel.drop_rights(become_nobody=self.rooted)
        kernel.die_with_parent()  # where there is no namespace that ends with the supervisor
        kernel.set_limits(limits["seconds"], limits["memory_mb"], _ROOT_MB, limits["threads"])
        if self.landlock:
            kernel.confine_files(self.job["paths"], WORK if self.rooted else None)
        elif not self.rooted:
            raise OSError("neither Landlock nor a private root: files cannot be kept away")
        if "seccomp" not in self.job["without"]:
            kernel.filter_calls()

    def test(self, *, stdin: bool) -> None:
        """One test, whose text is the next message of the one outside; its outcome is written outside."""
        asked, asks = os.pipe()
        answers, answered = os.pipe()
        input_end, feed = os.pipe()
        output, output_end = os.pipe()
        status, reports = os.pipe()
        program = os.fork()
        if program == 0:
            try:
                _keep((asked, answered, input_end, output_end))
                run_program(self, asked, answered, input_end, output_end, stdin=stdin)
            finally:
                os._exit(70)
        judge = os.fork()
        if judge == 0:
            try:
                _keep((0, 1, asks, answers, feed, output, reports))
                tester.judge(self, asks, answers, feed, output, reports, stdin=stdin)
            finally:
                os._exit(70)
        for end in (asked, asks, answers, answered, input_end, feed, output, output_end, reports):
            os.close(end)
        self._watch(program, judge, status)
        os.close(status)

    def _watch(self, program: int, judge: int, status: int) -> None:
        seconds, wall = self.job["limits"]["seconds"], self.job["wall"]
        said = os.read(status, 1)  # the test is read: from here on it costs time
        until = time.monotonic() + wall
        waiting = select.poll()
        waiting.register(status, select.POLLIN)
        waiting.register(0, 0)  # says only when the one outside is gone
        while said == b"A":
            ready = dict(waiting.poll(max(0.0, until - time.monotonic()) * 1000))
            if status in ready:
                said = os.read(status, 1)
            elif ready:
                said = b""
            elif time.monotonic() >= until:
                said = b"T"
        ended = _ended(program, _GRACE_S) if said == b"D" else None
        for pid in (program, judge):
            _kill(pid)
        if said == b"D":
            _outcome(_death(ended, seconds))
        elif said == b"T":
            _outcome(f"time limit of {wall:g} s")
        elif said != b"R":
            _outcome("the test itself ended early")
        while True:
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                return


def _outcome(reason: str) -> None:
    values.send(1, {"passed": False, "reason": reason}, _MESSAGE_MOST)


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _ended(pid: int, seconds: float) -> int | None:
    """How a process ended; None when it has not within that time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            found, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return None
        if found:
            return status
        time.sleep(0.001)
    return None


def _death(status: int | None, seconds: float) -> str:
    if status is None:
        return "the program closed its answers"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number in (signal.SIGXCPU, signal.SIGKILL):
            return f"processor time limit of {seconds:g} s" if number == signal.SIGXCPU else "killed by SIGKILL"
        return f"killed by {signal.Signals(number).name}" if number in set(signal.Signals) else f"killed by signal {number}"
    return f"the program ended by itself (exit code {os.WEXITSTATUS(status)})"


def _keep(descriptors: tuple[int, ...]) -> None:
    start = 0
    for one in sorted(descriptors):
        if start < one:  # an empty range would close everything above it
            os.closerange(start, one)
        start = one + 1
    os.closerange(start, 256)


def run_program(supervisor: Supervisor, asked: int, answered: int, input_end: int, output_end: int, *, stdin: bool) -> None:
    """The program's process: locked down, the program is run, then what the tester asks of it is done."""
    most = supervisor.job["limits"]["output_kb"] << 10
    tried: list[str] = []

    def answer(message: dict[str, Any]) -> None:
        values.send(answered, {**message, "tried": tried[0] if tried else ""}, most)

    try:
        supervisor.lock_down()
    except OSError as error:
        answer({"refused": str(error)})
        os._exit(0)
    _standard_streams(input_end, output_end, stdin)
    if supervisor.job["watch"]:
        sys.addaudithook(_watcher(tried, (*supervisor.job["paths"], WORK)))
    name = "__main__" if stdin else "solution"
    module = type(sys)(name)
    sys.modules[name] = module
    kept: list[Any] = []

    def keep(value: Any) -> int:
        kept.append(value)
        return len(kept) - 1

    def failed(error: BaseException) -> dict[str, Any]:
        try:
            words = str(error)[:200]
        except BaseException:
            words = ""
        return {"error": [type(error).__name__[:80], words]}

    try:
        exec(compile(supervisor.job["program"], "solution.py", "exec"), module.__dict__)
        message: dict[str, Any] = {"names": {} if stdin else _names(module, keep)}
    except BaseException as error:
        ended = stdin and isinstance(error, SystemExit) and error.code in (None, 0)
        message = {"names": {}} if ended else failed(error)
    if stdin:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
    answer(message)
    if stdin or "error" in message:
        os._exit(0)
    while True:
        operation, operands, named = values.receive(asked, _MESSAGE_MOST)
        try:
            given = [values.unpack(one, lambda number, *_: kept[number]) for one in operands]
            keywords = {key: values.unpack(one, lambda number, *_: kept[number]) for key, one in named.items()}
            result = tester.OPERATIONS[operation](*given, **keywords)
            # What came as a value and was changed in place goes back as it is now.
            after = [
                None if isinstance(one, dict) and "handle" in one else values.pack(value, keep)
                for one, value in zip(operands, given, strict=True)
            ]
            after = [None if one == before else one for one, before in zip(after, operands, strict=True)]
            reply = {"value": values.pack(result, keep), "after": after}
        except BaseException as error:
            reply = failed(error)
        try:
            answer(reply)
        except values.TooLargeError as error:
            answer({"error": ["TooLargeError", str(error)]})


def _standard_streams(input_end: int, output_end: int, stdin: bool) -> None:
    os.dup2(input_end, 0)
    os.dup2(output_end, 1)
    os.dup2(output_end, 2)
    sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    out = open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    # What a function prints is nobody's: it is written nowhere, so that no amount of it costs anything.
    sys.stdout = sys.stderr = out if stdin else _Nowhere()


class _Nowhere:
    """A stream that forgets."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        """Nothing to do."""

    def isatty(self) -> bool:
        return False


def _names(module: Any, keep: Any) -> dict[str, Any]:
    """What a program defines, as the tester will know it."""
    found: dict[str, Any] = {}
    for name, value in list(vars(module).items()):
        if name.startswith("__"):
            continue
        if isinstance(value, type(sys)):
            found[name] = {"module": value.__name__}
            continue
        try:
            found[name] = values.pack(value, keep)
            plain = len(json.dumps(found[name])) <= _NAME_MOST
        except (ValueError, RecursionError):
            plain = False
        if not plain:  # a large table stays where it is
            found[name] = {"handle": [keep(value), type(value).__name__[:80], callable(value)]}
    return found


def _watcher(tried: list[str], allowed: tuple[str, ...]) -> Any:
    """Notes the first thing that a program may not try, for the reason given; it stops nothing."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if tried:
            return
        if event in _REFUSED:
            tried.append(event)
        elif event == "open" and isinstance(arguments[0], str | bytes):
            path = os.path.abspath(os.fsdecode(arguments[0]))
            if not any(path == one or path.startswith(f"{one}/") for one in allowed):
                tried.append(f"open {path}"[:120])

    return hook
