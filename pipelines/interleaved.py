"""Documents of texts and pictures in turn (`image.interleaved`), in pieces that fit each context.

A document is cut between its paragraphs and pictures, never inside one. As with plain text, one that is longer than the
smallest context is given again in longer pieces (`document.interleaved`) for the larger ones. A piece without a picture is
the text it is (`document.text`, `document.long`). Pictures that are not there or cannot be opened leave a gap and a dropped
row; the text around them stays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from manifests.sample import Message, Origin, Part, Sample, Visual, text
from pipelines.duplicates import Signature, shingle_minhash
from pipelines.extraction import Drop, Extracted, Setting
from pipelines.inputs import escaped
from pipelines.interleaved_forms import ROLE, Piece, json_pieces, markdown_pieces
from pipelines.items import Attachment, Filtered, Quarantined
from pipelines.pictures import PictureStore, open_picture, store_picture
from pipelines.plain_text import decode_text
from pipelines.sidecars import clean
from pipelines.text_quality import keep

TASK, LONG_TASK = "image.interleaved", "document.interleaved"
END_TOKENS = 1
PICTURE_MARKERS = 2


@dataclass(frozen=True, kw_only=True)
class _Block:
    """What is not cut further, and its tokens."""

    part: Part
    tokens: int


class _Pictures:
    """The pictures of a file, each opened and stored once."""

    def __init__(self, setting: Setting, store: PictureStore) -> None:
        self.setting, self.store = setting, store
        self.attached: Mapping[str, Attachment] = {each.role: each for each in setting.item.attached}
        self.read: dict[str, tuple[Visual, tuple[int, int]] | str] = {}

    def part(self, link: str, line: int | None) -> Part | str:
        """A picture by its link, or why there is none."""
        if link not in self.read:
            self.read[link] = self._open(link)
        found = self.read[link]
        if isinstance(found, str):
            return found
        visual, (width, height) = found
        origin = Origin(source_id=self.setting.item.source_id, page=line, box=(0.0, 0.0, float(width), float(height)))
        return Part(kind="image", visuals=(visual,), origin=origin)

    def _open(self, link: str) -> tuple[Visual, tuple[int, int]] | str:
        attached = self.attached.get(escaped(ROLE + link))
        if attached is None:
            return f"{link[:120]!r} is no picture beside the document"
        try:
            picture = open_picture(Path(attached.path))
        except Quarantined as problem:
            return f"{attached.source}: {problem.detail}"
        recipe = self.setting.recipe
        media_id, _ = store_picture(
            self.store, picture, recipe.visual, recipe.curate.stored_tokens_max, jpeg_quality=recipe.curate.jpeg_quality
        )
        height, width = recipe.visual.image_size(picture.height, picture.width)
        return Visual(media_id=media_id, height=height, width=width), picture.size


def read_interleaved(setting: Setting) -> Extracted:
    """A Markdown file with its pictures, or documents as JSON; of a ``.jsonl`` every line is one, and `Origin.page` its number.

    Raises:
        Quarantined: it is not UTF-8, or a ``.json`` that holds no document.
    """
    store = PictureStore()
    pictures = _Pictures(setting, store)
    samples: list[Sample] = []
    drops: list[Drop] = []
    everything: list[str] = []
    for line, pieces in _documents(setting, drops):
        words = "".join(piece.text for piece in pieces if piece.text)
        try:
            scores = keep(words, len(setting.tokenizer.encode(words)), setting.recipe.curate.text_tokens_min)
        except Filtered as problem:
            drops.append(Drop(task=TASK, stage="filter", reason=problem.reason, detail=_at(line) + problem.detail))
            continue
        everything.append(words)
        blocks = list(_blocks(pieces, line, pictures, drops, setting))
        samples += _samples(blocks, line, scores, setting, drops)
    whole = "\n".join(everything)
    several = PurePath(setting.item.path).suffix.lower() == ".jsonl"
    media = tuple(sorted({visual.media_id for sample in samples for visual in sample.visuals}))
    return Extracted(
        modality="image" if media else "document",
        samples=samples,
        store=store,
        signature=Signature(
            # Of a file of many documents only equal ones are duplicates, one by one: near-copies of the file must not go whole.
            kind="exact" if several else "text",
            minhash=b"" if several else shingle_minhash(whole),
            size=float(len(whole)),
            described=True,
            pictures=media,
        ),
        drops=drops,
    )


def _at(line: int | None) -> str:
    return "" if line is None else f"line {line}: "


def _documents(setting: Setting, drops: list[Drop]) -> Iterator[tuple[int | None, list[Piece]]]:
    """The documents of a file with their line numbers, where lines are documents."""
    words = decode_text(setting.path.read_bytes())
    extension = PurePath(setting.item.path).suffix.lower()
    if extension == ".jsonl":
        for line, entry in enumerate(words.split("\n"), start=1):
            if not entry.strip():
                continue
            try:
                yield line, json_pieces(json.loads(entry))
            except (ValueError, RecursionError) as error:
                detail = f"line {line}: {str(error).splitlines()[0]}"
                drops.append(Drop(task=TASK, stage="filter", reason="bad_line", detail=detail))
    elif extension == ".json":
        try:
            yield None, json_pieces(json.loads(words))
        except (ValueError, RecursionError) as error:
            raise Quarantined("check", "bad_document", str(error).splitlines()[0], "image") from error
    else:
        yield None, markdown_pieces(words)


def _blocks(
    pieces: Sequence[Piece], line: int | None, pictures: _Pictures, drops: list[Drop], setting: Setting
) -> Iterator[_Block]:
    missing: list[str] = []
    for piece in pieces:
        if piece.picture is not None:
            part = pictures.part(piece.picture, line)
            if isinstance(part, str):
                missing.append(part)
                continue
            visual = part.visuals[0]
            yield _Block(part=part, tokens=setting.recipe.visual.tokens(visual.height, visual.width) + PICTURE_MARKERS)
            continue
        for paragraph in re.findall(r".+?(?:\n[ \t]*\n+|\Z)", clean_inside(piece.text or ""), re.DOTALL):
            part = text(paragraph, Origin(source_id=setting.item.source_id, page=line))
            yield _Block(part=part, tokens=len(setting.tokenizer.encode(paragraph)))
    if missing:
        count = sum(piece.picture is not None for piece in pieces)
        detail = f"{_at(line)}{len(missing)} of {count} pictures are left out, first: {missing[0]}"
        drops.append(Drop(task=TASK, stage="filter", reason="missing_picture", detail=detail))


def clean_inside(words: str) -> str:
    """Text that any UTF-8 reader takes, its blank ends kept."""
    stripped = clean(words)
    lead = len(words) - len(words.lstrip())
    tail = len(words.rstrip())
    return words[:lead] + stripped + words[tail:]


def _samples(
    blocks: Sequence[_Block], line: int | None, scores: dict[str, float], setting: Setting, drops: list[Drop]
) -> Iterator[Sample]:
    buckets = setting.recipe.buckets
    lower = 0
    for block in blocks:
        if block.tokens + END_TOKENS > buckets.context_256k:
            detail = f"{_at(line)}a paragraph of {block.tokens:,} tokens fits no context"
            drops.append(Drop(task=TASK, stage="bucket", reason="over_context", detail=detail))
    for edge in (buckets.context_32k, buckets.context_64k, buckets.context_256k):
        for piece in _pack(blocks, edge):
            tokens = sum(block.tokens for block in piece) + END_TOKENS
            if tokens <= lower:
                continue
            shows = any(block.part.kind == "image" for block in piece)
            if not shows and tokens - END_TOKENS < setting.recipe.curate.text_tokens_min:
                detail = f"{_at(line)}a piece of {tokens - END_TOKENS} tokens without a picture"
                drops.append(Drop(task="document.text", stage="filter", reason="too_short", detail=detail))
                continue
            short = edge == buckets.context_32k
            task = (TASK if short else LONG_TASK) if shows else ("document.text" if short else "document.long")
            capabilities = ("interleaved",) if shows else ("reading",)
            yield Sample(
                task=task,
                capabilities=capabilities if short else (*capabilities, "long_context"),
                messages=(Message(role="document", parts=tuple(block.part for block in piece)),),
                licence=setting.item.licence,
                quality=scores,
            )
        lower = edge


def _pack(blocks: Sequence[_Block], edge: int) -> Iterator[list[_Block]]:
    """Blocks in order, as many to a piece as fit; one that fits no piece alone ends the piece before it."""
    piece: list[_Block] = []
    tokens = END_TOKENS
    for block in blocks:
        if piece and tokens + block.tokens > edge:
            yield piece
            piece, tokens = [], END_TOKENS
        if block.tokens + END_TOKENS <= edge:
            piece.append(block)
            tokens += block.tokens
    if piece:
        yield piece
