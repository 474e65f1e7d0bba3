"""Media shards: WebDataset-compatible tar files in which every picture is found by offset, without scanning.

Each picture is one WebDataset sample of two members, ``<media_id>.jpg`` (or ``.png``) and ``<media_id>.json``. Headers carry
no owner, no mode bits that vary and time 0, so equal pictures in equal order give equal bytes.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from manifests.errors import CorruptCorpusError
from manifests.files import writing
from manifests.fingerprint import canonical_json, sha256_bytes

BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True, kw_only=True)
class MediaItem:
    """One picture to store.

    Attributes:
        media_id: the first 32 digits of the SHA-256 of ``data``.
        extension: ``jpg`` or ``png``.
        height, width: pixels as stored.
        data: the encoded picture.
    """

    media_id: str
    extension: str
    height: int
    width: int
    data: bytes

    def description(self) -> bytes:
        """The ``.json`` member that stands beside the picture."""
        return canonical_json({"media_id": self.media_id, "height": self.height, "width": self.width}).encode()


@dataclass(frozen=True, kw_only=True)
class Placed:
    """Where a picture lies: ``length`` bytes at ``offset`` of the shard."""

    media_id: str
    offset: int
    length: int
    sha256: str


def header(name: str, size: int) -> bytes:
    """The 512 bytes that stand before a member: mode 0644, no owner, time 0."""
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    return info.tobuf(format=tarfile.USTAR_FORMAT)


def _member(stream: BinaryIO, name: str, data: bytes) -> int:
    stream.write(header(name, len(data)))
    offset = stream.tell()
    stream.write(data)
    stream.write(bytes(-len(data) % BLOCK))
    return offset


def write_shard(path: Path, items: Iterable[MediaItem]) -> list[Placed]:
    """Writes one shard, whole or not at all, and says where each picture lies. Order is the caller's."""
    placed: list[Placed] = []
    with writing(path) as stream:
        for item in items:
            offset = _member(stream, f"{item.media_id}.{item.extension}", item.data)
            _member(stream, f"{item.media_id}.json", item.description())
            placed.append(Placed(media_id=item.media_id, offset=offset, length=len(item.data), sha256=sha256_bytes(item.data)))
        stream.write(bytes(2 * BLOCK))
    return placed


def read_media(shard: Path, offset: int, length: int, sha256: str | None = None) -> bytes:
    """Reads one picture by its place; with ``sha256``, checks it.

    Raises:
        CorruptCorpusError: the shard is missing, too short, or holds other bytes there.
    """
    try:
        with shard.open("rb") as stream:
            stream.seek(offset)
            data = stream.read(length)
    except FileNotFoundError:
        raise CorruptCorpusError(f"media shard {shard} is missing: curate again") from None
    if len(data) != length:
        raise CorruptCorpusError(f"media shard {shard} ends before byte {offset + length}: curate again")
    if sha256 is not None and sha256_bytes(data) != sha256:
        raise CorruptCorpusError(f"media shard {shard}: bytes {offset} to {offset + length} are not what was written")
    return data


def members(shard: Path) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of all members, in order, by the standard library's reader."""
    with tarfile.open(fileobj=io.BytesIO(shard.read_bytes()), mode="r:") as archive:
        for info in archive:
            extracted = archive.extractfile(info)
            if extracted is not None:
                yield info.name, extracted.read()
