"""Long texts in pieces that fit a context: cut between pages, else between paragraphs, else between lines, never inside one.

One text feeds several stages: as pieces of the smallest context bucket and, when it is longer than that, again as pieces of
each larger one. A last piece that a smaller bucket holds is left out of the larger form, where it would only be a repetition.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from manifests.recipe import BucketSpec
from manifests.tokenizer import Tokenizer

END_TOKENS = 1


@dataclass(frozen=True, kw_only=True)
class Block:
    """Text that is not cut further, with what separates it from the next; ``page`` is 1-based, None without pages."""

    text: str
    page: int | None
    tokens: int


@dataclass(frozen=True, kw_only=True)
class Passage:
    """One piece: the text of each page, or of the whole piece when there are no pages.

    Attributes:
        edge: tokens of the context that it was packed for.
        pages: (page, text) in order.
    """

    edge: int
    pages: tuple[tuple[int | None, str], ...]

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(words for _, words in self.pages)


Split = Callable[[str], Iterable[str]]


def paragraphs(words: str) -> Iterator[str]:
    """Pieces of a text that end at blank lines; together they are the text."""
    return _split(words, r"\n[ \t]*\n+")


def blocks(pages: Sequence[tuple[int | None, str]], tokenizer: Tokenizer, edge: int, split: Split = paragraphs) -> list[Block]:
    """Pages as blocks of at most ``edge`` tokens where that is possible without cutting inside a line."""
    found: list[Block] = []
    for page, words in pages:
        tokens = len(tokenizer.encode(words))
        if tokens + END_TOKENS <= edge and page is not None:
            found.append(Block(text=words, page=page, tokens=tokens))
            continue
        for paragraph in split(words):
            tokens = len(tokenizer.encode(paragraph))
            if tokens + END_TOKENS <= edge:
                found.append(Block(text=paragraph, page=page, tokens=tokens))
                continue
            lines = _split(paragraph, r"\n")
            found += [Block(text=line, page=page, tokens=len(tokenizer.encode(line))) for line in lines]
    return found


def _split(words: str, separator: str) -> Iterator[str]:
    """Pieces of a text, each with the separator that follows it: together they are the text."""
    start = 0
    for match in re.finditer(separator, words):
        if words[start : match.end()].strip():
            yield words[start : match.end()]
            start = match.end()
    if start < len(words):
        yield words[start:]


def passages(
    pages: Sequence[tuple[int | None, str]],
    tokenizer: Tokenizer,
    buckets: BucketSpec,
    split: Split = paragraphs,
    *,
    longer: bool = True,
) -> tuple[list[Passage], list[str]]:
    """Every piece of a text, for every context bucket it is long enough for; and what could not be placed, in words.

    Args:
        pages: (page, text) in order; page None for a text without pages.
        split: into what a page is cut that is too long or has no number; the pieces together must be the text.
        longer: whether to make pieces for the larger contexts too.
    """
    pieces: list[Passage] = []
    lower = 0
    small = blocks(pages, tokenizer, buckets.context_32k, split)
    refused = [
        f"a line of {block.tokens:,} tokens{'' if block.page is None else f' on page {block.page}'} fits no context"
        for block in small
        if block.tokens + END_TOKENS > buckets.context_256k
    ]
    edges = (buckets.context_32k, buckets.context_64k, buckets.context_256k)
    for edge in edges if longer else edges[:1]:
        found = pack(small if lower == 0 else blocks(pages, tokenizer, edge, split), edge, tokenizer)
        pieces += [piece for piece in found if tokens_of(piece, tokenizer) > lower]
        lower = edge
    return pieces, refused


def tokens_of(piece: Passage, tokenizer: Tokenizer) -> int:
    """What a piece costs as a document, its end included."""
    return sum(len(tokenizer.encode(words)) for _, words in piece.pages) + END_TOKENS


def pack(found: Sequence[Block], edge: int, tokenizer: Tokenizer) -> list[Passage]:
    """Blocks in order, as many to a piece as fit; a block that fits no piece alone ends the piece before it."""
    pieces: list[Passage] = []
    start = 0
    while start < len(found):
        if found[start].tokens + END_TOKENS > edge:
            start += 1
            continue
        end, tokens = start, END_TOKENS
        while end < len(found) and tokens + found[end].tokens <= edge:
            tokens += found[end].tokens
            end += 1
        piece = _piece(found[start:end], edge)
        # Blocks of one page are tokenised together, which now and then takes a token more than apart.
        while end > start + 1 and tokens_of(piece, tokenizer) > edge:
            end -= 1
            piece = _piece(found[start:end], edge)
        pieces.append(piece)
        start = end
    return pieces


def _piece(found: Sequence[Block], edge: int) -> Passage:
    pages: list[tuple[int | None, str]] = []
    for block in found:
        if pages and pages[-1][0] == block.page:
            pages[-1] = (block.page, pages[-1][1] + block.text)
        else:
            pages.append((block.page, block.text))
    return Passage(edge=edge, pages=tuple(pages))
