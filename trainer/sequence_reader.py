"""A packed sequence from its samples' rows: tokens checked against what was counted, pictures checked and decoded.

Decided here: what to read comes as an `Order`, which names every sample by file and row, so a reader knows neither stage nor
plan: readers of another process need no database, hold nothing of a stage, and go on with the next one as they are. Rows are
read by row group; the groups used last are kept, up to a bound. Loads neither torch nor DuckDB.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from manifests.errors import CorruptCorpusError, CostMismatchError
from manifests.migration import origins
from manifests.places import place
from manifests.rendering import Rendered, render
from manifests.sample import Message, messages_from_rows
from manifests.tokenizer import Tokenizer, load_tokenizer
from manifests.visual import VisualSpec
from trainer.block_cache import BlockCache, patiently
from trainer.launch import OnBadMedia
from trainer.media import BadMediaError, MediaIndex, Pictures
from trainer.packed_arrays import PackedArrays, Replaced, pack
from trainer.picture_share import PictureShare, owners_of
from trainer.token_store import Tokens, TokenStore, tokens_of

T = TypeVar("T")
ROW_BYTES = 256 * 2**20
"""Rows that a reader keeps, at most, beyond the group it reads from."""
GREY = 128
SHORT = 24
"""Texts of at most so many characters (roles, line ends, times of frames) come again and again: their tokens are kept."""
SHORT_TEXTS = 50_000


class Segment(NamedTuple):
    """One sample of a sequence: its row of the samples table, and the tokens counted for it."""

    sample_id: str
    file: int
    row: int
    total: int
    visual: int


class Order(NamedTuple):
    """One sequence to read.

    Attributes:
        where: names its stage and split, for messages.
        kept: folder and number of the stage's sequences, where they are kept as tokens.
        sharing: (this rank, ranks) of those that share the sequence; None: nobody does.
    """

    where: str
    position: int
    segments: tuple[Segment, ...]
    kept: tuple[str, int] | None = None
    sharing: tuple[int, int] | None = None


class Keep(NamedTuple):
    """Sequences to keep as tokens: one part of a `TokenStore`.

    Attributes:
        where, position, segments: as of an `Order`, for messages: the part's number, and nothing.
        kept: folder of the store, and how many sequences it will have.
        orders: of the part.
    """

    where: str
    position: int
    segments: tuple[Segment, ...]
    kept: tuple[str, int]
    orders: tuple[Order, ...]


@dataclass(frozen=True, kw_only=True)
class ReaderSettings:
    """What a reader needs to know of a corpus and a launch.

    Attributes:
        folder: the corpus; a folder or an address.
        tokenizer, visual: as the recipe has them.
        files: the samples table: paths below the corpus, each with the version of its tables.
        on_bad_media: ``stop``, or ``replace``: a picture that cannot be read is shown grey, and its sample teaches nothing.
        cache, cache_bytes: folder and size of the cache of an address; unused for a folder.
    """

    folder: str
    tokenizer: str
    visual: VisualSpec
    files: tuple[tuple[str, int], ...]
    on_bad_media: OnBadMedia = "stop"
    cache: str = ""
    cache_bytes: int = 0


class SequenceReader:
    """Reads sequences, one at a time; safe to call from several threads, which then wait for each other."""

    def __init__(self, settings: ReaderSettings, media: MediaIndex) -> None:
        self.settings = settings
        folder = place(settings.folder)
        cache = None if isinstance(folder, Path) else BlockCache(Path(settings.cache), settings.cache_bytes)
        self.pictures = Pictures(folder, media, cache)
        self.rows = _SampleRows(folder, settings.files)
        self._stores: dict[str, TokenStore] = {}
        self._lock = threading.Lock()

    @cached_property
    def tokenizer(self) -> _RememberingTokenizer:
        """The recipe's, with tokens at hand."""
        return _RememberingTokenizer(load_tokenizer(self.settings.tokenizer))

    def read(self, order: Order) -> PackedArrays:
        """One sequence, or this rank's part of its pictures.

        A picture with a stand-in changes what its sample teaches, which all ranks have to know: where stand-ins are allowed
        every rank decodes every picture.

        Raises:
            CostMismatchError: a sample renders to other tokens than counted.
            CorruptCorpusError: a row or picture is missing or has other bytes.
            UnreachableError: an object store does not answer.
        """
        with self._lock:
            tokens = self.tokens(order)
            pictures: list[NDArray[np.uint8]] = []
            replaced: list[Replaced] = []
            unlearned: list[int] = []
            share = self._share(tokens, order)
            stops = self.settings.on_bad_media == "stop"
            for number, (visual, index) in enumerate(tokens.visuals):
                if share is not None and stops and not share.has(number):
                    pictures.append(np.broadcast_to(np.uint8(GREY), (visual.height, visual.width, 3)))
                    continue
                try:
                    pictures.append(self.pictures.read(visual))
                except BadMediaError as error:
                    sample_id = order.segments[index].sample_id
                    if stops:
                        raise BadMediaError(f"sample {sample_id}, {error}") from error
                    pictures.append(np.full((visual.height, visual.width, 3), GREY, dtype=np.uint8))
                    replaced.append(Replaced(sample_id=sample_id, media_id=visual.media_id, reason=str(error)))
                    unlearned.append(index)
            spec = self.settings.visual
            return pack(
                tokens, pictures, patch=spec.patch, merge=spec.merge, replaced=replaced, unlearned=unlearned, share=share
            )

    def _share(self, tokens: Tokens, order: Order) -> PictureShare | None:
        if order.sharing is None:
            return None
        rank, ranks = order.sharing
        return PictureShare(owners_of([visual.height * visual.width for visual, _ in tokens.visuals], ranks), rank)

    def tokens(self, order: Order) -> Tokens:
        """The text of a sequence: as it is kept, or rendered; its samples have the counted tokens.

        Raises:
            CostMismatchError, CorruptCorpusError: as `read`.
        """
        if order.kept is None:
            messages = [messages_from_rows(self.rows.messages(segment)) for segment in order.segments]
            self.tokenizer.prepare(messages)
            return tokens_of([self._rendered(*each) for each in zip(order.segments, messages, strict=True)])
        folder, sequences = order.kept
        store = self._stores.get(folder)
        if store is None:
            store = self._stores[folder] = TokenStore(Path(folder), sequences)
        tokens = store.read(order.position)
        if not np.array_equal(tokens.ends, np.cumsum([segment.total for segment in order.segments])):
            raise CostMismatchError(
                f"{order.where}: sequence {order.position} is kept in {folder} with other tokens than its samples count: "
                f"delete that folder, it is made again"
            )
        return tokens

    def keep(self, keep: Keep) -> None:
        """Renders and writes one part of a store.

        Raises:
            CostMismatchError, CorruptCorpusError: as `read`.
        """
        store = TokenStore(Path(keep.kept[0]), keep.kept[1])
        with self._lock:
            store.write(keep.position, (self.tokens(order) for order in keep.orders))

    def render(self, segment: Segment) -> Rendered:
        """The tokens of one sample, checked against its row."""
        return self._rendered(segment, messages_from_rows(self.rows.messages(segment)))

    def _rendered(self, segment: Segment, messages: tuple[Message, ...]) -> Rendered:
        rendered = render(messages, self.tokenizer, self.settings.visual)
        cost = rendered.cost
        if (cost.total, cost.visual) != (segment.total, segment.visual):
            raise CostMismatchError(
                f"sample {segment.sample_id} renders to {cost.total} tokens ({cost.visual} of pictures), but its row in "
                f"{self.settings.folder} counts {segment.total} ({segment.visual}): the tokenizer or the rendering has changed "
                f"since curation; curate again"
            )
        return rendered


class _RememberingTokenizer(Tokenizer):
    """The same tokens. Those of short texts are made once, those of a sequence's other texts all at once.

    Without offsets and in one call the library takes 0.8 of the time (qwen3, texts of 2,500 characters); the ids are equal.
    """

    def __init__(self, whole: Tokenizer) -> None:
        self.name, self.fingerprint, self._inner = whole.name, whole.fingerprint, whole._inner
        self._short: dict[str, list[int]] = {}
        self._ready: dict[str, list[int]] = {}

    def prepare(self, samples: list[tuple[Message, ...]]) -> None:
        """Makes the tokens of all longer texts of these samples; they are known until the next call."""
        texts = [part.text for messages in samples for message in messages for part in message.parts if part.text]
        longer = list(dict.fromkeys(text for text in texts if len(text) > SHORT))
        encoded = self._inner.encode_batch_fast(longer, add_special_tokens=False)
        self._ready = {text: list(one.ids) for text, one in zip(longer, encoded, strict=True)}

    def encode(self, text: str) -> list[int]:
        if len(text) > SHORT:
            return self._ready.get(text) or super().encode(text)
        ids = self._short.get(text)
        if ids is None:
            if len(self._short) >= SHORT_TEXTS:
                self._short.clear()
            ids = self._short[text] = super().encode(text)
        return ids


class _SampleRows:
    """Rows of the samples table by file and number, read by row group."""

    def __init__(self, folder: Path, files: tuple[tuple[str, int], ...]) -> None:
        self.folder, self.files = folder, files
        self._first_rows: dict[int, list[int]] = {}
        self._groups: OrderedDict[tuple[int, int], pa.Table] = OrderedDict()
        self._bytes = 0

    def messages(self, segment: Segment) -> list[dict[str, Any]]:
        """The messages of a sample.

        Raises:
            CorruptCorpusError: the row is not there, or is another sample's.
        """
        group, row = self._find(segment)
        table = self._group(segment.file, group)
        if row >= len(table) or table.column(0)[row].as_py() != segment.sample_id:
            raise CorruptCorpusError(
                f"sample {segment.sample_id} is no longer row {segment.row} of {self._path(segment.file)}: "
                f"the corpus changed while it was read; start again"
            )
        found: list[dict[str, Any]] = table.column(1)[row].as_py()
        return found

    def _path(self, file: int) -> Path:
        return self.folder / self.files[file][0]

    def _find(self, segment: Segment) -> tuple[int, int]:
        """Row group of a sample, and its row there."""
        first = self._first_rows.get(segment.file)
        if first is None:
            first = self._first_rows[segment.file] = self._of_file(segment.file, _first_rows)
        group = int(np.searchsorted(first, segment.row, side="right")) - 1
        group = max(0, min(group, len(first) - 2))
        return group, segment.row - first[group]

    def _of_file(self, file: int, look: Callable[[pq.ParquetFile], T]) -> T:
        """What `look` finds in a file of the table; behind an address it is asked again after a failure.

        Raises:
            CorruptCorpusError: it is missing, or not the file that was written.
            UnreachableError: an object store does not answer.
        """
        path = self._path(file)

        def read() -> T:
            with path.open("rb") as stream, pq.ParquetFile(stream) as parquet:
                return look(parquet)

        try:
            return read() if isinstance(path, Path) else patiently(read, str(path))
        except (pa.ArrowException, OSError) as error:
            raise CorruptCorpusError(f"{path} cannot be read ({error}): `longreel check` says more") from error

    def _group(self, file: int, group: int) -> pa.Table:
        key = (file, group)
        known = self._groups.get(key)
        if known is not None:
            self._groups.move_to_end(key)
            return known
        names = origins("samples", self.files[file][1])
        columns = [str(names["sample_id"]), str(names["messages"])]
        table = self._of_file(file, lambda parquet: parquet.read_row_group(group, columns=columns).select(columns))
        self._groups[key] = table
        self._bytes += table.nbytes
        while self._bytes > ROW_BYTES and len(self._groups) > 1:
            self._bytes -= self._groups.popitem(last=False)[1].nbytes
        return table


def _first_rows(parquet: pq.ParquetFile) -> list[int]:
    """The first row of each row group, and the number of rows."""
    about = parquet.metadata
    sizes = [about.row_group(number).num_rows for number in range(about.num_row_groups)]
    return [0, *np.cumsum(sizes).tolist()]
