"""A process that reads packed sequences for a trainer, and how what it read comes back.

Decided here: arrays come back in memory without a name, whose descriptor travels over the socket. Nothing is copied through the
socket, nothing is bounded by ``/dev/shm``, and nothing is left behind whoever is killed. A process ends when its socket does.
It loads neither torch nor DeepSpeed nor DuckDB, and takes no interrupt from the keyboard: its trainer ends it.
"""

from __future__ import annotations

import mmap
import os
import pickle
import signal
import sys
import tempfile
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from manifests.errors import LongreelError
from trainer.media import MediaIndex
from trainer.packed_arrays import PackedArrays, layout
from trainer.sequence_reader import Keep, Order, SequenceReader


def main() -> None:
    """Serves the socket that the first argument numbers until it closes; the second numbers the file of the media index."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(int(sys.argv[1]))
    try:
        settings, shards = connection.recv()
        reader = SequenceReader(settings, MediaIndex(int(sys.argv[2]), shards))
        while True:
            ticket, order = connection.recv()
            try:
                if isinstance(order, Keep):
                    reader.keep(order)
                    arrays = None
                else:
                    arrays = reader.read(order)
            except Exception as error:
                connection.send((ticket, _portable(error, order)))
            else:
                if arrays is None:
                    connection.send((ticket, None))
                else:
                    send(connection, ticket, arrays)
    except (EOFError, ConnectionError, BrokenPipeError):
        return


def _portable(error: Exception, order: Order | Keep) -> Exception:
    """The error as one that can travel, naming what was read."""
    error.add_note(f"while sequence {order.position} of {order.where} was read")
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        ids = ", ".join(segment.sample_id for segment in order.segments)
        return LongreelError(f"{order.where}, sequence {order.position} ({ids}): {type(error).__name__}: {error}")
    return error


def send(connection: Connection, ticket: int, arrays: PackedArrays) -> None:
    """Sends what was read."""
    places, length = layout(arrays)
    file = _nameless()
    try:
        os.ftruncate(file, max(length, 1))
        with mmap.mmap(file, max(length, 1)) as memory:
            for name, dtype, shape, offset in places:
                np.ndarray(shape, dtype, memory, offset)[...] = getattr(arrays, name)
        rest = {name: value for name, value in vars(arrays).items() if name not in {place[0] for place in places}}
        connection.send((ticket, (places, max(length, 1), rest)))
        reduction.send_handle(connection, file, os.getppid())
    finally:
        os.close(file)


def _nameless() -> int:
    """The descriptor of a file without a name: in memory, where the system has such files."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("longreel")
    with tempfile.TemporaryFile() as stream:
        return os.dup(stream.fileno())


def received(connection: Connection, answer: Any) -> PackedArrays:
    """What `send` sent: arrays over the memory that the other process filled."""
    places, length, rest = answer
    file = reduction.recv_handle(connection)
    try:
        memory = mmap.mmap(file, length)
    finally:
        os.close(file)
    arrays: dict[str, Any] = {name: np.ndarray(shape, dtype, memory, offset) for name, dtype, shape, offset in places}
    return PackedArrays(**arrays, **rest)


if __name__ == "__main__":
    main()
