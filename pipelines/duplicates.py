"""Which sources are the same thing twice: by their bytes, by their look, by their words, by what they show.

- exact: equal SHA-256 of the file itself, whatever describes it.
- pictures: a perceptual hash of one within ``near_image_bits`` of one of the other or of its windows, so that crops are found,
  and thumbnails that agree; or equal outlines and thumbnails that are all but equal (`manifests.looks`).
- videos: hashes a second apart, laid over each other (`pipelines.films`), and thumbnails of key looks (`pipelines.overlay`).
- texts: MinHash (128 permutations, fixed seed) over 5-word shingles; near from an estimated Jaccard similarity of
  ``near_text_similarity`` of the whole texts, or of both without their first fifth: a new heading makes no new text.
- semantic: embeddings of pictures and videos, where a model gave them, whose cosine is at least ``semantic_similarity``.
- screenshots and traces: exact only. Two states of one application look alike and are not duplicates; those that share a
  picture to the byte are only kept on one side of the split.

A source is compared with other sources, never with itself: segments of one video are no duplicates of each other. Candidates
come from bands of hashes and sketches (`pipelines.candidates`), so cost stays near linear in the number of sources; only
embeddings are compared all with all: a second of one core for 10,000 of 512 numbers.
"""

from __future__ import annotations

import base64
import dataclasses
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from manifests.looks import AGREEMENT_MIN, HASH_BITS, WINDOWS, Look, agreement, outlines
from manifests.words import shingles
from pipelines.candidates import band_pairs, near_pairs
from pipelines.films import Film, same_film

SHINGLE_WORDS = 5
PERMUTATIONS = 128
HEADING_SHARE = 0.2
BODY_SHINGLES_MIN = 16
SEED = 17
_NOMINATING_VIEWS = 4
_BLOCK = 2_048
_OUTLINE_BITS, _EQUAL_MIN = 4, 0.98
# Contrast of one by the other's, and how much brighter: of a picture and its crop, of a picture and its whole copy.
_TONE_OF_CROPS, _TONE_OF_COPIES = (1.3, 60.0), (1.25, 16.0)
_FILMS_KEPT = 256


@dataclass(frozen=True, kw_only=True)
class Signature:
    """How a source is compared with others. Bytes, not numbers: a hundred thousand of them wait in one process.

    Attributes:
        kind: which comparison is meant for it; ``exact`` for none but bytes.
        looks: of a video, as of `pipelines.films.pack_looks`.
        windows: of a picture, or of a video's key looks: hashes of whole and windows as of `manifests.looks.Look`.
        small: of a picture: its thumbnail; of a video: those of its key looks, as of `pipelines.films.key_looks`.
        minhash: as of `shingle_minhash`; empty when it has too few words.
        embedding: of a model, unit length, float16; empty without one.
        size: pixels times seconds, or characters: of two copies the larger is kept.
        described: whether a person's words come with it: of two copies that one is kept.
        pictures: stored pictures that must not be split from an equal one elsewhere.
    """

    kind: Literal["exact", "image", "video", "text"]
    looks: bytes = b""
    windows: bytes = b""
    small: bytes = b""
    minhash: bytes = b""
    embedding: bytes = b""
    size: float = 0.0
    described: bool = False
    pictures: tuple[str, ...] = ()

    @classmethod
    def of_picture(cls, found: Look | None, **others: object) -> Signature:
        """The signature of one picture; a flat one is compared by its bytes alone."""
        shown = {} if found is None else {"windows": found.windows, "small": found.small}
        return cls(kind="image", **shown, **others)  # type: ignore[arg-type]

    def to_json(self) -> dict[str, object]:
        """As JSON; bytes as base64."""
        return {name: _ascii(value) for name, value in _fields(self)}

    @classmethod
    def from_json(cls, value: dict) -> Signature:
        """The inverse of `to_json`."""
        packed = {name: base64.b64decode(value[name]) for name in _PACKED}
        return cls(**{**value, **packed, "pictures": tuple(value["pictures"])})


_KINDS = ("exact", "image", "video", "text")
_PACKED = ("looks", "windows", "small", "minhash", "embedding")


def _fields(signature: Signature) -> Iterator[tuple[str, object]]:
    return ((field.name, getattr(signature, field.name)) for field in dataclasses.fields(signature))


def _ascii(value: object) -> object:
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else value


@dataclass(frozen=True, kw_only=True)
class Link:
    """Two sources, by their places in the list, that belong together; ``left < right``.

    Exact, near- and semantic duplicates are one thing twice; an excerpt and a shared picture only keep both on one side of the
    split.
    """

    left: int
    right: int
    reason: Literal["exact_duplicate", "near_duplicate", "semantic_duplicate", "excerpt", "shared_picture"]
    detail: str

    @property
    def duplicate(self) -> bool:
        """Whether only one of the two is kept."""
        return self.reason.endswith("_duplicate")


def shingle_minhash(words: str) -> bytes:
    """MinHash of a text's shingles, and of those after its heading; empty below five words.

    Returns:
        `PERMUTATIONS` values of 4 bytes, little-endian, of the whole text; then as many of it without its first
        `HEADING_SHARE`, unless that leaves fewer than `BODY_SHINGLES_MIN`.
    """
    found = shingles(words, SHINGLE_WORDS)
    if not found:
        return b""
    body = found[int(len(found) * HEADING_SHARE) :]
    return sketch(found) + (sketch(body) if len(body) >= BODY_SHINGLES_MIN else b"")


def sketch(values: Iterable[str]) -> bytes:
    """MinHash of a set of strings: `PERMUTATIONS` values of 4 bytes."""
    from datasketch import MinHash

    made = MinHash(num_perm=PERMUTATIONS, seed=SEED, scheme="affine32")
    made.update_batch([value.encode("utf-8", "replace") for value in sorted(set(values))])
    return np.asarray(made.hashvalues).astype("<u4").tobytes()


def find_links(
    checksums: Iterable[str],
    signatures: Sequence[Signature],
    *,
    near_image_bits: int,
    near_text_similarity: float,
    semantic_similarity: float = 1.0,
) -> list[Link]:
    """All pairs of sources that are duplicates, or must not be split; of many copies of one thing, enough pairs to join them.

    Args:
        checksums: SHA-256 of each source's own bytes.
        signatures: of the same sources, in the same order; each is asked for a few times, and may be read anew each time.
        near_image_bits: largest Hamming distance of two looks that are the same.
        near_text_similarity: smallest estimated Jaccard similarity of two texts that are the same.
        semantic_similarity: smallest cosine of two embeddings that are the same thing.

    Returns:
        Links in order of left, then right; exact before near before semantic for one pair.
    """
    links: dict[tuple[int, int], Link] = {}
    # Numbers for checksums: equal ones get one, and strings of a whole archive need not stay.
    _, first, equal = np.unique(np.fromiter(checksums, dtype="S64"), return_index=True, return_inverse=True)
    for place in np.flatnonzero(first[equal] != np.arange(len(equal))).tolist():
        left = int(first[equal[place]])
        links[left, place] = Link(left=left, right=place, reason="exact_duplicate", detail="equal SHA-256")
    # Copies to the byte need no second look: what is near to one of them is near to all.
    kinds = np.array([_KINDS.index(signature.kind) for signature in signatures], dtype=np.int64)
    own = np.sort(np.unique(equal * len(_KINDS) + kinds, return_index=True)[1]).tolist()
    for found in (
        _image_links(own, signatures, near_image_bits),
        _video_links(own, signatures, near_image_bits),
        _text_links(own, signatures, near_text_similarity),
        _semantic_links(own, signatures, semantic_similarity),
        _picture_links(signatures),
    ):
        for link in found:
            links.setdefault((link.left, link.right), link)
    return [links[pair] for pair in sorted(links)]


def _hashes(packed: bytes) -> NDArray[np.uint64]:
    return np.frombuffer(packed, dtype=">u8").astype(np.uint64)


def _image_links(places: Sequence[int], signatures: Sequence[Signature], bits: int) -> Iterator[Link]:
    shown = [place for place in places if signatures[place].kind == "image" and signatures[place].windows]
    if len(shown) < 2:
        return
    hashes = _hashes(b"".join(signatures[place].windows for place in shown))
    owners = np.repeat(np.array(shown, dtype=np.int64), WINDOWS)
    whole = np.arange(len(hashes)) % WINDOWS == 0
    for left, right in near_pairs(hashes, owners, whole, bits).tolist():
        one, other = signatures[left], signatures[right]
        if not _compared(_thumbnails([one]), _thumbnails([other]), *_TONE_OF_CROPS)[1][0]:
            continue
        found = agreement(one.small, other.small)
        if found >= AGREEMENT_MIN:
            distance = look_distance(one.windows, other.windows)
            detail = f"perceptual hashes are {distance} of {HASH_BITS} bits apart and thumbnails agree to {found:.3f}"
            yield Link(left=left, right=right, reason="near_duplicate", detail=detail)
    yield from _outline_links(np.array(shown, dtype=np.int64), signatures, min(bits, _OUTLINE_BITS))


def _outline_links(shown: NDArray[np.int64], signatures: Sequence[Signature], bits: int) -> Iterator[Link]:
    """Uncropped copies whose hashes noise has moved. Of icons one pair in 300 is a candidate, so that each must cost little: a
    product of two thumbnails, where the best of all crops costs a hundred times that."""
    small = _thumbnails([signatures[place] for place in shown])
    pairs = near_pairs(outlines(small), np.arange(len(shown)), np.ones(len(shown), dtype=bool), bits)
    for start in range(0, len(pairs), _BLOCK):
        left, right = pairs[start : start + _BLOCK].T
        found, same_tone = _compared(small[left], small[right], *_TONE_OF_COPIES)
        for place in np.flatnonzero((found >= _EQUAL_MIN) & same_tone).tolist():
            yield Link(
                left=int(shown[left[place]]),
                right=int(shown[right[place]]),
                reason="near_duplicate",
                detail=f"outlines are equal and thumbnails agree to {found[place]:.3f} as they are",
            )


def _thumbnails(signatures: Sequence[Signature]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(signature.small for signature in signatures), dtype=np.uint8).reshape(len(signatures), -1)


def _compared(
    one: NDArray[np.uint8], other: NDArray[np.uint8], contrast_max: float, brighter_max: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Of pairs of thumbnails [n, 1024], their correlation, and whether contrast and brightness could be those of one picture:
    flags with stripes of other colours are all but correlated. Rounded: the last bits of a sum depend on the machine, and the
    verdict must not."""
    means = one.mean(axis=1), other.mean(axis=1)
    left, right = one - means[0][:, None], other - means[1][:, None]
    spread = np.sqrt((left * left).sum(axis=1)), np.sqrt((right * right).sum(axis=1))
    found = np.round((left * right).sum(axis=1) / np.maximum(spread[0] * spread[1], 1e-9), 6)
    contrast = np.round(spread[0] / np.maximum(spread[1], 1e-9), 6)
    brighter = np.round(means[0] - contrast * means[1], 6)
    alike = (contrast <= contrast_max) & (contrast >= 1 / contrast_max) & (np.abs(brighter) <= brighter_max)
    return found, alike


def look_distance(one: bytes, other: bytes) -> int:
    """Fewest bits between the whole of one picture and any window of the other; arguments as of `Look.windows`."""
    left, right = _hashes(one), _hashes(other)
    return int(min(np.bitwise_count(left[0] ^ right).min(), np.bitwise_count(right[0] ^ left).min()))


def _video_links(places: Sequence[int], signatures: Sequence[Signature], bits: int) -> Iterator[Link]:
    shown = [place for place in places if signatures[place].kind == "video" and signatures[place].looks]
    if len(shown) < 2:
        return

    @lru_cache(maxsize=_FILMS_KEPT)
    def film_of(place: int) -> Film:
        signature = signatures[place]
        return Film(signature.looks, signature.windows, signature.small)

    hashes, owners, whole = [], [], []
    for place in shown:
        film = Film(signatures[place].looks, signatures[place].windows)
        # A few key looks nominate: a copy shares nearly all of them.
        views = np.unique(film.views[:: -(-len(film.views) // _NOMINATING_VIEWS)]) if film.windows else film.hashes[:0]
        for values, target in ((np.unique(film.hashes), True), (views, False)):
            hashes.append(values)
            owners.append(np.full(len(values), place, dtype=np.int64))
            whole.append(np.full(len(values), target))
    for left, right in near_pairs(np.concatenate(hashes), np.concatenate(owners), np.concatenate(whole), bits).tolist():
        found = same_film(film_of(left), film_of(right), bits)
        if found is not None:
            yield Link(left=left, right=right, reason=found[0], detail=found[1])


def _text_links(places: Sequence[int], signatures: Sequence[Signature], similarity: float) -> Iterator[Link]:
    length = 4 * PERMUTATIONS
    for part, name in ((0, ""), (1, " after the first fifth")):
        owners = [place for place in places if len(signatures[place].minhash) >= (part + 1) * length]
        if len(owners) < 2:
            continue
        packed = b"".join(signatures[place].minhash[part * length : (part + 1) * length] for place in owners)
        sketches = np.frombuffer(packed, dtype="<u4").reshape(-1, PERMUTATIONS).astype(np.uint32)
        row = {place: index for index, place in enumerate(owners)}
        for left, right in band_pairs(sketches, np.array(owners, dtype=np.int64), similarity).tolist():
            estimate = float((sketches[row[left]] == sketches[row[right]]).mean())
            if estimate >= similarity:
                detail = f"estimated Jaccard similarity of 5-word shingles{name} is {estimate:.2f}"
                yield Link(left=left, right=right, reason="near_duplicate", detail=detail)


def _semantic_links(places: Sequence[int], signatures: Sequence[Signature], similarity: float) -> Iterator[Link]:
    owners = [place for place in places if signatures[place].embedding]
    if len(owners) < 2 or similarity >= 1:
        return
    vectors = np.stack([np.frombuffer(signatures[place].embedding, dtype="<f2") for place in owners]).astype(np.float32)
    for start in range(0, len(owners), _BLOCK):
        # Rounded: the last bits of a sum depend on the machine, and the verdict must not.
        cosine = np.round(vectors[start : start + _BLOCK] @ vectors[start:].T, 4)
        for row, column in zip(*np.nonzero(cosine >= similarity), strict=True):
            left, right = start + int(row), start + int(column)
            if left < right and signatures[owners[left]].kind == signatures[owners[right]].kind:
                detail = f"cosine of their embeddings is {cosine[row, column]:.4f}"
                yield Link(left=owners[left], right=owners[right], reason="semantic_duplicate", detail=detail)


def _picture_links(signatures: Sequence[Signature]) -> Iterator[Link]:
    first: dict[str, int] = {}
    for place, signature in enumerate(signatures):
        for picture in signature.pictures:
            if first.setdefault(picture, place) != place:
                yield Link(left=first[picture], right=place, reason="shared_picture", detail=f"both show picture {picture}")


def components(count: int, pairs: Iterable[tuple[int, int]]) -> array[int]:
    """For each of ``count`` places, the smallest place that it is connected with."""
    parent = array("q", range(count))

    def find(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    for left, right in pairs:
        low, high = sorted((find(left), find(right)))
        parent[high] = low
    return array("q", (find(place) for place in range(count)))
