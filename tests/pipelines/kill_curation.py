"""Kills curation with SIGKILL at random moments, runs it again, and compares the corpus with an uninterrupted one.

    python tests/pipelines/kill_curation.py examples/corpus --kills 20
    python tests/pipelines/kill_curation.py examples/corpus --kills 20 --what worker

The driver is the process that was started; a worker is any of those that it starts: readers, and with ``--what worker`` Beam's
worker processes, which a machine of few cores runs as threads otherwise. A killed reader costs nothing, a killed Beam worker
ends the run with a message; the next run goes on either way. The tests use its functions for a few moments; this program is for
as many as one likes, on any input.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from manifests.corpus import Corpus
from pipelines.isolation import import_path

ENDS_S = 90.0
PROCESSES = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
# A background job inherits an ignored interrupt; here it means what it means in a terminal, wherever the tests run.
RUN = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
from curriculum.recipes import laptop
from pipelines import curate
result = curate([Path(name) for name in sys.argv[3:]], Path(sys.argv[1]), laptop(), beam_options=sys.argv[2].split())
print(result.digest, result.counts["reused"], result.counts["inputs"])
"""


def start(out: Path, *inputs: Path, options: Sequence[str] = ()) -> subprocess.Popen[str]:
    """Starts curation in a process of its own, with these options of Beam."""
    environment = {**os.environ, "PYTHONPATH": import_path()}
    command = [sys.executable, "-c", RUN, str(out), " ".join(options), *map(str, inputs)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kill_when(process: subprocess.Popen[str], moment: Callable[[], bool], limit_s: float = 120.0) -> bool:
    """Kills the process once ``moment`` holds; False when it had ended before."""
    deadline = time.monotonic() + limit_s
    while not moment() and time.monotonic() < deadline:
        if process.poll() is not None:
            return False
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return True


def workers(process: subprocess.Popen[str], kind: str = "") -> list[psutil.Process]:
    """The processes that curation started, in order of their ids: ``beam_worker``, ``reader_process`` or both."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            words = " ".join(child.cmdline())
            if "-m pipelines." in words and kind in words:
                found.append(child)
    return sorted(found, key=lambda child: child.pid)


def kill_worker_when(
    process: subprocess.Popen[str], moment: Callable[[], bool], choose: Callable[[list[psutil.Process]], psutil.Process]
) -> str:
    """Kills a worker once ``moment`` holds, and waits until curation ends by itself; says what was killed, and how it ended.

    Raises:
        subprocess.TimeoutExpired: curation does not end, although a worker is gone.
    """
    while process.poll() is None and not (moment() and workers(process)):
        time.sleep(0.01)
    if process.poll() is not None:
        process.communicate()
        return ""
    victim = choose(workers(process))
    what = victim.cmdline()[2].removeprefix("pipelines.")
    victim.kill()
    try:
        _, errors = process.communicate(timeout=ENDS_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return f"{what} killed, " + (
        "went on" if not process.returncode else f"ended with: {errors.strip().splitlines()[-1][:160]}"
    )


def finish(out: Path, *inputs: Path, options: Sequence[str] = ()) -> tuple[str, int, int]:
    """Runs curation to its end; returns its digest, and how many of how many inputs were reused.

    Raises:
        RuntimeError: it failed.
    """
    process = start(out, *inputs, options=options)
    said, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(errors)
    digest, reused, count = said.split()
    return digest, int(reused), int(count)


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="+", type=Path)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--what", choices=("driver", "worker"), default="driver")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    print(f"seed {arguments.seed}")
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        options = PROCESSES if arguments.what == "worker" else ()
        begun = time.monotonic()
        finish(Path(folder) / "whole", *arguments.inputs, options=options)
        lasted = time.monotonic() - begun
        expected = Corpus(Path(folder) / "whole").digest()
        print(f"uninterrupted: {lasted:.1f} s, digest {expected}")
        kills = tries = 0
        while kills < arguments.kills and tries < 3 * arguments.kills:
            tries += 1
            out = Path(folder) / f"killed-{tries}"
            moment = time.monotonic() + rng.uniform(0.05, 1.0) * lasted
            moment_came = lambda moment=moment: time.monotonic() > moment  # noqa: E731
            begun_one = start(out, *arguments.inputs, options=options)
            if arguments.what == "driver":
                killed = "driver killed" if kill_when(begun_one, moment_came) else ""
            else:
                killed = kill_worker_when(begun_one, moment_came, rng.choice)
            if not killed:
                continue  # it had ended before the moment came
            kills += 1
            _, reused, count = finish(out, *arguments.inputs)
            same = Corpus(out).digest() == expected
            failed += not same
            what = f"{killed}, then {reused} of {count} items reused"
            print(f"kill {kills}: {what}: {'identical' if same else 'DIFFERENT'}", flush=True)
        print(f"{kills} kills, {failed} corpora different")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
