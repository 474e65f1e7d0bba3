"""Is a question nearly one of a benchmark's? `Decontaminator(lists).verdict(question, pictures)` names the item, or is None.

Lists are those of curation (``curate.quality.benchmarks``, `manifests.benchmarks`), and so is the comparison of pictures. The
one of texts is not: it counts runs of 13 words, of which a short question has few, and of which two problems of one generator
share most. Questions are compared by runs of three words, in a form that forgets case, punctuation, LaTeX and how numbers are
written (``1,000`` = ``1000.0``, ``seven`` = ``7``). A run weighs less the more items of the lists have it, so that a list's
own template counts for little. A question is a near-copy when

- half the weight of an item's runs is in it, or half the weight of its own is in one item (all of it where the shorter has
  under `WORDS_MIN` words; under `WORDS_LEAST` nothing is compared), and
- nine of ten numbers of that part are the same: a template with other numbers is another problem.

A question about pictures is its pictures: a text of under `RUN_WORDS` words ("how many people are there") counts for nothing
beside them.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal, DecimalException
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from manifests.benchmarks import RUN_WORDS, SHARE_MIN, Benchmark, BenchmarkItem, benchmark_identity, read_benchmark
from manifests.looks import look, upright_rgb
from manifests.words import WORD

RUN = 3
WORDS_MIN = 8
WORDS_LEAST = 5
NUMBERS_MIN = 0.9
_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
_SPOKEN = {word: str(value) for value, word in enumerate(_ONES)} | {
    word: str(10 * value) for value, word in enumerate(("thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"), 3)
}
_NUMBER = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d|,\d)|\d+(?:\.\d+)?|\.\d+")
_COMMAND = re.compile(r"\\[A-Za-z]+")


def words(text: str) -> list[str]:
    """The words of a question in the form in which they are compared; a number is one word."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    plain = _NUMBER.sub(_number, _COMMAND.sub(" ", plain))
    return [_SPOKEN.get(word, word) for word in WORD.findall(plain)]


def _number(match: re.Match[str]) -> str:
    try:
        value = Decimal(match[0].replace(",", ""))
        return f" {value.normalize():f} ".replace(".", "p")
    except (DecimalException, ValueError):  # thousands of digits
        return match[0]


def _runs(found: Sequence[str]) -> NDArray[np.uint64]:
    runs = {" ".join(found[start : start + RUN]) for start in range(len(found) - RUN + 1)}
    digests = b"".join(hashlib.blake2b(run.encode("utf-8", "replace"), digest_size=8).digest() for run in sorted(runs))
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64)


def _numbers(found: Iterable[str]) -> Counter[str]:
    return Counter(word for word in found if any(letter.isdigit() for letter in word))


@dataclass(frozen=True, kw_only=True)
class _Item:
    name: str
    words: int
    weight: float
    numbers: Counter[str]


class _Questions:
    """The texts of a list, by their runs of `RUN` words."""

    def __init__(self, items: Iterable[BenchmarkItem]) -> None:
        named = [(item.name, words(item.text)) for item in items if item.text]
        named = [(name, found) for name, found in named if len(found) >= WORDS_LEAST]
        runs = [_runs(found) for _, found in named]
        hashes = np.concatenate([np.zeros(0, dtype=np.uint64), *runs])
        owners = np.repeat(np.arange(len(runs)), [len(one) for one in runs])
        order = np.argsort(hashes, kind="stable")
        self.hashes, self.owners = hashes[order], owners[order]
        self.items = [
            _Item(name=name, words=len(found), weight=float(self._weights(one).sum()), numbers=_numbers(found))
            for (name, found), one in zip(named, runs, strict=True)
        ]

    def _weights(self, runs: NDArray[np.uint64]) -> NDArray[np.float64]:
        """What runs weigh: one over the square of the number of items that have them: a template of 100 runs that six
        items share must not outweigh the ten runs that tell them apart."""
        count = np.searchsorted(self.hashes, runs, side="right") - np.searchsorted(self.hashes, runs, side="left")
        return 1 / np.square(np.maximum(count, 1))

    def copied(self, question: str) -> tuple[str, float] | None:
        """The item that a question nearly copies and the share that matches, or None."""
        found = words(question)
        if len(found) < WORDS_LEAST or not self.items:
            return None
        runs = _runs(found)
        weights, numbers = self._weights(runs), _numbers(found)
        shared: dict[int, float] = {}
        starts = np.searchsorted(self.hashes, runs, side="left")
        stops = np.searchsorted(self.hashes, runs, side="right")
        for weight, start, stop in zip(weights.tolist(), starts.tolist(), stops.tolist(), strict=True):
            for owner in self.owners[start:stop].tolist():
                shared[owner] = shared.get(owner, 0.0) + weight
        own = float(weights.sum())
        best: tuple[str, float] | None = None
        for owner, weight in sorted(shared.items()):
            item = self.items[owner]
            both = (item.numbers & numbers).total()
            share = 0.0
            for part, named, count in ((item.weight, item.numbers, item.words), (own, numbers, len(found))):
                # Rounded: the last bits of a sum depend on its order, and the verdict must not.
                of_part = round(weight / part, 9)
                if both >= NUMBERS_MIN * named.total() and of_part >= (SHARE_MIN if count >= WORDS_MIN else 1.0):
                    share = max(share, of_part)
            if share and (best is None or share > best[1]):
                best = (item.name, share)
        return best


class Decontaminator:
    """Compares questions with lists of evaluation data. Made once, asked often; asking changes nothing but a cache.

    Args:
        lists: files and folders, as in ``curate.quality.benchmarks``; none for no comparison.

    Raises:
        UsageError: a list cannot be read.
    """

    def __init__(self, lists: str | Path | Sequence[str | Path]) -> None:
        paths = [str(path) for path in ([lists] if isinstance(lists, str | Path) else lists)]
        items = list(read_benchmark(paths))
        self.identity = benchmark_identity(paths)
        self._benchmark = Benchmark(item for item in items if item.look is not None)
        self._questions = _Questions(items)
        self._seen: dict[bytes, str | None] = {}

    def verdict(self, question: str, pictures: Iterable[bytes | Image.Image] = ()) -> str | None:
        """Which item a question nearly copies, in words, or None.

        Args:
            question: all that is asked, options included, without the answer.
            pictures: what is shown with it: encoded, or decoded.
        """
        shown = list(pictures)
        if not shown or len(words(question)) >= RUN_WORDS:
            near = self._questions.copied(question)
            if near is not None:
                return f"it nearly copies {near[0]}: {near[1]:.0%} of the runs of {RUN} words are the same"
        for picture in shown if self._benchmark.looks else ():
            if (reason := self._picture(picture)) is not None:
                return reason
        return None

    def _picture(self, picture: bytes | Image.Image) -> str | None:
        if isinstance(picture, Image.Image):
            return self._look(picture)
        key = hashlib.blake2b(picture, digest_size=16).digest()
        if key not in self._seen:
            with Image.open(BytesIO(picture)) as opened:
                self._seen[key] = self._look(opened)
        return self._seen[key]

    def _look(self, picture: Image.Image) -> str | None:
        found = look(upright_rgb(picture))
        return None if found is None else self._benchmark.picture_copied(found)
