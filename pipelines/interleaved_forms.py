"""Documents of texts and pictures in turn, in the forms in which they are passed on, as one list of pieces.

- Markdown with pictures: ``![words](figures/a.png)`` or ``<img src="figures/a.png">``, outside of code.
- OBELICS: ``{"texts": ["...", null], "images": [null, "a.jpg"]}``, two lists of one length that take turns.
- MMC4: ``{"text_list": [...], "image_info": [{"image_name": "a.jpg", "matched_text_index": 3}]}``: a picture stands before the
  text it was matched with.

A picture is a file beside the document, below it, or in ``images/`` beside it; an address on the network is a picture that is
missing.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

ROLE = "picture:"
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_FENCE = re.compile(r" {0,3}(```+|~~~+)")
_PICTURE = re.compile(
    r"!\[(?:[^\[\]\\]|\\.|\[[^\[\]]*\])*\]\(\s*(?:<(?P<angle>[^<>\n]+)>|(?P<plain>[^\s()]+(?:\([^\s()]*\)[^\s()]*)*))"
    r"(?:\s+(?:\"[^\"\n]*\"|'[^'\n]*'))?\s*\)"
    r"|<img\b[^>]*?\bsrc\s*=\s*(?:\"(?P<double>[^\"\n]+)\"|'(?P<single>[^'\n]+)')[^>]*>",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A stretch of text, or a picture by its link."""

    text: str | None = None
    picture: str | None = None


def markdown_pieces(words: str) -> list[Piece]:
    """A Markdown text cut at its pictures; the text between keeps every character, the pictures' own markup is left out."""
    pieces: list[Piece] = []
    start = 0
    code = _code_spans(words)
    for found in _PICTURE.finditer(words):
        if any(begin <= found.start() < end for begin, end in code):
            continue
        if words[start : found.start()].strip():
            pieces.append(Piece(text=words[start : found.start()]))
        link = next(group for group in found.groups() if group is not None)
        pieces.append(Piece(picture=unquote(link)))
        start = found.end()
    if words[start:].strip():
        pieces.append(Piece(text=words[start:]))
    return pieces


def _code_spans(words: str) -> list[tuple[int, int]]:
    """Where fenced code stands."""
    spans = []
    place, begin, fence = 0, -1, ""
    for line in words.splitlines(keepends=True):
        mark = _FENCE.match(line)
        if mark and begin < 0:
            begin, fence = place, mark[1]
        elif mark and mark[1].startswith(fence) and not line[mark.end() :].strip():
            spans.append((begin, place + len(line)))
            begin = -1
        place += len(line)
    return [*spans, (begin, place)] if begin >= 0 else spans


def json_pieces(value: Any) -> list[Piece]:
    """One document in the form of OBELICS or MMC4.

    Raises:
        ValueError: it is neither, or its lists do not fit each other.
    """
    if not isinstance(value, dict):
        raise ValueError("it is no object")
    if isinstance(value.get("texts"), list) and isinstance(value.get("images"), list):
        return list(_obelics(value["texts"], value["images"]))
    if isinstance(value.get("text_list"), list) and isinstance(value.get("image_info"), list):
        return list(_mmc4(value["text_list"], value["image_info"]))
    raise ValueError("it has neither the lists texts and images nor text_list and image_info")


def _obelics(texts: list[Any], images: list[Any]) -> Iterator[Piece]:
    if len(texts) != len(images):
        raise ValueError(f"it has {len(texts)} texts and {len(images)} images: the lists take turns and are of one length")
    for place, (words, link) in enumerate(zip(texts, images, strict=True)):
        if not isinstance(words, str | None) or not isinstance(link, str | None):
            raise ValueError(f"place {place} holds {type(words).__name__} and {type(link).__name__}, not text or null")
        if link:
            yield Piece(picture=link)
        if words and words.strip():
            yield Piece(text=words.strip() + "\n\n")


def _mmc4(texts: list[Any], infos: list[Any]) -> Iterator[Piece]:
    before: dict[int, list[str]] = defaultdict(list)
    for place, info in enumerate(infos):
        told = info if isinstance(info, dict) else {}
        name, index = told.get("image_name"), told.get("matched_text_index")
        if not isinstance(name, str) or isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(texts):
            raise ValueError(f"image_info {place} has no image_name, or no matched_text_index below {len(texts)}")
        before[index].append(name)
    for place, words in enumerate(texts):
        if not isinstance(words, str):
            raise ValueError(f"text_list {place} is {type(words).__name__}, not text")
        yield from (Piece(picture=name) for name in before[place])
        if words.strip():
            yield Piece(text=words.strip() + "\n\n")
