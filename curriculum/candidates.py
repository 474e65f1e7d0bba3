"""The samples of a corpus as columns: only what planning needs, in an order that no file layout can change.

Decided here: an id is kept as the two 64-bit halves of its hexadecimal digits, 16 bytes instead of a string, and every other
column in the narrowest type: a sample costs about 36 bytes, 10 million of them 0.4 GB. Row groups are read one after the other
into columns made beforehand, so the tables are never whole in memory. Files of a corpus are sorted by id, so the stable sort
that puts them in order finds long runs.

Choice among samples is by `keys`: a sample id is itself a hash, so mixing its first 64 bits with a hash of (seed, stage, epoch)
gives every epoch its own order without hashing ten million strings anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from manifests.corpus import Corpus
from manifests.errors import CorruptCorpusError
from manifests.fingerprint import ID_DIGITS, sha256_bytes
from manifests.migration import read_batches

COLUMNS = ["sample_id", "task", "split", "total_tokens", "visual_tokens", "learned_tokens", "duration_bucket", "source_ids"]
DURATIONS = ("15s", "15min", "2h")
NO_SOURCE = -1

_DIGITS = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
_VALUES = np.full(256, 255, dtype=np.uint8)
_VALUES[_DIGITS] = np.arange(16, dtype=np.uint8)

Halves = NDArray[np.uint64]


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Samples, sorted by id.

    Attributes:
        halves: their ids, uint64 [n, 2]: the first and the last 16 hexadecimal digits.
        task: index [n] into ``tasks``.
        tasks: the distinct task names, sorted.
        heldout: bool [n].
        total, visual, learned: tokens [n].
        duration: index [n] into `DURATIONS`; -1 without video.
        source: index [n] into ``sources`` of each sample's first source; `NO_SOURCE` without one.
        sources: ids of the distinct first sources, uint64 [sources, 2] as ``halves``.
    """

    halves: Halves
    task: NDArray[np.int16]
    tasks: list[str]
    heldout: NDArray[np.bool_]
    total: NDArray[np.int32]
    visual: NDArray[np.int32]
    learned: NDArray[np.int32]
    duration: NDArray[np.int8]
    source: NDArray[np.int32]
    sources: Halves

    def __len__(self) -> int:
        return len(self.halves)

    def ids(self, rows: NDArray[np.int64]) -> pa.StringArray:
        """The ids of ``rows``, 32 hexadecimal digits each."""
        return hex_ids(self.halves[rows])

    def keys(self, rows: NDArray[np.int64], *seed: object) -> NDArray[np.uint64]:
        """For each of ``rows`` a number that depends only on its id and ``seed``: sorting by it shuffles."""
        salt = sha256_bytes("\x1f".join(map(str, seed)).encode())[:16]
        mixed = self.halves[rows, 0] ^ np.uint64(int(salt, 16))
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # the finaliser of SplitMix64
            mixed ^= mixed >> np.uint64(shift)
            mixed *= np.uint64(factor)
        mixed ^= mixed >> np.uint64(31)
        return mixed

    def rows_of(self, ids: pa.ChunkedArray) -> NDArray[np.int64]:
        """The row of each id, -1 for one that is not there."""
        wanted = _halves(ids, "the previous plan")
        at = np.searchsorted(self.halves[:, 0], wanted[:, 0])
        found = np.minimum(at, max(len(self) - 1, 0))
        if not len(self):
            return np.full(len(wanted), -1, dtype=np.int64)
        same = (self.halves[found] == wanted).all(axis=1)
        # Two ids may share their first half (never seen: 10 million hashes collide there with probability 3e-6).
        for row in np.flatnonzero(~same & (self.halves[found, 0] == wanted[:, 0])).tolist():
            place = int(at[row])
            while place < len(self) and self.halves[place, 0] == wanted[row, 0]:
                if self.halves[place, 1] == wanted[row, 1]:
                    found[row], same[row] = place, True
                place += 1
        return np.where(same, found, -1)


def hex_ids(halves: Halves) -> pa.StringArray:
    """Ids as strings of 32 hexadecimal digits."""
    data = np.ascontiguousarray(halves.astype(">u8")).view(np.uint8).reshape(len(halves), ID_DIGITS // 2)
    digits = np.empty((len(halves), ID_DIGITS), dtype=np.uint8)
    digits[:, 0::2], digits[:, 1::2] = _DIGITS[data >> 4], _DIGITS[data & 15]
    offsets = np.arange(0, ID_DIGITS * len(halves) + 1, ID_DIGITS, dtype=np.int32)
    return pa.StringArray.from_buffers(len(halves), pa.py_buffer(offsets), pa.py_buffer(digits))


def read_candidates(corpus: Corpus) -> Candidates:
    """Reads the planning columns of every sample.

    Raises:
        CorruptCorpusError: two samples have the same id, or an id is none.
    """
    paths = sorted(path for of_version in corpus.files_of("samples").values() for path in of_version)
    if not paths:
        raise CorruptCorpusError(f"{corpus.folder} has no samples table: curate again")
    count = sum(pq.read_metadata(path).num_rows for path in paths)
    halves = np.empty((count, 2), dtype=np.uint64)
    numbers = {name: np.empty(count, dtype=np.int32) for name in COLUMNS[3:6]}
    task, heldout, duration = np.empty(count, np.int16), np.empty(count, np.bool_), np.empty(count, np.int8)
    first_source = np.empty((count, 2), dtype=np.uint64)
    codes: dict[str, int] = {}
    at = 0
    for batch in (batch for path in paths for batch in read_batches(path, "samples", COLUMNS)):
        here = slice(at, at + len(batch))
        at += len(batch)
        halves[here] = _halves_of(batch["sample_id"], str(corpus.folder))
        names = batch["task"].dictionary_encode()
        code = np.array([codes.setdefault(name, len(codes)) for name in names.dictionary.to_pylist()], dtype=np.int16)
        task[here] = code[names.indices.to_numpy()]
        heldout[here] = pc.equal(batch["split"], "heldout").to_numpy(zero_copy_only=False)
        duration[here] = _codes(batch["duration_bucket"], DURATIONS)
        for name, column in numbers.items():
            column[here] = batch[name].to_numpy()
        first_source[here] = _first_of(batch["source_ids"])
    order = np.argsort(halves[:, 0], kind="stable")
    halves = halves[order]
    same = halves[1:, 0] == halves[:-1, 0]
    if same.any():
        again = np.lexsort((halves[:, 1], halves[:, 0]))
        order, halves = order[again], halves[again]
        twice = np.flatnonzero((halves[1:] == halves[:-1]).all(axis=1))
        if len(twice):
            name = hex_ids(halves[twice[:1]])[0].as_py()
            raise CorruptCorpusError(f"sample {name} stands in the samples table twice: curate again")
    tasks = sorted(codes)
    renumbered = np.empty(len(tasks), dtype=np.int16)
    renumbered[[codes[name] for name in tasks]] = np.arange(len(tasks), dtype=np.int16)
    source, distinct = _numbered(first_source)
    return Candidates(
        halves=halves,
        task=renumbered[task[order]] if len(tasks) else task,
        tasks=tasks,
        heldout=heldout[order],
        total=numbers["total_tokens"][order],
        visual=numbers["visual_tokens"][order],
        learned=numbers["learned_tokens"][order],
        duration=duration[order],
        source=source[order],
        sources=distinct,
    )


def _halves(ids: pa.ChunkedArray, where: str) -> Halves:
    """Ids as numbers, uint64 [n, 2]."""
    parts = [_halves_of(chunk, where) for chunk in ids.chunks]
    return np.concatenate([np.empty((0, 2), dtype=np.uint64), *parts])


def _halves_of(ids: pa.StringArray, where: str) -> Halves:
    if not len(ids):
        return np.empty((0, 2), dtype=np.uint64)
    lengths = pc.binary_length(ids)
    offsets = np.frombuffer(ids.buffers()[1], dtype=np.int32)[ids.offset : ids.offset + len(ids) + 1]
    whole = not ids.null_count and pc.all(pc.equal(lengths, ID_DIGITS)).as_py()
    if whole:
        data = np.frombuffer(ids.buffers()[2], dtype=np.uint8)[offsets[0] : offsets[-1]].reshape(len(ids), ID_DIGITS)
        values = _VALUES[data]
        if values.max() < 16:
            packed = (values[:, 0::2] << 4) | values[:, 1::2]
            return np.ascontiguousarray(packed).view(">u8").astype(np.uint64)
    right = pc.fill_null(pc.match_substring_regex(ids, f"^[0-9a-f]{{{ID_DIGITS}}}$"), False)
    wrong = ids.filter(pc.invert(right))[0].as_py()
    raise CorruptCorpusError(f"sample id {wrong!r} of {where} is not {ID_DIGITS} hexadecimal digits: curate again")


def _first_of(lists: pa.ListArray) -> Halves:
    """The first id of each list; zeros for an empty one."""
    first = np.zeros((len(lists), 2), dtype=np.uint64)
    offsets = lists.offsets.to_numpy()
    some = offsets[1:] > offsets[:-1]
    first[some] = _halves_of(lists.values.take(pa.array(offsets[:-1][some])), "source_ids")
    return first


def _numbered(ids: Halves) -> tuple[NDArray[np.int32], Halves]:
    """A number from 0 for each distinct id, rising by its first half, and these ids; `NO_SOURCE` for zeros."""
    _, first, numbers = np.unique(ids[:, 0], return_index=True, return_inverse=True)
    distinct = ids[first]
    without = int(len(distinct) > 0 and not distinct[0].any())
    return (numbers - without).astype(np.int32), distinct[without:]


def _codes(column: pa.StringArray, values: tuple[str, ...]) -> NDArray[np.int8]:
    """Index of each entry among ``values``; -1 for any other."""
    found = pc.index_in(column, value_set=pa.array(values, type=pa.string()))
    return np.asarray(pc.fill_null(found, -1).to_numpy(zero_copy_only=False), dtype=np.int8)
