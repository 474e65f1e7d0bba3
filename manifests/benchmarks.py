"""Lists of evaluation data and what nearly copies an item: one format and one comparison for curation and for questions.

A list is files and folders. A line of a ``.jsonl`` is an item with all its strings; any other text file is one item; a
picture is one. Files of other kinds are refused, so that nobody believes them checked.

- Text: runs of 13 words (Brown et al. 2020, appendix C), case and punctuation aside. A text is a near-copy when it holds half
  of an item's runs, or half of its own are an item's; a shared quotation is not enough. Items of 5 to 12 words count as one run
  of their own length. An edit destroys 13 runs: half still match when one word in 20 was changed.
- Pictures and frames (`manifests.looks`): hashes up to 12 bits apart whose thumbnails agree to 0.97, or up to 4 apart that
  agree to 0.94 (fine textures), so re-encoded, scaled and cropped copies count. That is wider than what makes two sources
  duplicates, since a list is short and a missed copy costs more: of 3,403 pairs of example screens 13 pass instead of 11.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from manifests.errors import UsageError
from manifests.fingerprint import sha256_bytes, value_id
from manifests.looks import AGREEMENT_MIN, WINDOWS, Look, agreement, look, upright_rgb
from manifests.words import shingles

RUN_WORDS = 13
RUN_WORDS_MIN = 5
SHARE_MIN = 0.5
BITS, AGREEMENT = 12, AGREEMENT_MIN
BITS_CLOSE, AGREEMENT_CLOSE = 4, 0.94
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
PICTURES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"))
TEXTS = frozenset((".txt", ".md", ".rst", ".html", ".json", ".csv", ".tsv", ".py", ".tex"))


@dataclass(frozen=True, kw_only=True)
class BenchmarkItem:
    """One item of the list. ``name`` is its file, with the line of a ``.jsonl``; text or look, not both."""

    name: str
    text: str = ""
    look: Look | None = None


def benchmark_files(paths: Iterable[str]) -> list[tuple[str, Path]]:
    """Every file of the list with its name: relative to the folder that was given, or its own.

    Raises:
        UsageError: a path does not exist.
    """
    found = []
    for given in paths:
        path = Path(given)
        if not path.exists():
            raise UsageError(f"the list of benchmarks (curate.quality.benchmarks) names {given}, which does not exist")
        if path.is_file():
            found.append((path.name, path))
        found += [(f"{path.name}/{file.relative_to(path).as_posix()}", file) for file in path.rglob("*") if file.is_file()]
    return sorted(found)


def benchmark_identity(paths: Sequence[str]) -> str:
    """A hash of the names and bytes of the whole list; read again only when a file's size or time changes."""
    if not paths:
        return ""
    return _identity(
        tuple((name, str(path), path.stat().st_size, path.stat().st_mtime_ns) for name, path in benchmark_files(paths))
    )


@lru_cache(maxsize=8)
def _identity(files: tuple[tuple[str, str, int, int], ...]) -> str:
    return value_id([[name, sha256_bytes(Path(path).read_bytes())] for name, path, _, _ in files])


def read_benchmark(paths: Sequence[str]) -> Iterator[BenchmarkItem]:
    """Every item of the list.

    Raises:
        UsageError: a file is neither text nor a picture, or cannot be read as what it is called.
    """
    for name, path in benchmark_files(paths):
        kind = path.suffix.lower()
        try:
            if kind in PICTURES:
                yield BenchmarkItem(name=name, look=look(_open(path)))
            elif kind == ".jsonl":
                for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
                    if line.strip():
                        yield BenchmarkItem(name=f"{name}:{number}", text="\n".join(_strings(json.loads(line))))
            elif kind in TEXTS:
                yield BenchmarkItem(name=name, text=path.read_text("utf-8"))
            else:
                raise UsageError(f"curate.quality.benchmarks: {name} is neither a picture nor a known text: leave it out")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise UsageError(f"curate.quality.benchmarks: {name} cannot be read: {error}") from error


def _open(path: Path) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path, formats=FORMATS) as opened:
            opened.load()
            return upright_rgb(opened)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)


def _runs(text: str, count: int) -> NDArray[np.uint64]:
    """Hashes of the different runs of ``count`` words, sorted."""
    digests = {hashlib.blake2b(run.encode("utf-8", "replace"), digest_size=8).digest() for run in shingles(text, count)}
    return np.sort(np.frombuffer(b"".join(digests), dtype=">u8").astype(np.uint64))


class Benchmark:
    """A list of evaluation data, indexed: 16 bytes for each run of words, 1.2 kB for each picture."""

    def __init__(self, items: Iterable[BenchmarkItem]) -> None:
        self.names: list[str] = []
        self.sizes: list[int] = []
        self.looks: list[tuple[str, Look]] = []
        runs: dict[int, list[NDArray[np.uint64]]] = defaultdict(list)
        owners: dict[int, list[NDArray[np.int64]]] = defaultdict(list)
        for item in items:
            if item.look is not None:
                self.looks.append((item.name, item.look))
            count = min(RUN_WORDS, len(shingles(item.text, 1)))
            if count < RUN_WORDS_MIN:
                continue
            found = _runs(item.text, count)
            runs[count].append(found)
            owners[count].append(np.full(len(found), len(self.names)))
            self.names.append(item.name)
            self.sizes.append(len(found))
        self.runs: dict[int, tuple[NDArray[np.uint64], NDArray[np.int64]]] = {}
        for count, parts in sorted(runs.items()):
            hashes, owner = np.concatenate(parts), np.concatenate(owners[count])
            order = np.argsort(hashes, kind="stable")
            self.runs[count] = (hashes[order], owner[order])
        windows = b"".join(found.windows for _, found in self.looks)
        self.windows = np.frombuffer(windows, dtype=">u8").astype(np.uint64).reshape(-1, WINDOWS)

    def text_copied(self, text: str) -> str | None:
        """The item that a text nearly copies, in words, or None."""
        best: tuple[float, int] | None = None
        for count, (hashes, owners) in self.runs.items():
            own = _runs(text, count)
            start, stop = np.searchsorted(hashes, own, side="left"), np.searchsorted(hashes, own, side="right")
            shared = Counter(
                int(owner) for low, high in zip(start, stop, strict=True) if low < high for owner in owners[low:high]
            )
            for owner, runs in sorted(shared.items()):
                # A short item is one run; a long text that is one run of an item is no copy of it.
                of_text = runs / len(own) if count == RUN_WORDS and len(own) >= RUN_WORDS else 0.0
                share = max(runs / self.sizes[owner], of_text)
                if share >= SHARE_MIN and (best is None or share > best[0]):
                    best = (share, owner)
        return (
            None if best is None else f"it nearly copies {self.names[best[1]]}: {best[0]:.0%} of the runs of words are the same"
        )

    def picture_copied(self, shown: Look) -> str | None:
        """The item that a picture nearly copies, in words, or None."""
        if not self.looks:
            return None
        own = np.frombuffer(shown.windows, dtype=">u8").astype(np.uint64)
        apart = np.minimum(
            np.bitwise_count(self.windows ^ own[0]).min(axis=1), np.bitwise_count(self.windows[:, :1] ^ own[None]).min(axis=1)
        )
        for place in np.flatnonzero(apart <= BITS):
            name, found = self.looks[place]
            agreed = agreement(found.small, shown.small)
            if agreed >= AGREEMENT or (apart[place] <= BITS_CLOSE and agreed >= AGREEMENT_CLOSE):
                return f"it shows a near-copy of {name}: perceptual hashes are {apart[place]} bits apart"
        return None
