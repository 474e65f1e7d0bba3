"""The filter of system calls: what an untrusted Python program may ask of the kernel, as a classic BPF program for seccomp.

An allow-list: everything that is not named is refused with EPERM, new calls of new kernels among it. So there are no sockets,
no new processes, no exec, ptrace, mounts, io_uring, or signals to others, on any kernel that has seccomp. Threads are allowed,
since they stay inside the process; what a file call may reach is for Landlock and the mount namespace to say. Changing modes,
owners, times, attributes and links of files is refused, since Landlock does not cover all of it.

Numbers are those of the kernel's own headers (x86-64: asm/unistd_64.h, AArch64: asm-generic/unistd.h).
"""

from __future__ import annotations

import struct

NUMBERS = {
    "x86_64": {
        "access": 21, "alarm": 37, "arch_prctl": 158, "brk": 12, "capset": 126, "chdir": 80, "clock_getres": 229,
        "clock_gettime": 228, "clock_nanosleep": 230, "clone": 56, "clone3": 435, "close": 3, "close_range": 436,
        "copy_file_range": 326, "creat": 85, "dup": 32, "dup2": 33, "dup3": 292, "epoll_create": 213, "epoll_create1": 291,
        "epoll_ctl": 233, "epoll_pwait": 281, "epoll_wait": 232, "eventfd2": 290, "exit": 60, "exit_group": 231, "faccessat":
        269, "faccessat2": 439, "fadvise64": 221, "fallocate": 285, "fchdir": 81, "fcntl": 72, "fdatasync": 75, "flock": 73,
        "fstat": 5, "fstatfs": 138, "fsync": 74, "ftruncate": 77, "futex": 202, "get_robust_list": 274, "getcpu": 309,
        "getcwd": 79, "getdents": 78, "getdents64": 217, "getegid": 108, "geteuid": 107, "getgid": 104, "getgroups": 115,
        "getitimer": 36, "getpgid": 121, "getpgrp": 111, "getpid": 39, "getppid": 110, "getpriority": 140, "getrandom": 318,
        "getresgid": 120, "getresuid": 118, "getrlimit": 97, "getrusage": 98, "getsid": 124, "gettid": 186, "gettimeofday":
        96, "getuid": 102, "ioctl": 16, "kill": 62, "landlock_add_rule": 445, "landlock_create_ruleset": 444,
        "landlock_restrict_self": 446, "lseek": 8, "lstat": 6, "madvise": 28, "membarrier": 324, "mincore": 27, "mkdir": 83,
        "mkdirat": 258, "mmap": 9, "mount_setattr": 442, "mprotect": 10, "mremap": 25, "msync": 26, "munmap": 11, "nanosleep":
        35, "newfstatat": 262, "open": 2, "openat": 257, "pause": 34, "pipe": 22, "pipe2": 293, "pivot_root": 155, "poll": 7,
        "ppoll": 271, "prctl": 157, "pread64": 17, "preadv": 295, "preadv2": 327, "prlimit64": 302, "pselect6": 270,
        "pwrite64": 18, "pwritev": 296, "pwritev2": 328, "read": 0, "readlink": 89, "readlinkat": 267, "readv": 19, "rename":
        82, "renameat": 264, "renameat2": 316, "restart_syscall": 219, "rmdir": 84, "rseq": 334, "rt_sigaction": 13,
        "rt_sigpending": 127, "rt_sigprocmask": 14, "rt_sigreturn": 15, "rt_sigsuspend": 130, "rt_sigtimedwait": 128,
        "sched_get_priority_max": 146, "sched_get_priority_min": 147, "sched_getaffinity": 204, "sched_getparam": 143,
        "sched_getscheduler": 145, "sched_yield": 24, "seccomp": 317, "select": 23, "sendfile": 40, "set_robust_list": 273,
        "set_tid_address": 218, "setitimer": 38, "sigaltstack": 131, "stat": 4, "statfs": 137, "statx": 332, "sysinfo": 99,
        "tgkill": 234, "time": 201, "timerfd_create": 283, "timerfd_gettime": 287, "timerfd_settime": 286, "times": 100,
        "truncate": 76, "umask": 95, "uname": 63, "unlink": 87, "unlinkat": 263, "wait4": 61, "waitid": 247, "write": 1,
        "writev": 20
    },
    "aarch64": {
        "brk": 214, "capset": 91, "chdir": 49, "clock_getres": 114, "clock_gettime": 113, "clock_nanosleep": 115, "clone":
        220, "clone3": 435, "close": 57, "close_range": 436, "copy_file_range": 285, "dup": 23, "dup3": 24, "epoll_create1":
        20, "epoll_ctl": 21, "epoll_pwait": 22, "eventfd2": 19, "exit": 93, "exit_group": 94, "faccessat": 48, "faccessat2":
        439, "fadvise64": 223, "fallocate": 47, "fchdir": 50, "fcntl": 25, "fdatasync": 83, "flock": 32, "fstat": 80,
        "fstatfs": 44, "fsync": 82, "ftruncate": 46, "futex": 98, "get_robust_list": 100, "getcpu": 168, "getcwd": 17,
        "getdents64": 61, "getegid": 177, "geteuid": 175, "getgid": 176, "getgroups": 158, "getitimer": 102, "getpgid": 155,
        "getpid": 172, "getppid": 173, "getpriority": 141, "getrandom": 278, "getresgid": 150, "getresuid": 148, "getrlimit":
        163, "getrusage": 165, "getsid": 156, "gettid": 178, "gettimeofday": 169, "getuid": 174, "ioctl": 29, "kill": 129,
        "landlock_add_rule": 445, "landlock_create_ruleset": 444, "landlock_restrict_self": 446, "lseek": 62, "madvise": 233,
        "membarrier": 283, "mincore": 232, "mkdirat": 34, "mmap": 222, "mount_setattr": 442, "mprotect": 226, "mremap": 216,
        "msync": 227, "munmap": 215, "nanosleep": 101, "newfstatat": 79, "openat": 56, "pipe2": 59, "pivot_root": 41, "ppoll":
        73, "prctl": 167, "pread64": 67, "preadv": 69, "preadv2": 286, "prlimit64": 261, "pselect6": 72, "pwrite64": 68,
        "pwritev": 70, "pwritev2": 287, "read": 63, "readlinkat": 78, "readv": 65, "renameat": 38, "renameat2": 276,
        "restart_syscall": 128, "rseq": 293, "rt_sigaction": 134, "rt_sigpending": 136, "rt_sigprocmask": 135, "rt_sigreturn":
        139, "rt_sigsuspend": 133, "rt_sigtimedwait": 137, "sched_get_priority_max": 125, "sched_get_priority_min": 126,
        "sched_getaffinity": 123, "sched_getparam": 121, "sched_getscheduler": 120, "sched_yield": 124, "seccomp": 277,
        "sendfile": 71, "set_robust_list": 99, "set_tid_address": 96, "setitimer": 103, "sigaltstack": 132, "statfs": 43,
        "statx": 291, "sysinfo": 179, "tgkill": 131, "timerfd_create": 85, "timerfd_gettime": 87, "timerfd_settime": 86,
        "times": 153, "truncate": 45, "umask": 166, "uname": 160, "unlinkat": 35, "wait4": 260, "waitid": 95, "write": 64,
        "writev": 66
    },
}  # fmt: skip
# Those of the table that are not simply allowed: used by the supervisor only, or judged by their arguments.
_OURS = {
    "pivot_root",
    "capset",
    "seccomp",
    "landlock_create_ruleset",
    "landlock_add_rule",
    "landlock_restrict_self",
    "mount_setattr",
}
_ARGUED = {"clone", "clone3", "kill", "tgkill", "ioctl", "fcntl", "prctl", "prlimit64"}
_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # BPF: ld [k], jeq, jge, jset, ret k
_ALLOW, _KILL, _EPERM, _ENOSYS = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026
_NR, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_CLONE_THREAD, _CLONE_NEW = 0x00010000, 0x7E020080
_FCNTL = (0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030, 1032)  # duplicates, flags, locks, size of a pipe
_IOCTL = (
    0x5401,
    0x5413,
    0x5421,
    0x5450,
    0x5451,
    0x541B,
)  # is it a terminal, its size; blocking, close on exec, bytes
_PRCTL = (15, 16, 0x53564D41)  # names of threads and of memory

Instruction = tuple[int, int, int, int]


def filter_program(machine: str, pid: int) -> bytes:
    """The BPF program for a process of that machine.

    Args:
        machine: as ``os.uname().machine``.
        pid: of the process that will install it; it may send signals to itself alone.

    Raises:
        KeyError: the calls of that machine are not known.
    """
    numbers = NUMBERS[machine]
    program: list[Instruction] = [
        (_LOAD, 0, 0, _ARCH), (_EQUAL, 1, 0, _AUDIT[machine]), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, _NR),
    ]  # fmt: skip
    if machine == "x86_64":  # the x32 calls have numbers of their own
        program += [(_AT_LEAST, 0, 1, 0x40000000), (_RETURN, 0, 0, _KILL)]
    blocks = {
        "clone": [_argument(0), (_ANY_BIT, 2, 0, _CLONE_NEW), (_ANY_BIT, 0, 1, _CLONE_THREAD), *_answers()],
        "clone3": [(_RETURN, 0, 0, _ENOSYS)],  # its flags lie in memory; glibc then takes clone
        "kill": [_argument(0), (_EQUAL, 0, 1, pid), *_answers()],
        "tgkill": [_argument(0), (_EQUAL, 0, 1, pid), *_answers()],
        "fcntl": _one_of(1, _FCNTL),
        "ioctl": _one_of(1, _IOCTL),
        "prctl": _one_of(0, _PRCTL),
        # Limits may be read, never set: the address of new ones must be null in both halves.
        "prlimit64": [_argument(2), (_EQUAL, 0, 3, 0), _argument(2, 4), (_EQUAL, 0, 1, 0), *_answers()],
    }
    for name, block in blocks.items():
        program += [(_EQUAL, 0, len(block), numbers[name]), *block]
    for name in sorted(set(numbers) - _OURS - _ARGUED):
        program += [(_EQUAL, 0, 1, numbers[name]), (_RETURN, 0, 0, _ALLOW)]
    program.append((_RETURN, 0, 0, _EPERM))
    return b"".join(struct.pack("=HBBI", *one) for one in program)


def _argument(number: int, half: int = 0) -> Instruction:
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * number + half)


def _answers() -> list[Instruction]:
    return [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _EPERM)]


def _one_of(number: int, values: tuple[int, ...]) -> list[Instruction]:
    checks = [(_EQUAL, len(values) - 1 - place, 0, value) for place, value in enumerate(values)]
    # The last one jumps over nothing when equal, over the answer when not.
    checks[-1] = (_EQUAL, 0, 1, values[-1])
    return [_argument(number), *checks, *_answers()]
