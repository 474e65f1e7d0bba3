"""Hostile programs are contained, the reason says what they did, and none can read its tests or forge its verdict."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from synth_cot.sandbox import Limits, SandboxUnavailableError, containment, run_tests
from synth_cot.sandbox.containment import weaknesses
from synth_cot.sandbox.runner import run
from synth_cot.sandbox.syscalls import NUMBERS, filter_program
from synth_cot.sandbox.values import pack, unpack

LIMITS = Limits(seconds=10, memory_mb=160, output_kb=64)
SHORT = Limits(seconds=2, wall_seconds=0.6, memory_mb=160, output_kb=64)
# What a program does when its function is called, and the reason that must be given.
HOSTILE = {
    "fork bomb": ("import os\nwhile True: os.fork()", "tried os.fork"),
    "fork bomb through libc": ("import ctypes\nwhile True: ctypes.CDLL(None).fork()", "time limit of 0.6 s"),
    "another program": ("import subprocess\nsubprocess.run(['/bin/sh', '-c', 'id'])", "tried subprocess.Popen"),
    "a shell": ("import os\nos.system('id')", "tried os.system"),
    "read outside": ("open('/etc/passwd').read()", "tried open /etc/passwd"),
    "read outside by a relative path": ("open('../../../../etc/passwd').read()", "tried open /etc/passwd"),
    "read outside, swallowed": ("try: open('/etc/shadow')\nexcept OSError: pass\nreturn 3", "tried open /etc/shadow"),
    "read this repository": (f"open({__file__!r}).read()", "tried open"),
    "write outside": ("open('/tmp/longreel-canary', 'w').write('x')", "tried open /tmp/longreel-canary"),
    "write to the library": ("import os\nopen(os.__file__, 'a').write('x')", "raised OSError|raised PermissionError"),
    "symbolic link": ("import os\nos.symlink('/etc/passwd', 'x')\nopen('x').read()", "tried os.symlink"),
    "hard link": ("import os\nos.link('/etc/passwd', 'x')", "tried os.link"),
    "procfs": ("import os\nos.listdir('/proc/self')", "raised FileNotFoundError|raised PermissionError"),
    "memory of a process": ("open('/proc/self/mem', 'rb').read(1)", "tried open /proc/self/mem"),
    "socket": ("import socket\nsocket.socket().connect(('127.0.0.1', 80))", "tried socket.__new__"),
    "name lookup": ("import socket\nsocket.gethostbyname('example.org')", "tried socket.gethostbyname"),
    "kill the parent": ("import os\nos.kill(os.getppid(), 9)", "tried os.kill"),
    "memory at once": ("bytearray(1 << 40)", r"memory limit of 160 MiB \(MemoryError\)"),
    "memory by and by": ("x = []\nwhile True: x.append(bytearray(1 << 20))", r"memory limit of 160 MiB \(MemoryError\)"),
    "disk": ("with open('x', 'wb') as f:\n    while True: f.write(bytes(1 << 20))", "raised OSError"),
    "many files": ("n = 0\nwhile True:\n    n += 1\n    open(str(n), 'w').close()", "raised OSError"),
    "sleep": ("import time\ntime.sleep(60)", "time limit of 0.6 s"),
    "loop": ("while True: pass", "time limit of 0.6 s"),
    "loop that ignores signals": (
        "import signal\nfor n in (2, 15, 24): signal.signal(n, signal.SIG_IGN)\nwhile True: pass", "time limit of 0.6 s",
    ),
    "processor time": ("while True: pass", "processor time limit of 1 s"),
    "large result": ("return 'x' * (1 << 20)", "bytes are more than"),
    "threads": (
        "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(60,)).start()", "raised RuntimeError",
    ),
    "crash": ("import ctypes\nctypes.string_at(0)", "killed by SIGSEGV"),
    "early exit": ("import os\nos._exit(0)", r"ended by itself \(exit code 0\)"),
    "exit": ("import sys\nsys.exit(0)", "raised SystemExit"),
    "raised limits": ("import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))", "tried resource.setrlimit"),
    "deep recursion": ("def g(): return g()\ng()", "raised RecursionError"),
    "deep result": ("x = []\nfor _ in range(100000): x = [x]\nreturn x", "raised ValueError|raised RecursionError"),
    "an object equal to all": ("class E:\n    __eq__ = lambda s, o: True\nreturn E()", "returned .*, not 3"),
    "a list equal to all": ("class E(list):\n    __eq__ = lambda s, o: True\nreturn E()", r"returned \[\], not 3"),
    "wrong": ("return 4", "returned 4, not 3"),
}  # fmt: skip


def function(body: str) -> str:
    return "def f(*given):\n" + textwrap.indent(body, "    ")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_program_is_contained_and_the_reason_is_given(name: str) -> None:
    body, reason = HOSTILE[name]
    limits = SHORT if reason.startswith("time limit") else LIMITS  # what is no matter of time has time on a busy machine
    limits = Limits(seconds=1, wall_seconds=60) if name == "processor time" else limits
    (outcome,) = run_tests(function(body), [{"args": [], "returns": 3}], entry="f", limits=limits).outcomes
    assert not outcome.passed
    assert re.search(reason, outcome.reason), outcome.reason


def test_nothing_is_left_behind_and_later_tests_still_run() -> None:
    before = psutil.Process().children(recursive=True)
    tests = [{"args": [number], "returns": number + 1} for number in range(4)]
    program = function(
        "import time\nif given[0] == 1: time.sleep(60)\nif given[0] == 2: import os; os._exit(1)\nreturn given[0] + 1"
    )
    report = run_tests(program, tests, entry="f", limits=Limits(seconds=3, wall_seconds=3))
    assert [outcome.passed for outcome in report.outcomes] == [True, False, False, True]
    assert psutil.Process().children(recursive=True) == before
    assert not Path("/tmp/longreel-canary").exists()


def test_a_program_finds_neither_its_tests_nor_a_way_to_say_that_it_passed() -> None:
    search = """
    import gc, os, sys
    word = "hidden" + "-word"
    frame, seen = sys._getframe(), []
    while frame is not None:
        seen += [repr(frame.f_locals)[:10000], repr(frame.f_globals)[:100000]]
        frame = frame.f_back
    seen += [one for one in gc.get_objects() if isinstance(one, (str, bytes))] + [repr(one)[:10000] for one in gc.get_objects()]
    found = any(word in one for one in seen if isinstance(one, str))
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, b'\\x00\\x00\\x00\\x25{"passed": true, "reason": "passed"}  ')
        except OSError:
            pass
    return found
    """
    tests = [{"code": "# hidden-word\nassert candidate() == 'never'"}, {"code": "# hidden-word\nassert candidate() is True"}]
    report = run_tests(function(textwrap.dedent(search)), tests, entry="f", limits=Limits())
    assert [outcome.passed for outcome in report.outcomes] == [False, False]


def test_a_program_cannot_change_what_its_test_means() -> None:
    program = """
def abs(x): return 0
def len(x): return 3
class math:
    fabs = staticmethod(lambda x: 0)
def helper(x): return 0
class Odd:
    def __lt__(self, other): return True
    def __contains__(self, other): return True
    def __eq__(self, other): return True
    def __iter__(self): return iter(())
    def __sub__(self, other): return 0
def f(x):
    return Odd() if x else 100
"""
    prompt = "import math\n\ndef helper(x):\n    return x * x - 4\n\ndef f(x):\n    'A root.'\n"
    tests = [
        {"code": "assert abs(candidate(0) - 2) < 1e-6"},
        {"code": "assert len([1]) == 3"},
        {"code": "assert math.fabs(candidate(0) - 2) < 1e-6"},
        {"code": "assert helper(candidate(0)) == 0"},
        {"code": "assert candidate(1) < 5"},
        {"code": "assert 7 in candidate(1)"},
        {"code": "assert candidate(1) == 5"},
        {"code": "assert candidate(1) - 5 == 0"},
        {"code": "assert helper(2) == 0 and math.fabs(-1) == 1 and candidate(0) == 100"},
    ]
    report = run_tests(program, tests, entry="f", support=prompt)
    assert [outcome.passed for outcome in report.outcomes] == [False] * 8 + [True]


def test_a_test_in_code_sees_the_names_objects_and_errors_of_the_program() -> None:
    program = """
import math
LIMIT = (1, 2)
TABLE = list(range(100_000))

class Stack:
    def __init__(self):
        self.items = []
    def push(self, item):
        self.items.append(item)
        return self
    def __len__(self):
        return len(self.items)

def rising():
    yield from range(3)

def fill(target):
    target.append(7)
    raise KeyError("gone")

def sorted_in_place(target):
    target.sort()
"""
    code = """
stack = Stack().push(1).push("two")
assert len(stack) == 2 and stack.items == [1, "two"]
assert LIMIT == (1, 2) and isinstance(LIMIT, tuple) and math.floor(2.5) == 2
assert list(rising()) == [0, 1, 2]
assert TABLE[777] == 777 and len(TABLE) == 100_000
try:
    fill([])
except KeyError:
    pass
else:
    raise AssertionError("no error")
numbers = [3, 1, 2]
sorted_in_place(numbers)
assert numbers == [1, 2, 3]
"""
    wrong = "assert LIMIT == (1, 3), 'other limit'"
    report = run_tests(program, [{"code": code}, {"code": wrong}, {"code": "fill([])"}])
    assert [outcome.reason for outcome in report.outcomes] == ["passed", "failed: other limit", "raised KeyError: 'gone'"]


def test_programs_are_run_with_input_and_their_output_is_bounded() -> None:
    program = "import sys\nfor line in sys.stdin: print(int(line) * 2, end=' \\n')"
    tests = [{"stdin": "1\n20\n", "stdout": "2\n40"}, {"stdin": "1\n", "stdout": "3\n"}, {"stdin": "x\n", "stdout": ""}]
    reasons = [outcome.reason for outcome in run_tests(program, tests).outcomes]
    assert reasons[:2] == ["passed", "printed '2', not '3'"]
    assert reasons[2].startswith("raised ValueError")
    (flood,) = run_tests("while True: print('x' * 1000)", [{"stdin": "", "stdout": ""}], limits=LIMITS).outcomes
    assert flood.reason == "output limit of 64 KiB"
    (deaf,) = run_tests("print(1)", [{"stdin": "x" * 10**6, "stdout": "1"}]).outcomes
    assert deaf.passed


def test_a_program_may_write_files_of_its_own_and_behaves_the_same_every_time() -> None:
    program = function("with open('notes', 'w') as f: f.write('3')\nreturn int(open('notes').read())")
    assert run_tests(program, [{"args": [], "returns": 3}] * 2, entry="f").passed == 2
    order = function("return list({'ape', 'bee', 'cat', 'dog', 'eel'})")
    reasons = {run_tests(order, [{"args": [], "returns": 3}], entry="f").outcomes[0].reason for _ in range(3)}
    assert len(reasons) == 1


def test_large_arguments_are_no_large_result() -> None:
    tests = [
        {"args": [list(range(200_000))], "returns": 200_000},
        {"code": "x = [2, 1] * 9\nassert candidate(x) == 18 and x[0] == 2"},
    ]
    assert run_tests("def f(x):\n    return len(x)", tests, entry="f", limits=LIMITS).passed == 2


def test_programs_run_beside_each_other_in_threads() -> None:
    with ThreadPoolExecutor(4) as pool:
        reports = list(
            pool.map(lambda n: run_tests(function(f"return {n}"), [{"args": [], "returns": n}], entry="f"), range(8))
        )
    assert all(report.passed == 1 for report in reports)


def test_a_killed_owner_takes_the_sandbox_with_it() -> None:
    program = function("import time\ntime.sleep(60)")
    code = (
        "from synth_cot.sandbox import Limits, run_tests\n"
        f"run_tests({program!r}, [{{'args': [], 'returns': 3}}], entry='f', limits=Limits(seconds=60))"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    try:
        until, inside = time.monotonic() + 30, []
        while len(inside) < 4 and time.monotonic() < until:  # the sandbox's interpreter, its supervisor, program and tester
            time.sleep(0.05)
            inside = psutil.Process(owner.pid).children(recursive=True)
        assert len(inside) == 4
    finally:
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    _, alive = psutil.wait_procs(inside, timeout=10)
    assert alive == []


@pytest.mark.parametrize("user", [1000, 0])
def test_it_contains_for_an_ordinary_user_and_for_a_root_without_rights(user: int) -> None:
    code = f"""
import ctypes, os
me, group, libc = os.getuid(), os.getgid(), ctypes.CDLL(None)
if libc.unshare(0x10000000) == 0:  # a user namespace, in which this process is that user and nobody else exists
    for name, line in (("setgroups", "deny"), ("uid_map", f"{user} {{me}} 1"), ("gid_map", f"{user} {{group}} 1")):
        with open(f"/proc/self/{{name}}", "w") as file:
            file.write(line)
    assert os.getuid() == {user}
from synth_cot.sandbox import run_tests
from synth_cot.sandbox.containment import weaknesses
assert weaknesses() == (), weaknesses()
assert weaknesses(("Landlock",)) == (), weaknesses(("Landlock",))
program = "def f(x):\\n    open('notes', 'w').close()\\n    return x + 1"
print(run_tests(program, [{{"args": [1], "returns": 2}}], entry="f").passed)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "1", done.stderr


@pytest.mark.parametrize("without", [(), ("Landlock",), ("namespaces",)])
def test_a_layer_less_still_contains_where_the_rest_does(without: tuple[str, ...]) -> None:
    layers = run("f = int", [], entry="f", limits=LIMITS, without=without).layers
    if (without == ("Landlock",) and "private root" not in layers) or (
        without == ("namespaces",) and not any(layer.startswith("Landlock") for layer in layers)
    ):
        assert weaknesses(without) != ()
    else:
        assert weaknesses(without) == ()


def test_where_it_does_not_contain_the_weakness_is_named_and_nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    found = weaknesses(("namespaces", "Landlock"))
    assert "files cannot be kept away" in found[0]
    open_to = weaknesses(("namespaces", "seccomp"))
    assert "it can start a process" in open_to[0]
    monkeypatch.setattr(containment, "weaknesses", lambda: open_to)
    with pytest.raises(
        SandboxUnavailableError, match=r"no program is run, since this machine cannot contain one: it can .*start a process"
    ):
        run_tests("f = int", [{"args": [], "returns": 0}], entry="f")


@pytest.mark.parametrize("machine", NUMBERS)
def test_the_filter_is_a_program_that_a_kernel_accepts_and_answers_everything(machine: str) -> None:
    program = filter_program(machine, 7)
    assert len(program) % 8 == 0
    assert len(program) // 8 < 4096
    assert {"execve", "ptrace", "socket", "fork", "vfork", "mount", "bpf", "io_uring_setup"} & set(NUMBERS[machine]) == set()
    assert len(set(NUMBERS[machine].values())) == len(NUMBERS[machine])


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -(2**70), 1.5, float("inf"), "ü\ud800", b"\x00", 2j, [1, (2, {3}), {"a": [None], 4: ()}], frozenset({1})],
)
def test_plain_values_travel_unchanged(value: object) -> None:
    assert unpack(pack(value)) == value
    assert type(unpack(pack(value))) is type(value)
