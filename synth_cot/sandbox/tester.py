"""The tester's process: it knows the test and asks the program, which is another process, for values.

What the program cannot pass as a plain value (a function, an object) appears here as a `Remote`, which passes calls,
attributes, items and iteration on. Whether two things are equal, which is less, or what a container holds is never asked of
the other side.

A test may use the names that the program defines, but none that would change what the test means: no name of a built-in or of a
standard module, and of a name that the problem's prompt defines, the prompt's.
"""

from __future__ import annotations

import builtins
import operator
import os
import select
import sys
from contextlib import suppress

from synth_cot.sandbox import values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from synth_cot.sandbox.inside import Supervisor

_TEST_MOST = 64 << 20
_REASON_MOST = 300  # an outcome fits a pipe's atomic write
OPERATIONS: dict[str, Any] = {
    "call": lambda function, *arguments, **named: function(*arguments, **named),
    "getattr": getattr, "setattr": setattr, "len": len, "getitem": operator.getitem, "setitem": operator.setitem,
    "iter": iter, "next": next, "str": str, "repr": repr,
}  # fmt: skip


class ProgramDiedError(BaseException):
    """The program's process is gone."""


class ProgramError(Exception):
    """The program raised an error that has no namesake among the built-in ones, or answered nonsense."""


class Channel:
    """Asks the program. ``tried`` is what it tried and may not, if anything; ``raised`` its last error, in words."""

    def __init__(self, asks: int, answers: int, most: int) -> None:
        self.asks, self.answers, self.most = asks, answers, most
        self.tried, self.raised = "", ""

    def hear(self) -> dict[str, Any]:
        """The next answer.

        Raises:
            ProgramDiedError: there will be none.
            Exception: what the program raised, by the name of the built-in error.
        """
        try:
            reply = values.receive(self.answers, self.most)
        except (EOFError, OSError):
            raise ProgramDiedError from None
        except ValueError as error:
            raise ProgramError(str(error)) from None
        if not isinstance(reply, dict):
            raise ProgramError("an answer is no answer")
        self.tried = self.tried or str(reply.get("tried", ""))
        if "refused" in reply:
            raise ProgramError(f"not run: {reply['refused']}")
        if "error" in reply:
            name, words = (str(one) for one in reply["error"])
            self.raised = f"{name}: {words}" if words else name
            kind = getattr(builtins, name, None)
            if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, UnicodeError):
                raise kind(words)
            raise ProgramError(f"raised {self.raised}")
        return reply

    def start(self) -> dict[str, Any]:
        """The names that the program defines, once it has run."""
        found = {}
        for name, packed in dict(self.hear().get("names", {})).items():
            module = str(packed["module"]) if isinstance(packed, dict) and "module" in packed else ""
            if hasattr(builtins, name) or (name in sys.stdlib_module_names and module != name):
                continue
            if not module:
                found[name] = self._unpack(packed)
            elif module.partition(".")[0] in sys.stdlib_module_names:
                with suppress(ImportError):
                    found[name] = __import__(module, fromlist=["_"])
        return found

    def ask(self, operation: str, *operands: Any, **named: Any) -> Any:
        """What the program answers to an operation of `OPERATIONS`; lists and dictionaries that it changed are changed."""
        packed = [values.pack(one, _number) for one in operands]
        message = [operation, packed, {key: values.pack(one, _number) for key, one in named.items()}]
        try:
            values.send(self.asks, message, _TEST_MOST)
        except OSError:
            raise ProgramDiedError from None
        reply = self.hear()
        for operand, after in zip(operands, reply.get("after", ()), strict=False):
            if after is not None and isinstance(operand, list | dict | set):
                changed = self._unpack(after)
                if type(changed) is type(operand):
                    operand.clear()
                    operand.extend(changed) if isinstance(operand, list) else operand.update(changed)
        return self._unpack(reply.get("value"))

    def _unpack(self, packed: Any) -> Any:
        try:
            return values.unpack(packed, lambda number, name, can_call: Remote(self, number, name))
        except (ValueError, TypeError, RecursionError) as error:
            raise ProgramError(f"an answer is no value: {error}") from None


def _number(value: Any) -> int:
    if isinstance(value, Remote):
        return object.__getattribute__(value, "_number")
    raise TypeError(f"a value of type {type(value).__name__} cannot be passed to a program")


class Remote:
    """A thing of the program's."""

    def __init__(self, channel: Channel, number: int, name: str) -> None:
        object.__setattr__(self, "_channel", channel)
        object.__setattr__(self, "_number", number)
        object.__setattr__(self, "_kind", name)

    def _ask(self, operation: str, *operands: Any, **named: Any) -> Any:
        return object.__getattribute__(self, "_channel").ask(operation, self, *operands, **named)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._ask("call", *arguments, **named)

    def __getattr__(self, name: str) -> Any:
        return self._ask("getattr", name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._ask("setattr", name, value)

    def __len__(self) -> int:
        return self._ask("len")

    def __getitem__(self, key: Any) -> Any:
        return self._ask("getitem", key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._ask("setitem", key, value)

    def __iter__(self) -> Any:
        return self._ask("iter")

    def __next__(self) -> Any:
        return self._ask("next")

    def __str__(self) -> str:
        return self._ask("str")

    def __repr__(self) -> str:
        return self._ask("repr")


def judge(supervisor: Supervisor, asks: int, answers: int, feed: int, output: int, reports: int, *, stdin: bool) -> None:
    """The tester's process: reads the test, runs it, writes the outcome outside, and tells the supervisor that it did."""
    test = values.receive(0, _TEST_MOST)
    try:
        supervisor.lock_down()
    except OSError as error:
        values.send(1, {"passed": False, "reason": f"not run: {error}"[:_REASON_MOST]}, 4000)
        os.write(reports, b"R")
        os._exit(0)
    if not stdin:
        os.close(feed)  # a function that reads its input finds the end of it
    os.write(reports, b"A")
    limits = supervisor.job["limits"]
    channel = Channel(asks, answers, limits["output_kb"] << 10)
    try:
        if stdin:
            reason = _output(test, channel, feed, output)
        elif "code" in test:
            reason = _code(test, channel, supervisor.job["entry"], supervisor.job["support"])
        else:
            reason = _call(test, channel, supervisor.job["entry"])
    except ProgramDiedError:
        if not channel.tried:
            os.write(reports, b"D")
            os._exit(0)
        reason = "the program ended"
    except MemoryError:
        reason = f"memory limit of {limits['memory_mb']} MiB"
    except ProgramError as error:
        reason = str(error)
    if channel.raised.startswith("MemoryError") and reason:
        reason = f"memory limit of {limits['memory_mb']} MiB (MemoryError)"
    if channel.tried:
        reason = f"tried {channel.tried}, which is refused"
    values.send(1, {"passed": not reason, "reason": reason[:_REASON_MOST] or "passed"}, 4000)
    os.write(reports, b"R")
    os._exit(0)


def _call(test: dict[str, Any], channel: Channel, entry: str) -> str:
    try:
        names = channel.start()
        if entry not in names:
            return f"there is no {entry}"
        returned = channel.ask("call", names[entry], *test.get("args", ()), **test.get("kwargs", {}))
    except ProgramError:
        raise
    except Exception:
        return f"raised {channel.raised}"
    wanted = test["returns"]
    if same(returned, wanted, float(test.get("tolerance", 0.0))):
        return ""
    return f"returned {_short(returned)}, not {_short(wanted)}"


def same(returned: Any, wanted: Any, tolerance: float) -> bool:
    """Equality with a value that came as JSON: a tuple is a list, a set a sorted one, keys of dictionaries are texts."""
    if isinstance(returned, set | frozenset):
        try:
            returned = sorted(returned)
        except TypeError:
            return False
    if isinstance(wanted, list):
        return (
            isinstance(returned, list | tuple)
            and len(returned) == len(wanted)
            and all(same(one, other, tolerance) for one, other in zip(returned, wanted, strict=True))
        )
    if isinstance(wanted, dict):
        if not isinstance(returned, dict) or len(returned) != len(wanted):
            return False
        keyed = {key if isinstance(key, str) else repr(key): value for key, value in returned.items()}
        return keyed.keys() == wanted.keys() and all(same(keyed[key], wanted[key], tolerance) for key in wanted)
    if isinstance(wanted, bool) or isinstance(returned, bool) or wanted is None:
        return returned is wanted
    if isinstance(wanted, int | float):
        return isinstance(returned, int | float) and (returned == wanted or abs(returned - wanted) <= tolerance)
    return type(returned) is type(wanted) and bool(returned == wanted)


def _code(test: dict[str, Any], channel: Channel, entry: str, support: str) -> str:
    source = str(test["code"])
    try:
        names = channel.start()
    except ProgramError:
        raise
    except Exception:
        return f"raised {channel.raised}"
    if entry and entry not in names:
        return f"there is no {entry}"
    trusted: dict[str, Any] = {}
    with suppress(Exception):
        exec(compile(support, "prompt.py", "exec"), trusted)
    namespace = {**names, **trusted, "__name__": "test", **({entry: names[entry], "candidate": names[entry]} if entry else {})}
    channel.raised = ""
    try:
        exec(compile(source, "test.py", "exec"), namespace)
    except ProgramError:
        raise
    except Exception as error:
        if channel.raised:
            return f"raised {channel.raised}"
        line = _line(error, source)
        if isinstance(error, AssertionError):
            return f"failed: {error}" if str(error) else f"failed: {line}"
        return f"the test raised {type(error).__name__}: {error}: {line}"
    return ""


def _line(error: Exception, source: str) -> str:
    number, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "test.py":
            number = trace.tb_lineno
        trace = trace.tb_next
    lines = source.splitlines()
    return lines[number - 1].strip() if 0 < number <= len(lines) else ""


def _output(test: dict[str, Any], channel: Channel, feed: int, output: int) -> str:
    waiting = str(test.get("stdin", "")).encode("utf-8", "surrogateescape")
    pieces: list[bytes] = []
    size = 0
    os.set_blocking(feed, False)
    writing = True
    while True:
        if writing and not waiting:
            os.close(feed)
            writing = False
        readable, writable, _ = select.select([output], [feed] if writing else [], [])
        if writable:
            try:
                waiting = waiting[os.write(feed, waiting) :]
            except BrokenPipeError:
                waiting = b""
        if readable:
            piece = os.read(output, 1 << 16)
            if not piece:
                break
            pieces.append(piece)
            size += len(piece)
            if size > channel.most:
                return f"output limit of {channel.most >> 10} KiB"
    try:
        channel.hear()
    except ProgramError:
        raise
    except Exception:
        return f"raised {channel.raised}"
    printed, wanted = (_lines(text) for text in (b"".join(pieces).decode("utf-8", "replace"), str(test["stdout"])))
    return "" if printed == wanted else f"printed {_short(chr(10).join(printed))}, not {_short(chr(10).join(wanted))}"


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]


def _short(value: Any) -> str:
    sys.set_int_max_str_digits(0)
    try:
        text = repr(value)
    except Exception:
        text = f"a {type(value).__name__}"
    return text if len(text) <= 100 else f"{text[:100]}..."
