"""Markdown keeps its structure: a fenced block or a table is one block, and a heading stays with what follows it.

The blocks are pieces of the text in order, together the text itself, so that nothing of a document is lost where it is cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r" {0,3}#{1,6}(\s|$)")


def blocks_of(words: str) -> Iterator[str]:
    """Blocks of a Markdown text, each with the blank lines that follow it."""
    block: list[str] = []
    for line, closes in _lines(words):
        block.append(line)
        if closes and not _only_headings(block):
            yield "".join(block)
            block = []
    if block:
        yield "".join(block)


def _lines(words: str) -> Iterator[tuple[str, bool]]:
    """Each line, and whether a block ends after it: after the last of some blank lines, outside of fences."""
    fence: str | None = None
    lines = re.findall(r"[^\n]*\n|[^\n]+", words)
    for index, line in enumerate(lines):
        mark = _FENCE.match(line)
        if mark is not None:
            sign = mark.group(1)
            if fence is None:
                fence = sign
            elif sign[0] == fence[0] and len(sign) >= len(fence) and not line.strip(" \t\n").strip(sign[0]):
                fence = None
        following = lines[index + 1] if index + 1 < len(lines) else "x"
        yield line, fence is None and not line.strip() and bool(following.strip())


def _only_headings(block: list[str]) -> bool:
    written = [line for line in block if line.strip()]
    return all(_HEADING.match(line) for line in written)
