"""The packed sequences of a stage by position: which rows they are made of, and what is known of their samples.

Decided here: the rows of samples stay in their files. What is held is a row of numbers for each placed sample, 32 bytes: a
stage that places 10 million samples takes 320 MB in each rank and nothing in its reader processes. A join in DuckDB finds
them, which spills to disk where memory is short.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manifests.catalog import Catalog, no_pattern, quoted
from manifests.corpus import Corpus
from manifests.errors import CorruptCorpusError
from manifests.fingerprint import code_fingerprint, sha256_bytes, value_id
from manifests.migration import Default, origins
from manifests.recipe import Recipe
from manifests.tokenizer import load_tokenizer
from model.sequence_shard import shortest_row
from trainer.collate import PackedBatch, collate
from trainer.launch import Launch
from trainer.media import BATCH_ROWS, MediaIndex, write_index
from trainer.packed_arrays import PackedArrays
from trainer.replaced import ReplacedFile
from trainer.sample_facts import SampleFacts, facts_of
from trainer.sequence_reader import Keep, Order, ReaderSettings, Segment, SequenceReader
from trainer.token_store import TokenStore

PLACED = np.dtype([("id", "V16"), ("row", "<i4"), ("total", "<i4"), ("visual", "<i4"), ("file", "<u2"), ("kind", "<u2")])
"""A placed sample: its id, its row in a file of the samples table, its tokens, and its kind."""
_KIND = ("task", "modality", "context_bucket", "duration_bucket")
_COLUMNS = ("sample_id", "total_tokens", "visual_tokens", *_KIND)
_HALVES = "('0x' || sample_id[1:16])::UBIGINT AS head, ('0x' || sample_id[17:32])::UBIGINT AS tail"
"""A name of 32 hexadecimal digits as two numbers."""


class StageSequences:
    """The packed sequences of one stage and split, by position.

    Args:
        catalog: the corpus.
        recipe: as the stage manifest carries it.
        stage, split: which sequences.
        launch: what to do about bad media, and where the cache of an address lies.
        media: the index of the corpus, when it is at hand.
        replaced: where pictures with a stand-in are recorded; None: nowhere.

    Raises:
        CorruptCorpusError: the tables do not fit together.
    """

    def __init__(
        self,
        catalog: Catalog,
        recipe: Recipe,
        *,
        stage: int,
        split: str,
        launch: Launch = Launch(),  # noqa: B008, frozen
        media: MediaIndex | None = None,
        replaced: ReplacedFile | None = None,
    ) -> None:
        self.replaced = replaced
        self.kept: tuple[str, int] | None = None
        self.where = f"stage {stage}, {split}"
        self.settings = reader_settings(catalog, recipe, launch)
        self._media, self._catalog = media, catalog
        which = [recipe.name, stage, split]
        of_stage = "recipe = ? AND stage = ? AND split = ?"
        rows, different, last = catalog.connection.execute(
            f"SELECT count(*), count(DISTINCT position), coalesce(max(position), -1) FROM sequences WHERE {of_stage}", which
        ).fetchall()[0]
        if not rows == different == last + 1:
            raise CorruptCorpusError(f"{self.where}: positions of the sequences table have gaps or repeats: plan again")
        kinds = catalog.connection.execute(f"SELECT DISTINCT {', '.join(_KIND)} FROM samples ORDER BY ALL").fetchall()
        self.kinds = tuple(facts_of("", *kind).kind for kind in kinds)
        placed, positions = [], []
        # Numbers alone are joined and sorted: with ids, paths and kinds as text the peak was 4.3 GB where it is 1.4 now.
        found = catalog.connection.sql(
            f"WITH held AS ({_rows_of(catalog.corpus, kinds or [(None,) * len(_KIND)])}), "
            f"wanted AS (SELECT position, segment, {_HALVES} FROM segments WHERE {of_stage}) "
            "SELECT position, wanted.head, wanted.tail, file, row, total, visual, kind FROM wanted "
            "LEFT JOIN held ON wanted.head = held.head AND wanted.tail = held.tail ORDER BY position, segment",
            params=which,
        ).to_arrow_reader(BATCH_ROWS)
        for batch in found:
            ids = np.stack([batch.column(name).to_numpy() for name in ("head", "tail")], axis=1).astype(">u8").view("V16")[:, 0]
            if batch.column("file").null_count:
                lost = ids[batch.column("file").is_null().to_numpy(zero_copy_only=False)][0].tobytes().hex()
                raise CorruptCorpusError(f"{self.where}: sample {lost} is packed but not in the samples table: plan again")
            part = np.empty(len(batch), dtype=PLACED)
            part["id"] = ids
            for name in ("file", "row", "total", "visual", "kind"):
                part[name] = batch.column(name).to_numpy()
            placed.append(part)
            positions.append(batch.column("position").to_numpy())
        self.placed: NDArray[Any] = np.concatenate(placed) if placed else np.empty(0, dtype=PLACED)
        at = np.concatenate(positions) if positions else np.empty(0, dtype=np.int64)
        self.starts: NDArray[np.int64] = np.searchsorted(at, np.arange(rows + 1))
        planned = catalog.connection.execute(f"SELECT count(*) FROM segments WHERE {of_stage}", which).fetchall()[0][0]
        if len(self.placed) != planned or self.starts[-1] != planned or (np.diff(self.starts) == 0).any():
            raise CorruptCorpusError(f"{self.where}: tables segments, sequences and samples do not fit together: plan again")

    def __len__(self) -> int:
        return len(self.starts) - 1

    @cached_property
    def media(self) -> MediaIndex:
        """Where the pictures of the corpus lie."""
        return media_index(self._catalog) if self._media is None else self._media

    @cached_property
    def reader(self) -> SequenceReader:
        """Reads sequences in this process."""
        return SequenceReader(self.settings, self.media)

    def order(self, position: int, sharing: tuple[int, int] = (0, 1)) -> Order:
        """All that a reader needs to read a sequence.

        Args:
            sharing: (this rank, ranks) of those that share it; one too short to be shared is read whole.
        """
        rows = self.placed[self.starts[position] : self.starts[position + 1]].tolist()
        segments = tuple(Segment(sample_id.hex(), file, row, total, visual) for sample_id, row, total, visual, file, _ in rows)
        shared = sharing[1] > 1 and sum(segment.total for segment in segments) >= shortest_row(sharing[1])
        return Order(self.where, position, segments, self.kept, sharing if shared else None)

    def keep_in(self, folder: Path, *, first: int = 0) -> Iterator[Keep]:
        """The work that is left until all sequences are kept as tokens below `folder`; from then on they are read there.

        Args:
            first: the part to begin with, so that several ranks begin with different ones.
        """
        visual = self.settings.visual
        made_by = [
            code_fingerprint("manifests"),
            load_tokenizer(self.settings.tokenizer).fingerprint,
            visual.patch,
            visual.merge,
        ]
        rows = [sha256_bytes(np.ascontiguousarray(self.placed[name]).tobytes()) for name in ("id", "total", "visual")]
        place = folder / value_id([made_by, rows, sha256_bytes(self.starts.tobytes())])
        self.kept = None
        for part, positions in TokenStore(place, len(self)).missing(first):
            yield Keep(self.where, part, (), (str(place), len(self)), tuple(self.order(position) for position in positions))
        self.kept = (str(place), len(self))

    def sample_ids(self, position: int) -> list[str]:
        """The samples of a sequence in order."""
        return [segment.sample_id for segment in self.order(position).segments]

    def facts(self, position: int) -> tuple[SampleFacts, ...]:
        """What is known of each sample of a sequence, in order."""
        rows = self.placed[self.starts[position] : self.starts[position + 1]]
        return tuple(SampleFacts(sample_id.hex(), self.kinds[kind]) for sample_id, *_, kind in rows.tolist())

    def batch(self, position: int, sharing: tuple[int, int] = (0, 1)) -> PackedBatch:
        """One sequence, or this rank's part of its pictures, rendered, decoded and collated in this process.

        Raises:
            CostMismatchError: a sample renders to other tokens than counted.
            CorruptCorpusError: a sample or picture is missing or has other bytes.
            UnreachableError: an object store does not answer.
        """
        return self.collated(position, self.reader.read(self.order(position, sharing)))

    def collated(self, position: int, arrays: PackedArrays, *, pinned: bool = False) -> PackedBatch:
        """What was read of a sequence as a batch; stand-ins are recorded, by one of the ranks that share it."""
        leads = arrays.share is None or arrays.share.rank == 0
        if self.replaced is not None and arrays.replaced and leads:
            self.replaced.add(self.where, position, arrays.replaced)
        return collate(arrays, facts=self.facts(position), pinned=pinned)


def reader_settings(catalog: Catalog, recipe: Recipe, launch: Launch) -> ReaderSettings:
    """What readers of a corpus need to know."""
    corpus = catalog.corpus
    return ReaderSettings(
        folder=str(corpus.folder),
        tokenizer=recipe.tokenizer,
        visual=recipe.visual,
        files=tuple(
            (path.relative_to(corpus.folder).as_posix(), version)
            for version, paths in sorted(corpus.files_of("samples").items())
            for path in paths
        ),
        on_bad_media=launch.on_bad_media,
        cache=str(launch.cache_folder),
        cache_bytes=launch.media_cache_bytes,
    )


def media_index(catalog: Catalog) -> MediaIndex:
    """The places of all pictures of a corpus."""
    query = 'SELECT media_id, sha256, shard, "offset", length FROM media ORDER BY media_id'
    return write_index(catalog.connection.sql(query).to_arrow_reader(BATCH_ROWS))


def _rows_of(corpus: Corpus, kinds: list[tuple[str | None, ...]]) -> str:
    """SQL of every row of the samples table as numbers: its id, its file, its place there, its tokens and its kind."""
    numbered = ", ".join(
        f"({', '.join('NULL::VARCHAR' if word is None else quoted(word) for word in kind)}, {number}::USMALLINT)"
        for number, kind in enumerate(kinds)
    )
    selects, file = [], 0
    for version, paths in sorted(corpus.files_of("samples").items()):
        known = origins("samples", version)
        columns = ", ".join(f'{"NULL" if isinstance(old := known[name], Default) else old} AS "{name}"' for name in _COLUMNS)
        for path in paths:
            read = f"read_parquet({quoted(no_pattern(str(path)))}, file_row_number=true, hive_partitioning=false)"
            selects.append(f"SELECT {columns}, {file}::USMALLINT AS file, file_row_number::INTEGER AS row FROM {read}")
            file += 1
    same = " AND ".join(f"rows.{name} IS NOT DISTINCT FROM kinds.{name}" for name in _KIND)
    return (
        f"SELECT {_HALVES}, file, row, total_tokens AS total, visual_tokens AS visual, kind "
        f"FROM ({' UNION ALL '.join(selects)}) AS rows JOIN (VALUES {numbered}) AS kinds({', '.join(_KIND)}, kind) ON {same}"
    )
