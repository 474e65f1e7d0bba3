"""Sequences kept as tokens, in the order of training, so that a stage is rendered once and not by every run.

    FOLDER/<fingerprint>/part-00000.tokens      256 sequences each, whole or not at all

Decided here: the unit is a packed sequence, because reading it is then one piece of a mapped file. The fingerprint covers the
samples in their order, their counted tokens, the tokenizer and the code that renders, so what is stale is never found. A
record has a checksum, and its samples' lengths are compared with what was counted when it is read, as those of rendered samples
are. Several ranks fill one folder side by side, each from another part on; who comes second to a part finds it. Pictures are
not kept here.

4.2 bytes a token: 100 million tokens take 420 MB.
"""

from __future__ import annotations

import mmap
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manifests.errors import CorruptCorpusError
from manifests.files import writing
from manifests.rendering import IGNORED, Rendered
from manifests.sample import Visual

PART = 256
MAGIC = b"longreel-tokens1"
OPEN = 16
VISUAL = np.dtype([("id", "V16"), ("height", "<i4"), ("width", "<i4"), ("sample", "<i4")])


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """The text of a packed sequence, T tokens of S samples.

    Attributes:
        ids: int32 [T].
        labels: int32 [T], of each sample as rendered.
        ends: int64 [S].
        visuals: every picture in reading order, with the index of its sample.
    """

    ids: NDArray[np.int32]
    labels: NDArray[np.int32]
    ends: NDArray[np.int64]
    visuals: tuple[tuple[Visual, int], ...]


def tokens_of(samples: list[Rendered]) -> Tokens:
    """The text of rendered samples."""
    return Tokens(
        ids=np.concatenate([sample.ids for sample in samples]),
        labels=np.concatenate([sample.labels for sample in samples]),
        ends=np.cumsum([len(sample.ids) for sample in samples], dtype=np.int64),
        visuals=tuple((slot.visual, index) for index, sample in enumerate(samples) for slot in sample.slots),
    )


def _record(tokens: Tokens) -> bytes:
    visuals = np.zeros(len(tokens.visuals), dtype=VISUAL)
    for place, (visual, sample) in enumerate(tokens.visuals):
        visuals[place] = (bytes.fromhex(visual.media_id), visual.height, visual.width, sample)
    sizes = np.array([len(tokens.ids), len(tokens.ends), len(visuals)], dtype="<i8")
    learned = np.packbits(tokens.labels != IGNORED)
    ends, ids = tokens.ends.astype("<i8"), tokens.ids.astype("<i4")
    body = b"".join(array.tobytes() for array in (sizes, ends, visuals, ids, learned))
    return body + bytes(-len(body) % 8)


def _parsed(record: memoryview) -> Tokens:
    tokens, samples, pictures = np.frombuffer(record, "<i8", 3).tolist()
    at = 24
    ends = np.frombuffer(record, "<i8", samples, at)
    at += 8 * samples
    visuals = np.frombuffer(record, VISUAL, pictures, at)
    at += VISUAL.itemsize * pictures
    ids = np.frombuffer(record, "<i4", tokens, at).copy()
    learned = np.unpackbits(np.frombuffer(record, np.uint8, -(-tokens // 8), at + 4 * tokens), count=tokens).view(bool)
    return Tokens(
        ids=ids,
        labels=np.where(learned, ids, np.int32(IGNORED)),
        ends=ends,
        visuals=tuple(
            (Visual(media_id=media_id.hex(), height=height, width=width), sample)
            for media_id, height, width, sample in visuals.tolist()
        ),
    )


class TokenStore:
    """The kept sequences of one stage and split.

    Args:
        folder: of this fingerprint.
        sequences: how many the stage has.
    """

    def __init__(self, folder: Path, sequences: int) -> None:
        self.folder, self.sequences = folder, sequences
        self._parts: OrderedDict[int, tuple[memoryview, NDArray[Any], NDArray[Any]]] = OrderedDict()

    def path(self, part: int) -> Path:
        """Where a part lies."""
        return self.folder / f"part-{part:05d}.tokens"

    def missing(self, first: int = 0) -> Iterator[tuple[int, range]]:
        """The parts that are not there, each with its positions, from one on and round; asked as one goes."""
        parts = -(-self.sequences // PART)
        for turn in range(parts):
            part = (first + turn) % parts
            if not self.path(part).is_file():
                yield part, range(part * PART, min((part + 1) * PART, self.sequences))

    def write(self, part: int, sequences: Iterable[Tokens]) -> None:
        """Writes a part, whole or not at all."""
        records = [_record(tokens) for tokens in sequences]
        head = np.zeros((len(records), 2), dtype="<i8")
        head[:, 0] = np.cumsum([len(record) for record in records])
        head[:, 1] = [zlib.crc32(record) for record in records]
        with writing(self.path(part)) as stream:
            stream.write(MAGIC + np.array([len(records)], dtype="<i8").tobytes() + head.tobytes())
            for record in records:
                stream.write(record)

    def read(self, position: int) -> Tokens:
        """One sequence.

        Raises:
            CorruptCorpusError: its file is missing or damaged.
        """
        part, place = divmod(position, PART)
        try:
            data, ends, sums = self._part(part)
            record = data[0 if not place else int(ends[place - 1]) : int(ends[place])]
            whole = zlib.crc32(record) == int(sums[place])
        except (OSError, ValueError, IndexError) as error:
            raise CorruptCorpusError(f"{self.path(part)} cannot be read ({error}): delete it, it is made again") from error
        if not whole:
            raise CorruptCorpusError(
                f"{self.path(part)}: sequence {position} is not what was written: delete it, it is made again"
            )
        return _parsed(record)

    def _part(self, part: int) -> tuple[memoryview, NDArray[Any], NDArray[Any]]:
        known = self._parts.get(part)
        if known is None:
            with self.path(part).open("rb") as stream:
                memory = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
            start = len(MAGIC) + 8
            if bytes(memory[: len(MAGIC)]) != MAGIC:
                raise ValueError("no file of tokens")
            count = int(np.frombuffer(memory, "<i8", 1, len(MAGIC))[0])
            head = np.frombuffer(memory, "<i8", 2 * count, start).reshape(count, 2)
            known = self._parts[part] = (memory[start + 16 * count :], head[:, 0], head[:, 1])
            if len(self._parts) > OPEN:
                self._parts.popitem(last=False)
        return known
