"""Reader processes kept for a whole run: orders in, packed sequences out in the same order.

Decided here: a sequence is one piece of work, and its order says all there is to know, so the same processes serve every stage.
A process that dies (killed for memory, a decoder's crash) is replaced and its work given out again; if the same sequence ends
two of them, the run stops and names it. Whoever reads is never left waiting: a dead process closes its socket.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path

import manifests
from manifests.errors import LongreelError
from trainer.media import MediaIndex
from trainer.packed_arrays import PackedArrays
from trainer.reader_process import received
from trainer.sequence_reader import Keep, Order, ReaderSettings

ATTEMPTS = 2
EACH = 2
"""Sequences that a process has at a time: one it reads and one it need not wait for."""
AHEAD_BYTES = 2**30
"""Read ahead at most, as far as it can be known before; but always one sequence."""
WATCH_S = 0.2
END_S = 2.0


class _Process:
    """One reader process; it is starting when this returns."""

    def __init__(self, settings: ReaderSettings, media: MediaIndex) -> None:
        ours, theirs = socket.socketpair()
        here = str(Path(next(iter(manifests.__path__))).resolve().parent)
        path = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
        self.words = tempfile.TemporaryFile()  # noqa: SIM115, closed in `end`
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "trainer.reader_process", str(theirs.fileno()), str(media.file)],
                pass_fds=(theirs.fileno(), media.file),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self.words,
                env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
            )
        self.connection = Connection(ours.detach())
        self.work: deque[int] = deque()
        with contextlib.suppress(OSError):  # that it died is seen when it is listened to
            self.connection.send((settings, media.shards))

    def end(self) -> str:
        """Ends the process; returns how it ended, with the last it said."""
        self.connection.close()
        try:
            status = self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self.words.seek(0)
        said = self.words.read().decode("utf-8", "replace").strip().splitlines()
        self.words.close()
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
        return f"{how}: {said[-1]}" if said else how


class ReaderPool:
    """Processes that read. A context manager; leaving it ends them.

    Args:
        count: how many.
        settings, media: what they read from.
    """

    def __init__(self, count: int, settings: ReaderSettings, media: MediaIndex) -> None:
        self.settings, self.media = settings, media
        self.processes = [_Process(settings, media) for _ in range(count)]
        self._tickets = 0

    def __enter__(self) -> ReaderPool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes."""
        for process in self.processes:  # all first, so that they end side by side
            process.connection.close()
        for process in self.processes:
            process.end()
        self.processes = []

    def read(self, orders: Iterator[Order], *, stopped: Callable[[], bool]) -> Iterator[PackedArrays]:
        """The sequences of `orders`, in their order, read ahead. One call at a time; what is left of an earlier one is dropped.

        Args:
            stopped: asked a few times a second; true ends the iteration.

        Raises:
            LongreelError: what reading the next sequence raised, or a sequence ended two processes.
        """
        for found in self._work(orders, stopped):
            assert found is not None
            yield found

    def keep(self, parts: Iterator[Keep]) -> Iterator[None]:
        """Yields when each of `parts` has been written, in their order. As `read` otherwise."""
        for _ in self._work(parts, lambda: False):
            yield

    def _work(self, orders: Iterator[Order] | Iterator[Keep], stopped: Callable[[], bool]) -> Iterator[PackedArrays | None]:
        """Gives work out as the processes get free, and yields the answers in the order of the work."""
        reading: dict[int, Order | Keep] = {}
        again: deque[int] = deque()
        deaths: dict[int, int] = {}
        ready: dict[int, PackedArrays | BaseException | None] = {}
        turn = self._tickets
        exhausted = False
        while True:
            while free := self._free():
                if again:
                    ticket = again.popleft()
                elif exhausted or (reading and not self._has_room(reading)):
                    break
                else:
                    order = next(orders, None)
                    if order is None:
                        exhausted = True
                        break
                    ticket = self._tickets
                    self._tickets += 1
                    reading[ticket] = order
                free.work.append(ticket)
                with contextlib.suppress(OSError):  # a process that died is seen below
                    free.connection.send((ticket, reading[ticket]))
            if turn in ready:
                del reading[turn]
                found = ready.pop(turn)
                turn += 1
                if isinstance(found, BaseException):
                    raise found
                yield found
                continue
            if stopped() or (exhausted and not reading):
                return
            for process in self._heard():
                try:
                    ticket, answer = process.connection.recv()
                    if answer is not None and not isinstance(answer, BaseException):
                        answer = received(process.connection, answer)
                except (EOFError, OSError, RuntimeError):  # the last: it died between an answer and its memory
                    for ticket in self._replace(process, reading, deaths):
                        again.append(ticket)
                    continue
                process.work.remove(ticket)
                if ticket in reading:
                    ready[ticket] = answer

    def _free(self) -> _Process | None:
        """The process with the least to do, if it may have more."""
        process = min(self.processes, key=lambda each: len(each.work))
        return process if len(process.work) < EACH else None

    def _has_room(self, reading: dict[int, Order | Keep]) -> bool:
        visual = self.settings.visual
        picture = visual.merge**2 * 3 * visual.patch**2
        taken = sum(s.total * 8 + s.visual * picture for order in reading.values() for s in order.segments)
        return taken < AHEAD_BYTES and len(reading) < 2 * EACH * len(self.processes)

    def _heard(self) -> list[_Process]:
        by_connection = {process.connection: process for process in self.processes}
        return [by_connection[connection] for connection in wait(list(by_connection), WATCH_S)]  # type: ignore[index]

    def _replace(self, process: _Process, reading: dict[int, Order | Keep], deaths: dict[int, int]) -> list[int]:
        """Puts a new process in the place of a dead one; returns the work to give out again.

        Raises:
            LongreelError: what it read has ended a process before.
        """
        how = process.end()
        work = [ticket for ticket in process.work if ticket in reading]
        self.processes[self.processes.index(process)] = _Process(self.settings, self.media)
        if work and process.work[0] == work[0]:
            deaths[work[0]] = deaths.get(work[0], 0) + 1
            if deaths[work[0]] >= ATTEMPTS:
                order = reading[work[0]]
                ids = ", ".join(segment.sample_id for segment in order.segments)
                raise LongreelError(
                    f"{order.where}: sequence {order.position} ended {ATTEMPTS} reader processes ({how}): out of memory, or a "
                    f"decoder that crashes? Fewer --workers take less memory. Its samples: {ids}"
                )
        return work
