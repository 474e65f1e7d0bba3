"""Pictures by name: where each lies, its bytes as they were written, its pixels at the size the model reads.

Decided here: the places of all pictures stand in one sorted file that every process of a rank maps, 68 bytes a picture: ten
million take 680 MB of page cache once, and no Python objects. The file has no name: nothing is left behind, however a run
ends. What was decoded is kept for a while, because one screenshot or film is shown by many samples.
"""

from __future__ import annotations

import io
import mmap
import os
import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from manifests.errors import CorruptCorpusError
from manifests.fingerprint import sha256_bytes
from manifests.sample import Visual
from manifests.shards import read_media
from trainer.block_cache import BlockCache

PLACE = np.dtype([("id", "V16"), ("sha256", "V32"), ("offset", "<i8"), ("length", "<i8"), ("shard", "<i4")])
"""A picture's place; the file's places rise by id."""
DECODED_BYTES = 64 * 2**20
BATCH_ROWS = 65_536


class BadMediaError(CorruptCorpusError):
    """A picture that is not there, is not what was written, or cannot be decoded."""


class MediaIndex:
    """Where every picture lies.

    Args:
        file: descriptor of the file of `PLACE` that `write_index` made.
        shards: names of the shards, relative to the corpus.
    """

    def __init__(self, file: int, shards: tuple[str, ...]) -> None:
        self.file, self.shards = file, shards
        size = os.fstat(file).st_size
        data: Any = mmap.mmap(file, size, access=mmap.ACCESS_READ) if size else b""
        self.places: NDArray[Any] = np.frombuffer(data, dtype=PLACE)
        # The first half of each id as a number, in the file's own bytes.
        self.heads = np.ndarray((len(self.places),), ">u8", data, 0, (PLACE.itemsize,))

    def __len__(self) -> int:
        return len(self.places)

    def find(self, media_id: str) -> tuple[str, int, int, str] | None:
        """Shard, offset, length and SHA-256 of a picture."""
        wanted = bytes.fromhex(media_id)
        low, high = 0, len(self.places)
        head = int.from_bytes(wanted[:8], "big")
        while low < high:
            middle = (low + high) // 2
            if int(self.heads[middle]) < head:
                low = middle + 1
            else:
                high = middle
        while low < len(self.places) and int(self.heads[low]) == head:
            place = self.places[low]
            if place["id"].tobytes() == wanted:
                return self.shards[place["shard"]], int(place["offset"]), int(place["length"]), place["sha256"].tobytes().hex()
            low += 1
        return None


def write_index(batches: pa.RecordBatchReader) -> MediaIndex:
    """The index of a media table.

    Args:
        batches: columns media_id, sha256, shard, offset and length, rising by media_id.

    Raises:
        CorruptCorpusError: an id or a hash is none.
    """
    shards: dict[str, int] = {}
    with tempfile.TemporaryFile() as stream:
        for batch in batches:
            places = np.empty(len(batch), dtype=PLACE)
            places["id"] = _bytes_of(batch.column("media_id"), 16)
            places["sha256"] = _bytes_of(batch.column("sha256"), 32)
            places["offset"] = batch.column("offset").to_numpy(zero_copy_only=False)
            places["length"] = batch.column("length").to_numpy(zero_copy_only=False)
            names = batch.column("shard").dictionary_encode()
            codes = np.array([shards.setdefault(name, len(shards)) for name in names.dictionary.to_pylist()], dtype=np.int32)
            places["shard"] = codes[names.indices.to_numpy(zero_copy_only=False)]
            stream.write(places.tobytes())
        stream.flush()
        return MediaIndex(os.dup(stream.fileno()), tuple(shards))


def _bytes_of(column: pa.Array, size: int) -> NDArray[Any]:
    """Hexadecimal names as bytes, V{size} [n]."""
    text = column.cast(pa.string())
    try:
        data = bytes.fromhex("".join(text.to_pylist()))
    except (ValueError, TypeError) as error:
        raise CorruptCorpusError(f"the media table holds a name that is no hash ({error}): curate again") from error
    if len(data) != size * len(column):
        raise CorruptCorpusError("the media table holds a name that is no whole hash: curate again")
    return np.frombuffer(data, dtype=f"V{size}")


class Pictures:
    """Decoded pictures of a corpus.

    Args:
        folder: the corpus; local or an address.
        index: where its pictures lie.
        cache: holds what was fetched from an address; None for a local folder.
    """

    def __init__(self, folder: Path, index: MediaIndex, cache: BlockCache | None) -> None:
        self.folder, self.index, self.cache = folder, index, cache
        self._decoded: OrderedDict[tuple[str, int, int], NDArray[np.uint8]] = OrderedDict()
        self._decoded_bytes = 0

    def read(self, visual: Visual) -> NDArray[np.uint8]:
        """A picture at the size at which it is shown, uint8 [height, width, 3]; not to be written to.

        Raises:
            BadMediaError: it is missing, not what was written, or no picture.
            UnreachableError: the store does not give it.
        """
        key = (visual.media_id, visual.height, visual.width)
        known = self._decoded.get(key)
        if known is not None:
            self._decoded.move_to_end(key)
            return known
        data, shard = self._stored(visual.media_id)
        try:
            pixels = decode(data, height=visual.height, width=visual.width)
        except MemoryError:
            raise
        except Exception as error:  # decoders raise errors of every kind at bytes that are no picture
            raise BadMediaError(
                f"picture {visual.media_id} of {shard} cannot be decoded ({type(error).__name__}: {error}): curate again"
            ) from error
        self._decoded[key] = pixels
        self._decoded_bytes += pixels.nbytes
        while self._decoded_bytes > DECODED_BYTES and len(self._decoded) > 1:
            self._decoded_bytes -= self._decoded.popitem(last=False)[1].nbytes
        return pixels

    def _stored(self, media_id: str) -> tuple[bytes, str]:
        """The encoded bytes of a picture, and its shard."""
        place = self.index.find(media_id)
        if place is None:
            raise BadMediaError(f"picture {media_id} is not in the media table: curate again")
        shard, offset, length, sha256 = place
        try:
            if self.cache is None:
                return read_media(self.folder / shard, offset, length, sha256), shard
            return self._fetched(self.cache, shard, offset, length, sha256), shard
        except CorruptCorpusError as error:
            raise BadMediaError(f"picture {media_id}: {error}") from error
        except OSError as error:
            raise BadMediaError(f"picture {media_id} of {shard} cannot be read ({error})") from error

    def _fetched(self, cache: BlockCache, shard: str, offset: int, length: int, sha256: str) -> bytes:
        """Through the cache; once more from the store when what the cache holds is not what was written."""
        data = cache.read(self.folder / shard, offset, length)
        if sha256_bytes(data) != sha256:
            cache.forget(self.folder / shard, offset, length)
            data = cache.read(self.folder / shard, offset, length)
        if len(data) != length:
            raise BadMediaError(f"media shard {shard} ends before byte {offset + length}: publish it again")
        if sha256_bytes(data) != sha256:
            raise BadMediaError(f"media shard {shard}: bytes {offset} to {offset + length} are not what was written")
        return data


def decode(data: bytes, *, height: int, width: int) -> NDArray[np.uint8]:
    """An encoded picture as uint8 [height, width, 3], resized bicubically where it is stored at another size.

    Raises:
        OSError: the bytes are no picture.
    """
    with Image.open(io.BytesIO(data)) as stored:
        stored.load()
        picture = stored if stored.mode == "RGB" else stored.convert("RGB")
        if picture.size != (width, height):
            picture = picture.resize((width, height), Image.Resampling.BICUBIC)
        return np.asarray(picture, dtype=np.uint8)
