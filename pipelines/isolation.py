"""Items are read in processes of their own: a decoder that crashes or hangs costs one item, never the run.

A reader process is kept for many items, killed when an item exceeds its time or its memory, and replaced when it died. Starting
one costs a second of imports, so those that are needed at first are forked from one that has them. An item whose reader dies or
grows too large is tried once more in a new process, because the machine or the items before it may be to blame; then it is
quarantined. A reader that has kept much memory is replaced before the next item. Readers live in sessions of their own: an
interrupt from the keyboard ends the run, not the item.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, ClassVar

import manifests
from manifests.errors import LongreelError
from manifests.fingerprint import canonical_json
from manifests.recipe import Recipe
from pipelines.extraction import quarantined
from pipelines.finished import write_outcome
from pipelines.items import Quarantined
from pipelines.reading import Reading

START_LIMIT_S = 300.0
WATCH_S = 0.05
"""Between two looks at a reader's memory; in that time a process of this machine touches a few hundred MB at most."""
ATTEMPTS = 2


def import_path() -> str:
    """PYTHONPATH under which another Python finds these packages, wherever it starts."""
    here = str(Path(next(iter(manifests.__path__))).resolve().parent)
    return os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])


class _DiedError(Exception):
    pass


class _LateError(Exception):
    pass


class _LargeError(Exception):
    pass


class _Fork:
    """A reader process that another has forked, or will; used like a `subprocess.Popen`, of which it has what is needed.

    Attributes:
        ends: what the other process is given: where it hears requests, and where it replies.
        pid: 0 until it is ready.
    """

    def __init__(self) -> None:
        self.pid = 0
        asked, requests = os.pipe()
        replies, answered = os.pipe()
        self.ends = (asked, answered)
        self.stdin: IO[bytes] | None = os.fdopen(requests, "wb")
        self.stdout: IO[bytes] | None = os.fdopen(replies, "rb")
        self.stderr: IO[bytes] | None = None

    def kill(self) -> None:
        """Ends it, if it is there; if not, it ends as soon as it finds nobody at the other end of its requests."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int | None:
        """Returns when it has let go of its files, so that it writes no more; how it ended is not known."""
        if self.pid and self.stdout is not None:
            while self.stdout.read(4096):
                pass
        return None


class _Reader:
    """One reader process; it is starting when this returns, and the first item waits until it has.

    Args:
        forks: readers that it is to become as well, once it is ready.
    """

    def __init__(self, recipe_json: str, forks: Sequence[_Fork] = ()) -> None:
        self.ready = False
        environment = {**os.environ, "PYTHONPATH": import_path(), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        pairs = [f"{asked},{answered}" for asked, answered in (fork.ends for fork in forks)]
        self.process: subprocess.Popen[bytes] | _Fork = subprocess.Popen(
            [sys.executable, "-m", "pipelines.reader_process", str(os.getpid()), *pairs],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
            pass_fds=[end for fork in forks for end in fork.ends],
        )
        self.words = bytearray()
        threading.Thread(target=self._listen, daemon=True).start()
        with contextlib.suppress(_DiedError):  # it is said when it is waited for
            self._say(recipe_json)

    @classmethod
    def several(cls, recipe_json: str, count: int) -> list[_Reader]:
        """As many readers, of which only the first loads what items need; a fork can be used only if it `starts`."""
        forks = [_Fork() for _ in range(count - 1)]
        readers = [cls(recipe_json, forks)]
        for fork in forks:
            for end in fork.ends:
                os.close(end)
            reader = cls.__new__(cls)
            reader.ready, reader.process, reader.words = False, fork, readers[0].words
            with contextlib.suppress(_DiedError):
                reader._say(recipe_json)
            readers.append(reader)
        return readers

    def starts(self) -> bool:
        """Waits for a reader that was to be forked, and says whether it was; of others, which say why not, this is presumed."""
        if isinstance(self.process, _Fork) and not self.ready:
            with contextlib.suppress(LongreelError):
                self._wait_until_ready()
            return self.ready
        return True

    def _wait_until_ready(self) -> None:
        try:
            said = self._hear(START_LIMIT_S).split()
            if isinstance(self.process, _Fork):
                self.process.pid = int(said[1])
            self.ready = True
        except (_DiedError, _LateError) as error:
            self.kill()
            words = self.words.decode("utf-8", "replace").strip().splitlines()
            raise LongreelError(f"a reader process did not start: {words[-1] if words else 'no reason given'}") from error

    def _listen(self) -> None:
        """Keeps the end of what the process says to standard error, and keeps its pipe from filling."""
        assert self.process.stderr is not None
        with contextlib.suppress(ValueError, OSError):
            for line in self.process.stderr:
                self.words += line
                del self.words[:-4096]

    def _say(self, line: str) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()
        except (BrokenPipeError, OSError) as error:
            raise _DiedError from error

    def _hear(self, limit_s: float, memory_max: int | None = None) -> bytes:
        assert self.process.stdout is not None
        deadline = time.monotonic() + limit_s
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while not selector.select(timeout=WATCH_S):
                if time.monotonic() > deadline:
                    raise _LateError
                if memory_max is not None and resident_bytes(self.process.pid) > memory_max:
                    raise _LargeError
        line = self.process.stdout.readline()
        if not line:
            raise _DiedError
        return line

    def read(self, reading: Reading, limit_s: float, memory_max: int) -> None:
        """Has one item read.

        Raises:
            _LateError: it took longer than ``limit_s`` seconds.
            _LargeError: the process took more than ``memory_max`` bytes.
            _DiedError: the process ended.
            LongreelError: it did not start.
        """
        if not self.ready:
            self._wait_until_ready()
        self._say(json.dumps(reading.to_json()))
        self._hear(limit_s, memory_max)

    def kill(self) -> int | None:
        """Ends the process now; returns its exit status, None when that is not known."""
        self.process.kill()
        status = self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()
        return status


class Readers:
    """Reader processes for any number of threads: as many as are used at a time. All of a process share those that are idle.

    Args:
        recipe: what they read with.
    """

    _idle: ClassVar[dict[str, list[_Reader]]] = {}
    _reading: ClassVar[dict[Path, threading.Event]] = {}
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, recipe: Recipe) -> None:
        self.recipe_json = canonical_json(recipe)
        self.limit_s = recipe.curate.item_time_limit_s
        self.memory_max = recipe.curate.item_memory_max
        self.closed = False

    @property
    def idle(self) -> list[_Reader]:
        """The processes that wait for an item."""
        with self._lock:
            return [*self._idle.get(self.recipe_json, [])]

    def start(self, count: int) -> None:
        """Starts as many readers as will be needed soon, and does not wait for them."""
        for reader in reversed(_Reader.several(self.recipe_json, count) if count else []):
            self._put(reader)

    def _take(self) -> _Reader:
        while True:
            with self._lock:
                idle = self._idle.get(self.recipe_json)
                reader = idle.pop() if idle else None
            if reader is None:
                return _Reader(self.recipe_json)
            if reader.starts():
                return reader

    def _put(self, reader: _Reader) -> None:
        with self._lock:
            self._idle.setdefault(self.recipe_json, []).append(reader)

    def read_ahead(self, readings: Iterable[Reading]) -> None:
        """Has items read in threads of their own, and does not wait for them: whoever reads one of them then waits for it."""
        for reading in readings:
            threading.Thread(target=self._ahead, args=(reading,), daemon=True).start()

    def _ahead(self, reading: Reading) -> None:
        with contextlib.suppress(LongreelError):  # a reader that does not start says so to whoever needs the item
            self.read(reading)
        if self.closed:
            self.close()

    def read(self, reading: Reading) -> None:
        """Has one item read, once at a time; afterwards it is finished or waits for models, whatever it was."""
        while True:
            with self._lock:
                other = self._reading.get(reading.finished)
                if other is None:
                    mine = self._reading[reading.finished] = threading.Event()
            if other is None:
                break
            other.wait()
            if reading.finished.is_file() or reading.pending.is_file():
                return
        try:
            self._read(reading)
        finally:
            with self._lock:
                del self._reading[reading.finished]
            mine.set()

    def _read(self, reading: Reading) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            reader = self._take() if attempt == 1 else _Reader(self.recipe_json)
            try:
                reader.read(reading, self.limit_s, self.memory_max)
            except LongreelError:
                if attempt == ATTEMPTS:
                    raise  # it does not start for anybody; what ended it the first time may have been an accident
            except _LateError:
                reader.kill()
                detail = f"not read within curate.item_time_limit_s={self.limit_s:g} s"
                write_outcome(reading.finished, quarantined(reading.item, Quarantined("limit", "time_limit", detail)))
                return
            except _LargeError:
                reader.kill()
                if attempt == ATTEMPTS:
                    detail = f"its reader took more than curate.item_memory_max={self.memory_max:,} bytes of memory"
                    write_outcome(reading.finished, quarantined(reading.item, Quarantined("limit", "memory_limit", detail)))
                    return
            except _DiedError:
                status = reader.kill()
                if attempt == ATTEMPTS:
                    detail = f"its reader ended {ATTEMPTS} times with {_status_words(status)}"
                    write_outcome(reading.finished, quarantined(reading.item, Quarantined("decode", "reader_crash", detail)))
                    return
            else:
                if resident_bytes(reader.process.pid) > self.memory_max // 2:
                    reader.kill()
                    return
                self._put(reader)
                return

    def close(self) -> None:
        """Ends the idle processes; who needs one later gets a new one. One that reads ahead ends when it is done."""
        self.closed = True
        with self._lock:
            readers = self._idle.pop(self.recipe_json, [])
        for reader in readers:
            reader.kill()


def resident_bytes(process: int) -> int:
    """Memory that a process holds, without its children; 0 where the system does not say (it has no ``/proc``)."""
    try:
        pages = Path(f"/proc/{process}/statm").read_bytes().split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _status_words(status: int | None) -> str:
    if status is None:
        return "an unknown status"
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"signal {signal.Signals(-status).name}"
    return f"status {status}"
