"""How a busy server is waited for, and how all processes of a machine keep to one limit: by locks on files, which go with their
process, so that a kill leaves nothing to clean up.
"""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from manifests.chat import AskAgainError
from manifests.fingerprint import unit_hash

WAIT_FIRST_S, WAIT_MAX_S = 0.5, 60.0
PACE_AHEAD_MAX_S = 3_600.0

Result = TypeVar("Result")


def patiently(
    call: Callable[[], Result], *, name: str, calls: int, pace_at: Path, interval_s: float, wait_first_s: float | None = None
) -> Result:
    """The result of a call, made again after a longer wait each time it fails for a passing reason.

    Args:
        name: of the request, so that waits differ between requests.
        calls: at most so many.
        pace_at, interval_s: see `pace`.

    Raises:
        AskAgainError: the last call failed, too.
    """
    for number in range(calls):
        pace(pace_at, interval_s)
        try:
            return call()
        except AskAgainError as error:
            if number + 1 == calls:
                raise
            time.sleep(wait_s(name, number, error.after_s, WAIT_FIRST_S if wait_first_s is None else wait_first_s))
    raise ValueError(f"calls={calls} must be at least 1")


def wait_s(name: str, number: int, after_s: float | None, first_s: float) -> float:
    """Seconds before the next call: what the server asks for, or twice as long each time, spread so that not all come back at
    once."""
    if after_s is not None:
        return min(max(after_s, 0.0), WAIT_MAX_S)
    return min(first_s * 2**number, WAIT_MAX_S) * (0.5 + unit_hash("wait", name, number))


def pace(path: Path, interval_s: float) -> None:
    """Returns when this machine may make its next call: the file holds the time from which it may."""
    if interval_s <= 0:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as clock:
        fcntl.flock(clock, fcntl.LOCK_EX)
        clock.seek(0)
        now = time.time()
        with contextlib.suppress(ValueError):
            # A time far ahead was written before the clock was set back.
            now = min(max(now, float(clock.read())), now + PACE_AHEAD_MAX_S)
        clock.truncate(0)
        clock.write(repr(now + interval_s))
    time.sleep(max(0.0, now - time.time()))


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Holds a lock among all processes of the machine; it goes with the process, however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
