"""A bounded cache on local disk of what lies in an object store, shared by all processes of a machine.

    CACHE/bytes                      how much the blocks take
    CACHE/<shard>/<number>           block number n holds bytes [n * BLOCK, (n + 1) * BLOCK) of that shard

Decided here: blocks of 1 MiB, because frames of one film lie side by side and a shard of hundreds of megabytes is seldom needed
whole. A block appears by renaming, so nobody reads half of one. It is written under a lock, after room was made: the blocks
that were used longest ago go first, and the bound holds at every moment. A process that is killed leaves the count too high,
never too low, and the next clearing counts anew. What is fetched is fetched outside the lock; a fetch that fails is tried
again, and then named.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from manifests.errors import LongreelError
from manifests.fingerprint import value_id

T = TypeVar("T")

BLOCK = 2**20
ATTEMPTS = 4
FIRST_WAIT_S = 0.25
# Clearing frees this share at once, so that a full cache is not listed for every block.
CLEARED = 0.1


class UnreachableError(LongreelError):
    """The store does not give what was asked for."""


class BlockCache:
    """Blocks of remote files on local disk.

    Args:
        folder: where they lie; made when it is first needed.
        limit: bytes that they take at most.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        if limit < BLOCK:
            raise ValueError(f"a cache of {limit:,} bytes holds no block of {BLOCK:,}")
        self.folder, self.limit = folder, limit

    def read(self, shard: Path, offset: int, length: int) -> bytes:
        """Bytes of a remote file; fewer when the file ends before.

        Raises:
            FileNotFoundError: there is no such file.
            UnreachableError: the store failed `ATTEMPTS` times.
        """
        first, last = offset // BLOCK, (offset + max(length, 1) - 1) // BLOCK
        data = b"".join(self._block(shard, number) for number in range(first, last + 1))
        start = offset - first * BLOCK
        return data[start : start + length]

    def forget(self, shard: Path, offset: int, length: int) -> None:
        """Drops the blocks that hold these bytes, so that they are fetched anew."""
        for number in range(offset // BLOCK, (offset + max(length, 1) - 1) // BLOCK + 1):
            self._path(shard, number).unlink(missing_ok=True)

    def _path(self, shard: Path, number: int) -> Path:
        return self.folder / value_id(str(shard)) / f"{number:08d}"

    def _block(self, shard: Path, number: int) -> bytes:
        path = self._path(shard, number)
        try:
            data = path.read_bytes()
            os.utime(path)
            return data
        except FileNotFoundError:
            pass
        data = _fetch(shard, number * BLOCK, BLOCK)
        if data:
            self._keep(path, data)
        return data

    def _keep(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.part")
        with self._count() as count:
            taken = count.value + len(data)
            if taken > self.limit:
                taken = self._clear(int(self.limit * (1 - CLEARED)) - len(data)) + len(data)
            count.write(taken)
            try:
                part.write_bytes(data)
                part.rename(path)
            finally:
                part.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _count(self) -> Iterator[_Count]:
        """The count of bytes, held for this process."""
        file = os.open(self.folder / "bytes", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield _Count(file)
        finally:
            os.close(file)

    def _clear(self, wanted: int) -> int:
        """Removes the blocks used longest ago until at most so many bytes are left; returns how many there are."""
        blocks = []
        for path in self.folder.glob("*/*"):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                if path.suffix == ".part":  # whoever wrote it held the lock, and was killed
                    path.unlink()
                else:
                    blocks.append((status.st_mtime_ns, status.st_size, path))
        left = sum(size for _, size, _ in blocks)
        for _, size, path in sorted(blocks):
            if left <= max(wanted, 0):
                break
            path.unlink(missing_ok=True)
            left -= size
        return left


class _Count:
    def __init__(self, file: int) -> None:
        self.file = file
        said = os.pread(file, 32, 0)
        self.value = int(said) if said.isdigit() else 0

    def write(self, value: int) -> None:
        os.pwrite(self.file, b"%032d" % value, 0)


def _fetch(shard: Path, offset: int, length: int) -> bytes:
    """Bytes from the store itself."""

    def read() -> bytes:
        with shard.open("rb") as stream:
            stream.seek(offset)
            data: bytes = stream.read(length)
            return data

    return patiently(read, f"{shard}: bytes {offset} to {offset + length}")


def patiently(read: Callable[[], T], what: str) -> T:
    """What `read` gives, asked again after a failure that may pass.

    Raises:
        FileNotFoundError: there is no such file.
        UnreachableError: it failed `ATTEMPTS` times; names `what`.
    """
    wait = FIRST_WAIT_S
    for _ in range(ATTEMPTS - 1):
        try:
            return read()
        except FileNotFoundError:
            raise
        except Exception:  # drivers raise errors of their own
            time.sleep(wait)
            wait *= 2
    try:
        return read()
    except FileNotFoundError:
        raise
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        raise UnreachableError(
            f"{what} could not be fetched in {ATTEMPTS} tries ({type(error).__name__}: {first}); when the store answers again, "
            f"go on with --resume"
        ) from error
