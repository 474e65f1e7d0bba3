"""Which pictures of a folder are the pages of one document: told by their names alone, and only when nothing else is said.

Pictures are pages when their names end in a word for a page (`WORDS`) and its number, like ``deed-page-007.png``,
``scan_12.jpg`` or ``p3.tif``; those of one folder with an equal beginning, extension, licence and origin are one document when
there are two or more and no number is missing or doubled between the first and the last. A picture that a sidecar, a list or
another document describes is no page, and a picture alone stays a picture.
"""

from __future__ import annotations

import itertools
import posixpath
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

ROLE = "page:"
"""Begins the role of the attached pages; the file's name follows."""
WORDS = ("page", "pages", "p", "pg", "scan", "folio", "fol", "seite", "pagina", "blatt")
_PAGE = re.compile(
    rf"(?P<stem>(?:.*[^a-z0-9])?(?:{'|'.join(WORDS)})[-_. ]?)(?P<number>\d{{1,6}})"
    r"(?P<extension>\.(?:jpe?g|png|tiff?|webp|bmp))",
    re.IGNORECASE,
)


def find_series(paths: Iterable[str], owner: Callable[[str], Any]) -> Iterator[list[str]]:
    """The documents among pictures: their paths in the order of their page numbers.

    Args:
        paths: of pictures that nothing describes, and of other files, which are passed over; with ``/``.
        owner: licence and origin of a path.
    """
    series: dict[tuple[Any, ...], list[tuple[int, str]]] = defaultdict(list)
    for path in paths:
        folder, name = posixpath.split(path)
        found = _PAGE.fullmatch(name)
        if found is not None:
            series[folder, found["stem"], found["extension"], owner(path)].append((int(found["number"]), path))
    for numbered in series.values():
        numbered.sort()
        if len(numbered) > 1 and all(after == before + 1 for (before, _), (after, _) in itertools.pairwise(numbered)):
            yield [path for _, path in numbered]
