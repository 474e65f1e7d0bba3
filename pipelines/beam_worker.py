"""A Beam worker process of this machine: quiet, gone soon after its driver is, and missed when it is gone before.

    : > ROLL/$$ && exec python -m pipelines.beam_worker DRIVER ROLL

Beam's own worker tells standard error of every channel it opens, and outlives a driver that was killed: it could write into a
corpus that the next run has already begun anew. And Beam's runner waits without an end for a worker that was killed (by the
system, say, when memory runs out). So a worker is on a roll, a folder with a file named by its process, from before its first
instruction until it has ended as it should; whoever is on it and no longer runs has died.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import signal
import sys
import threading
import time
from pathlib import Path

POLL_S = 0.2


def end_with(driver: int) -> None:
    """Ends this process soon after the process ``driver`` has ended."""

    def watch() -> None:
        while True:
            try:
                os.kill(driver, 0)
            except ProcessLookupError:
                os._exit(1)
            time.sleep(POLL_S)

    threading.Thread(target=watch, daemon=True).start()


def command(roll: Path) -> str:
    """The shell command that starts a worker of this process."""
    words = " ".join(shlex.quote(word) for word in (sys.executable, "-m", "pipelines.beam_worker", str(os.getpid()), str(roll)))
    return f": > {shlex.quote(str(roll))}/$$ && exec {words}"


def died(roll: Path) -> list[int]:
    """The workers on the roll that no longer run."""
    gone = []
    for entry in sorted(roll.iterdir()):
        try:
            os.kill(int(entry.name), 0)
        except ProcessLookupError:
            if entry.exists():  # it may have ended as it should since it was listed
                gone.append(int(entry.name))
    return gone


def end_all(roll: Path) -> None:
    """Ends the workers on the roll now."""
    for entry in roll.iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(entry.name), signal.SIGKILL)


def main() -> None:
    """Works until Beam says that there is no more to do."""
    end_with(int(sys.argv[1]))
    logging.disable(logging.WARNING)
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main(sys.argv[:1])
    (Path(sys.argv[2]) / str(os.getpid())).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
