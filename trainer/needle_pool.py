"""What haystacks are made of: text and video frames of a corpus's held-out side, as it was curated.

Decided here: text is what documents without pictures say, cut into short pieces at line ends, each piece once; frames are those
that curation stored of whole videos, at the seconds they were taken. Only as much is read as the longest haystack needs, in the
order of ids, so that the same corpus gives the same pool.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from manifests.catalog import Catalog
from manifests.errors import CorruptCorpusError
from manifests.sample import messages_from_rows
from manifests.shards import read_media
from manifests.tokenizer import Tokenizer
from manifests.visual import VisualSpec

# Tokens of a piece of text, about: a needle can lie between any two, and a haystack ends at most one short of its length.
PIECE_TOKENS = 48


@dataclass(frozen=True, kw_only=True)
class TextPiece:
    """Text that stays together, and its tokens."""

    text: str
    tokens: int


@dataclass(frozen=True, kw_only=True)
class HeldoutVideo:
    """A video: the size its frames are read at, and (second, media_id) of each in order."""

    source: str
    height: int
    width: int
    frames: tuple[tuple[float, str], ...]


@dataclass(frozen=True, kw_only=True)
class NeedlePool:
    """Held-out texts and videos, as much of them as one haystack can need.

    Attributes:
        picture: media_id, height, width -> a stored frame at that size, uint8 [H, W, 3].
    """

    tokenizer: Tokenizer
    visual: VisualSpec
    pieces: Sequence[TextPiece]
    videos: Sequence[HeldoutVideo]
    picture: Callable[[str, int, int], NDArray[np.uint8]]


def read_pool(catalog: Catalog, tokenizer: Tokenizer, visual: VisualSpec, *, longest: int) -> NeedlePool:
    """The pool of a corpus.

    Args:
        longest: tokens of the longest haystack.
    """
    return NeedlePool(
        tokenizer=tokenizer,
        visual=visual,
        pieces=_pieces(catalog, tokenizer, longest),
        videos=_videos(catalog, visual, longest),
        picture=lru_cache(maxsize=1024)(partial(_picture, catalog)),
    )


def _pieces(catalog: Catalog, tokenizer: Tokenizer, longest: int) -> list[TextPiece]:
    rows = catalog.connection.cursor().execute(
        "SELECT messages FROM samples WHERE split = 'heldout' AND visual_tokens = 0 AND len(messages) = 1 "
        "AND messages[1].role = 'document' ORDER BY sample_id"
    )
    pieces: dict[str, int] = {}
    tokens = 0
    # Twice the longest haystack: each begins at another place.
    while tokens < 2 * longest and (row := rows.fetchone()) is not None:
        for part in messages_from_rows(row[0])[0].parts:
            for piece in cut_text(part.text or "", tokenizer):
                if piece not in pieces:
                    pieces[piece] = len(tokenizer.encode(piece))
                    tokens += pieces[piece]
    return [TextPiece(text=text, tokens=count) for text, count in pieces.items()]


def _videos(catalog: Catalog, visual: VisualSpec, longest: int) -> list[HeldoutVideo]:
    rows = catalog.connection.cursor().execute(
        "SELECT source, payload FROM annotations WHERE split = 'heldout' AND kind = 'video' ORDER BY source_id"
    )
    videos: list[HeldoutVideo] = []
    tokens = 0
    while tokens < 2 * longest and (row := rows.fetchone()) is not None:
        payload = json.loads(row[1])
        if not payload.get("frames"):
            continue
        height, width = visual.resize(payload["height"], payload["width"], visual.frame_tokens_min, visual.frame_tokens_max)
        frames = tuple((round(point / payload["fps_grid"], 3), media_id) for point, media_id in payload["frames"])
        videos.append(HeldoutVideo(source=row[0], height=height, width=width, frames=frames))
        tokens += len(frames) * visual.tokens(height, width)
    return videos


def _picture(catalog: Catalog, media_id: str, height: int, width: int) -> NDArray[np.uint8]:
    place = catalog.connection.execute(
        'SELECT shard, "offset", length, sha256 FROM media WHERE media_id = ?', [media_id]
    ).fetchone()
    if place is None:
        raise CorruptCorpusError(f"picture {media_id} of a held-out video is not in the media table: curate again")
    shard, offset, length, sha256 = place
    data = read_media(catalog.corpus.folder / shard, offset, length, sha256)
    with Image.open(io.BytesIO(data)) as stored:
        picture = stored.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    return np.array(picture, dtype=np.uint8)


def cut_text(text: str, tokenizer: Tokenizer) -> Iterator[str]:
    """A text in pieces of about `PIECE_TOKENS`, at line ends where there are some; together they are the text."""
    piece = ""
    for line in text.splitlines(keepends=True):
        for part in _short(line, tokenizer):
            piece += part
            if len(tokenizer.encode(piece)) >= PIECE_TOKENS // 2:
                yield piece
                piece = ""
    if piece:
        yield piece


def _short(line: str, tokenizer: Tokenizer) -> Iterator[str]:
    """A line in parts of at most `PIECE_TOKENS`, halved at spaces, or anywhere where there is none."""
    if len(tokenizer.encode(line)) <= PIECE_TOKENS or len(line) < 2:
        yield line
        return
    middle = len(line) // 2
    cut = line.rfind(" ", 1, middle + 1)
    cut = cut if cut > 0 else middle
    yield from _short(line[:cut], tokenizer)
    yield from _short(line[cut:], tokenizer)
