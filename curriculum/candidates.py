"""The samples of a corpus as columns: only what planning needs, in an order that no file layout can change.

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

COLUMNS = ["sample_id", "task", "split", "total_tokens", "visual_tokens", "learned_tokens", "duration_bucket"]
DURATIONS = ("15s", "15min", "2h")


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Samples, sorted by id.

    Attributes:
        ids: their ids, bytes [n] of 32 hexadecimal digits.
        task: index [n] into ``tasks``.
        tasks: the distinct task names, sorted.
        heldout: bool [n].
        total, visual, learned: tokens [n].
        duration: index [n] into `DURATIONS`; -1 without video.
    """

    ids: NDArray[np.bytes_]
    task: NDArray[np.int32]
    tasks: list[str]
    heldout: NDArray[np.bool_]
    total: NDArray[np.int64]
    visual: NDArray[np.int64]
    learned: NDArray[np.int64]
    duration: NDArray[np.int8]

    def keys(self, rows: NDArray[np.int64], *seed: object) -> NDArray[np.uint64]:
        """For each of ``rows`` a number that depends only on its id and ``seed``: sorting by it shuffles."""
        digits = self.ids[rows].view(np.uint8).reshape(-1, ID_DIGITS)[:, :16]
        nibbles = np.where(digits >= ord("a"), digits - (ord("a") - 10), digits - ord("0")).astype(np.uint64)
        mixed = np.zeros(len(rows), dtype=np.uint64)
        for place in range(16):
            mixed = (mixed << np.uint64(4)) | nibbles[:, place]
        salt = sha256_bytes("\x1f".join(map(str, seed)).encode())[:16]
        mixed ^= np.uint64(int(salt, 16))
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # the finaliser of SplitMix64
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
        return mixed ^ (mixed >> np.uint64(31))


def read_candidates(corpus: Corpus) -> Candidates:
    """Reads the planning columns of every sample.

    Raises:
        CorruptCorpusError: two samples have the same id, or an id is none.
    """
    paths = sorted((corpus.folder / "samples").rglob("*.parquet"))
    parts = [pq.ParquetFile(path).read(columns=COLUMNS) for path in paths]
    if not parts:
        raise CorruptCorpusError(f"{corpus.folder} has no samples table: curate again")
    table = pa.concat_tables(parts)
    table = table.take(pc.sort_indices(table["sample_id"])).combine_chunks()
    names = table["sample_id"]
    wrong = pc.invert(pc.match_substring_regex(names, f"^[0-9a-f]{{{ID_DIGITS}}}$"))
    if pc.any(wrong).as_py():
        raise CorruptCorpusError(
            f"sample id {names.filter(wrong)[0].as_py()!r} is not {ID_DIGITS} hexadecimal digits: curate again"
        )
    fixed = [chunk.cast(pa.binary()).cast(pa.binary(ID_DIGITS)) for chunk in names.chunks]
    ids = np.concatenate([np.empty(0, f"S{ID_DIGITS}"), *(np.frombuffer(c.buffers()[1], f"S{ID_DIGITS}") for c in fixed)])
    twice = np.flatnonzero(ids[1:] == ids[:-1])
    if len(twice):
        raise CorruptCorpusError(f"sample {ids[twice[0]].decode()} stands in the samples table twice: curate again")
    tasks = sorted(pc.unique(table["task"]).to_pylist())
    return Candidates(
        ids=ids,
        task=_codes(table["task"], tasks).astype(np.int32),
        tasks=tasks,
        heldout=_codes(table["split"], ["heldout"]) == 0,
        total=table["total_tokens"].to_numpy().astype(np.int64),
        visual=table["visual_tokens"].to_numpy().astype(np.int64),
        learned=table["learned_tokens"].to_numpy().astype(np.int64),
        duration=_codes(table["duration_bucket"], list(DURATIONS)).astype(np.int8),
    )


def _codes(column: pa.ChunkedArray, values: list[str]) -> NDArray[np.int64]:
    """Index of each entry among ``values``; -1 for any other."""
    found = pc.index_in(column, value_set=pa.array(values, type=pa.string()))
    return np.asarray(pc.fill_null(found, -1).to_numpy(), dtype=np.int64)
