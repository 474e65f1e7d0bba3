"""Kills curation with SIGKILL at random moments, runs it again, and compares the corpus with an uninterrupted one.

    python tests/pipelines/kill_curation.py examples/corpus --kills 5

The tests use its functions for two moments; this program is for as many as one likes, on any input.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from manifests.corpus import Corpus
from pipelines.isolation import import_path

RUN = """
import sys
from pathlib import Path
from curriculum.recipes import laptop
from pipelines import curate
result = curate([Path(name) for name in sys.argv[2:]], Path(sys.argv[1]), laptop())
print(result.digest, result.counts["reused"], result.counts["inputs"])
"""


def start(out: Path, *inputs: Path) -> subprocess.Popen[str]:
    """Starts curation in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": import_path()}
    command = [sys.executable, "-c", RUN, str(out), *map(str, inputs)]
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


def finish(out: Path, *inputs: Path) -> tuple[str, int, int]:
    """Runs curation to its end; returns its digest, and how many of how many inputs were reused.

    Raises:
        RuntimeError: it failed.
    """
    process = start(out, *inputs)
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
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    print(f"seed {arguments.seed}")
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        begun = time.monotonic()
        finish(Path(folder) / "whole", *arguments.inputs)
        lasted = time.monotonic() - begun
        expected = Corpus(Path(folder) / "whole").digest()
        print(f"uninterrupted: {lasted:.1f} s, digest {expected}")
        for number in range(arguments.kills):
            out = Path(folder) / f"killed-{number}"
            moment = time.monotonic() + rng.uniform(0.05, 1.0) * lasted
            killed = kill_when(start(out, *arguments.inputs), lambda moment=moment: time.monotonic() > moment)  # type: ignore[misc]
            _, reused, count = finish(out, *arguments.inputs)
            same = Corpus(out).digest() == expected
            failed += not same
            what = f"{reused} of {count} items reused" if killed else "it had ended before"
            print(f"kill {number + 1}: {what}: {'identical' if same else 'DIFFERENT'}", flush=True)
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
