"""What the kernel offers to contain a process, through ctypes: namespaces, a private root, Landlock, limits, seccomp.

Every function either did what it says or raises `OSError`. Nothing here decides whether what was done is enough: that is found
out by trying (`synth_cot.sandbox.containment`).
"""

from __future__ import annotations

import ctypes
import math
import os
import resource
import struct
from contextlib import suppress

from synth_cot.sandbox.syscalls import NUMBERS, filter_program

NEW_MOUNTS, NEW_UTS, NEW_IPC, NEW_USER, NEW_PIDS, NEW_NET = 0x20000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000
NOBODY = 65534
_RECURSIVE, _PRIVATE, _BIND, _NOSUID, _NODEV = 0x4000, 0x40000, 0x1000, 2, 4
_DETACH, _AT_RECURSIVE, _ATTR_RDONLY_NOSUID_NODEV = 2, 0x8000, 7
_SET_DEATH_SIGNAL, _SET_DUMPABLE, _SET_SECCOMP, _SET_NO_NEW_PRIVS = 1, 4, 22, 38
# Landlock's rights. All that a kernel knows are taken away; only these are given back.
_READ = 1 << 2 | 1 << 3
_WORK = _READ | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 14  # files and folders, no devices, sockets, pipes, links
_RIGHTS_BY_ABI = {1: 13, 2: 14, 3: 15, 4: 15}
LANDLOCK_LEAST = 3  # before it, files could be truncated

libc = ctypes.CDLL(None, use_errno=True)
_MACHINE = os.uname().machine


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _syscall(name: str, *arguments: object) -> int:
    if _MACHINE not in NUMBERS:
        raise OSError(f"the system calls of {_MACHINE} are not known")
    return _checked(libc.syscall(NUMBERS[_MACHINE][name], *arguments), name)


def enter_namespaces() -> list[str]:
    """Leaves the machine's mounts, processes, network, IPC and name behind; the next child is the first process of its own.

    As root directly, else through a user namespace that maps the user to itself.

    Returns:
        what was made, in words; nothing where the kernel or its policy refuses.
    """
    wanted = NEW_MOUNTS | NEW_PIDS | NEW_NET | NEW_IPC | NEW_UTS
    user, group = os.geteuid(), os.getegid()
    made = ["mount, process, network and IPC namespaces"]
    if user == 0 and libc.unshare(wanted) == 0:
        return made
    if libc.unshare(wanted | NEW_USER) != 0:
        return []
    try:
        for name, line in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(line)
    except (
        OSError
    ):  # a root without the right to map root: a namespace in which it is nobody, good for all but a root of its own
        return ["unmapped user namespace", *made]
    return ["user namespace", *made]


def enter_root(paths: list[str], megabytes: int, work: str) -> None:
    """Makes a new root in memory that holds these paths, for reading only, and a folder ``work``; leaves the old root.

    Args:
        paths: files and folders, absolute.
        megabytes: what may be written to the new root in all.
    """
    _mount(None, "/", None, _RECURSIVE | _PRIVATE, None)
    found = [path for path in paths if os.path.lexists(path)]
    base = next(
        place for place in ("/mnt", "/srv", "/media", "/opt", "/tmp", "/var") if os.path.isdir(place)
        and not any(path == place or path.startswith(f"{place}/") for path in found)
    )  # fmt: skip
    _mount("tmpfs", base, "tmpfs", _NOSUID | _NODEV, f"size={megabytes}m,nr_inodes=4096,mode=755")
    for path in found:
        target = base + path
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.islink(path):
            os.symlink(os.readlink(path), target)
            continue
        if os.path.lexists(target):  # it lies in a path that was bound before
            continue
        if os.path.isdir(path):
            os.mkdir(target)
        else:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY))
        _mount(path, target, None, _BIND | _RECURSIVE, None)
        attributes = ctypes.create_string_buffer(struct.pack("=QQQQ", _ATTR_RDONLY_NOSUID_NODEV, 0, 0, 0))
        _syscall("mount_setattr", -100, target.encode(), _AT_RECURSIVE, attributes, 32)
    os.makedirs(base + work, mode=0o700, exist_ok=True)
    os.chdir(base)
    _syscall("pivot_root", b".", b".")
    _checked(libc.umount2(b".", _DETACH), "umount")
    os.chdir("/")


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None) -> None:
    encoded = [None if text is None else text.encode() for text in (source, target, kind, options)]
    _checked(libc.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3]), f"mount {target}")


def die_with_parent() -> None:
    """SIGKILL when the parent ends."""
    _checked(libc.prctl(_SET_DEATH_SIGNAL, 9, 0, 0, 0), "prctl")


def landlock_version() -> int:
    """The version of Landlock's interface; 0 without it."""
    try:
        return _syscall("landlock_create_ruleset", None, ctypes.c_size_t(0), 1)
    except OSError:
        return 0


def confine_files(readable: list[str], work: str | None) -> None:
    """Landlock: below the readable paths files may be read, below ``work`` written, no other opened; no TCP, no signals out."""
    version = landlock_version()
    if version < LANDLOCK_LEAST:
        raise OSError(f"Landlock {version}")
    rights = (1 << _RIGHTS_BY_ABI.get(version, 16)) - 1
    attributes = struct.pack("=QQQ", rights, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    rules = _syscall("landlock_create_ruleset", ctypes.create_string_buffer(attributes[:size]), ctypes.c_size_t(size), 0)
    for path, allowed in [(path, _READ) for path in readable] + ([(work, _WORK)] if work else []):
        try:
            opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        granted = allowed if os.path.isdir(path) else allowed & ~(1 << 3)
        rule = ctypes.create_string_buffer(struct.pack("=Qi", granted, opened))
        _syscall("landlock_add_rule", rules, 1, rule, 0)
        os.close(opened)
    no_new_privileges()
    _syscall("landlock_restrict_self", rules, 0)
    os.close(rules)


def no_new_privileges() -> None:
    """No program that is started later gains rights; what seccomp and Landlock ask for."""
    _checked(libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")


def drop_rights(become_nobody: bool) -> None:
    """Gives up root, where it is held and ``become_nobody``, and every capability."""
    if become_nobody and os.geteuid() == 0:
        with suppress(OSError):  # in a user namespace there may be nobody to become; capabilities go all the same
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            libc.unshare(NEW_USER)  # a count of processes of its own; without it the limit counts all sandboxes of nobody
    header = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0))
    _syscall("capset", header, ctypes.create_string_buffer(24))
    _checked(libc.prctl(_SET_DUMPABLE, 0, 0, 0, 0), "prctl")


def set_limits(seconds: float, megabytes: int, file_megabytes: int, threads: int) -> None:
    """Hard limits that nothing in the process can raise."""
    whole = math.ceil(seconds)
    for kind, value in (
        (resource.RLIMIT_AS, megabytes << 20), (resource.RLIMIT_FSIZE, file_megabytes << 20),
        (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, 64), (resource.RLIMIT_NPROC, threads),
        (resource.RLIMIT_MEMLOCK, 0), (resource.RLIMIT_MSGQUEUE, 0),
    ):  # fmt: skip
        _, most = resource.getrlimit(kind)
        bounded = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(kind, (bounded, bounded))
    resource.setrlimit(resource.RLIMIT_CPU, (whole, whole + 1))  # SIGXCPU says what it was, SIGKILL makes sure


def filter_calls() -> None:
    """Installs the filter of `synth_cot.sandbox.syscalls`; it can never be taken off."""
    if _MACHINE not in NUMBERS:
        raise OSError(f"the system calls of {_MACHINE} are not known")
    no_new_privileges()
    program = filter_program(_MACHINE, os.getpid())
    code = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    _checked(libc.prctl(_SET_SECCOMP, 2, ctypes.create_string_buffer(described), 0, 0), "seccomp")
