"""Does the sandbox contain, here and now? It is tried before anything else is run: a program goes the same way as any other
and attempts each escape through raw system calls. Whatever succeeds is named, and then nothing is run on this machine.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

from synth_cot.sandbox.report import Limits, SandboxUnavailableError
from synth_cot.sandbox.runner import run

_LIMITS = Limits(seconds=20.0, memory_mb=192, threads=8)
_PROGRAM = """
import ctypes, os, socket

libc = ctypes.CDLL(None, use_errno=True)

def add(one, other):
    return one + other

def succeeds(what, *given):
    try:
        return bool(globals()["_" + what](*given))
    except (OSError, MemoryError):
        return False

def _read(path):
    with open(path) as file:
        return file.read()

def _write(path):
    with open(path, "a") as file:
        return file.write("x")

def _create(path):
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL))
    return True

def _remove(path):
    os.unlink(path)
    return True

def _change_mode(path):
    return libc.chmod(path.encode(), 0o777) == 0

def _list(path):
    return os.listdir(path)

def _connect(family, address):
    with socket.socket(getattr(socket, family)) as one:
        one.connect(tuple(address) if isinstance(address, list) else address)
    return True

def _datagram():
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

def _fork():
    child = libc.fork()
    if child == 0:
        os._exit(0)
    return child > 0

def _execute(path):
    return os.access(path, os.X_OK) and libc.execl(path.encode(), path.encode(), None) == 0

def _signal(pid):
    return libc.kill(pid, 0) == 0

def _trace():
    return libc.ptrace(0, 0, None, None) == 0

def _raise_limit():
    limit = (ctypes.c_ulong * 2)(2**40, 2**40)
    return libc.setrlimit(9, limit) == 0 or libc.prlimit(0, 9, limit, None) == 0

def _memory(size):
    return bytearray(size)

def _fill(size):
    with open("large", "wb") as file:
        for _ in range(size >> 20):
            file.write(bytes(1 << 20))
            file.flush()
    return True

def _unshare():
    return libc.unshare(0x10000000) == 0
"""


@lru_cache(maxsize=8)
def weaknesses(without: tuple[str, ...] = ()) -> tuple[str, ...]:
    """What a program can do here that it must not; empty where it is contained. Tried once in a process.

    Args:
        without: layers to do without, as in `synth_cot.sandbox.runner.run`: for tests of this test.
    """
    if not sys.platform.startswith("linux"):
        return (f"{sys.platform} has no layer that this sandbox uses",)
    with tempfile.TemporaryDirectory() as folder, socket.socket() as server, socket.socket(socket.AF_UNIX) as local:
        os.chmod(folder, 0o777)
        secret, target = Path(folder) / "secret", Path(folder) / "target"
        for path in (secret, target):
            path.write_text("canary")
            path.chmod(0o666)
        server.bind(("127.0.0.1", 0))
        server.listen()
        name = f"\0longreel-{os.getpid()}-{id(local)}"
        local.bind(name)
        local.listen()
        attempts = {
            "read a file outside": ["read", str(secret)],
            "change a file outside": ["write", str(secret)],
            "make a file outside": ["create", str(Path(folder) / "new")],
            "remove a file outside": ["remove", str(target)],
            "change the mode of a file outside": ["change_mode", str(secret)],
            "list a folder outside": ["list", folder],
            "read another process": ["read", f"/proc/{os.getpid()}/environ"],
            "connect to this machine": ["connect", "AF_INET", ["127.0.0.1", server.getsockname()[1]]],
            "connect to a local socket": ["connect", "AF_UNIX", name],
            "open a datagram socket": ["datagram"],
            "start a process": ["fork"],
            "run another program": ["execute", "/bin/true"],
            "signal a process outside": ["signal", os.getpid()],
            "be traced": ["trace"],
            "raise its limits": ["raise_limit"],
            "take more memory than allowed": ["memory", (_LIMITS.memory_mb + 64) << 20],
            "fill the disk": ["fill", 64 << 20],
            "make a user namespace": ["unshare"],
        }
        listed = [[what, given] for what, given in attempts.items()]
        attack = f"found = [what for what, given in {listed!r} if candidate(*given)]\nassert not found, '; it can '.join(found)"
        try:
            plain = run(_PROGRAM, [{"args": [2, 2], "returns": 4}], entry="add", limits=_LIMITS, without=without)
            if not plain.outcomes[0].passed:
                return (f"a harmless program does not run: {plain.outcomes[0].reason}",)
            tried = run(_PROGRAM, [{"code": attack}], entry="succeeds", limits=_LIMITS, without=without, watch=False)
        except SandboxUnavailableError as error:
            return (str(error),)
        found = [] if tried.outcomes[0].passed else [tried.outcomes[0].reason.replace("failed: ", "it can ", 1)]
        if not (target.exists() and secret.read_text() == target.read_text() == "canary") and not found:
            found.append("files outside were changed")
    return tuple(found)


def require_containment() -> None:
    """Returns where a program is contained.

    Raises:
        SandboxUnavailableError: it is not; the message says in what way.
    """
    if found := weaknesses():
        raise SandboxUnavailableError(f"no program is run, since this machine cannot contain one: {'; '.join(found)}")
