"""Which sources are the same thing twice: by their bytes, by their look over time, by their words.

- exact: equal SHA-256 of the file itself, whatever describes it.
- pictures: perceptual hashes (pHash, 64 bits) at most ``near_image_bits`` apart.
- videos: hashes a second apart, laid over each other at the best shift, a second of play allowed because a cut need not fall
  on the grid. Near when 80 % of both match: a re-encoded, rescaled or slightly trimmed copy is caught, a shared title card is
  not a copy. When that holds for the shorter one only, it is an excerpt: both are kept, on one side of the split.
- texts: MinHash (128 permutations, fixed seed) over 5-word shingles; near from an estimated Jaccard similarity of
  ``near_text_similarity``.
- screenshots and traces: exact only. Two states of one application look alike and are not duplicates; those that share a
  picture to the byte are only kept on one side of the split.

Candidates for pictures come from bands of the hash: two hashes at most b bits apart agree in at least one of b + 1 bands, so
nothing is missed and few pairs are compared.
"""

from __future__ import annotations

import itertools
import re
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

HASH_BITS = 64
FRAMES_MATCHING = 0.8
FRAMES_MIN = 3
SHINGLE_WORDS = 5
PERMUTATIONS = 128
SEED = 17
# A letter of a script without spaces is a word here; elsewhere a run of letters and digits is.
_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]|[^\W_\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]+"
)


@dataclass(frozen=True, kw_only=True)
class Signature:
    """How a source is compared with others.

    Attributes:
        kind: which comparison is meant for it; ``exact`` for none but bytes.
        looks: (seconds, perceptual hash) of its frames, or of its one picture.
        minhash: hash values of its shingles; empty when it has too few words.
        size: pixels times seconds, or characters: of two copies the larger is kept.
        described: whether a person's words come with it: of two copies that one is kept.
        pictures: stored pictures that must not be split from an equal one elsewhere.
    """

    kind: Literal["exact", "image", "video", "text"]
    looks: tuple[tuple[float, int], ...] = ()
    minhash: tuple[int, ...] = ()
    size: float = 0.0
    described: bool = False
    pictures: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """As JSON; hashes as text, which every reader keeps exact."""
        return {
            "kind": self.kind,
            "looks": [[time, f"{value:016x}"] for time, value in self.looks],
            "minhash": list(self.minhash),
            "size": self.size,
            "described": self.described,
            "pictures": list(self.pictures),
        }

    @classmethod
    def from_json(cls, value: dict) -> Signature:
        """The inverse of `to_json`."""
        looks = tuple((float(time), int(digits, 16)) for time, digits in value["looks"])
        return cls(**{**value, "looks": looks, "minhash": tuple(value["minhash"]), "pictures": tuple(value["pictures"])})


@dataclass(frozen=True, kw_only=True)
class Link:
    """Two sources, by their places in the list, that belong together; ``left < right``.

    Exact and near-duplicates are one thing twice; an excerpt and a shared picture only keep both on one side of the split.
    """

    left: int
    right: int
    reason: Literal["exact_duplicate", "near_duplicate", "excerpt", "shared_picture"]
    detail: str

    @property
    def duplicate(self) -> bool:
        """Whether only one of the two is kept."""
        return self.reason in ("exact_duplicate", "near_duplicate")


def shingle_minhash(words: str) -> tuple[int, ...]:
    """MinHash values of a text's 5-word shingles, case and punctuation aside; empty below five words."""
    from datasketch import MinHash

    found = _WORD.findall(words.lower())
    shingles = {" ".join(found[start : start + SHINGLE_WORDS]) for start in range(len(found) - SHINGLE_WORDS + 1)}
    if not shingles:
        return ()
    sketch = MinHash(num_perm=PERMUTATIONS, seed=SEED, scheme="affine32")
    sketch.update_batch([shingle.encode("utf-8", "replace") for shingle in sorted(shingles)])
    return tuple(int(value) for value in sketch.hashvalues)


def find_links(
    checksums: Sequence[str], signatures: Sequence[Signature], *, near_image_bits: int, near_text_similarity: float
) -> list[Link]:
    """All pairs of sources that are exact or near-duplicates, or that share a screenshot.

    Args:
        checksums: SHA-256 of each source's own bytes.
        signatures: of the same sources, in the same order.
        near_image_bits: largest Hamming distance of two looks that are the same.
        near_text_similarity: smallest estimated Jaccard similarity of two texts that are the same.

    Returns:
        Links in order of left, then right; exact before near for one pair.
    """
    links: dict[tuple[int, int], Link] = {}
    by_bytes: dict[str, list[int]] = defaultdict(list)
    for place, checksum in enumerate(checksums):
        by_bytes[checksum].append(place)
    for places in by_bytes.values():
        for right in places[1:]:
            links[places[0], right] = Link(left=places[0], right=right, reason="exact_duplicate", detail="equal SHA-256")
    for link in (
        *_image_links(signatures, near_image_bits),
        *_video_links(signatures, near_image_bits),
        *_text_links(signatures, near_text_similarity),
        *_picture_links(signatures),
    ):
        links.setdefault((link.left, link.right), link)
    return [links[pair] for pair in sorted(links)]


def close_pairs(hashes: Sequence[int], bits: int) -> Iterator[tuple[int, int, int]]:
    """Every pair of places whose hashes are at most ``bits`` apart, once, with the distance."""
    bands = bits + 1
    edges = [HASH_BITS * band // bands for band in range(bands + 1)]
    seen: set[tuple[int, int]] = set()
    for low, high in itertools.pairwise(edges):
        mask = (1 << (high - low)) - 1
        groups: dict[int, list[int]] = defaultdict(list)
        for place, value in enumerate(hashes):
            groups[(value >> low) & mask].append(place)
        for places in groups.values():
            for index, left in enumerate(places):
                for right in places[index + 1 :]:
                    distance = (hashes[left] ^ hashes[right]).bit_count()
                    if distance <= bits and (left, right) not in seen:
                        seen.add((left, right))
                        yield left, right, distance


def _image_links(signatures: Sequence[Signature], bits: int) -> Iterator[Link]:
    owners = [
        (place, signature.looks[0][1])
        for place, signature in enumerate(signatures)
        if signature.kind == "image" and signature.looks
    ]
    for left, right, distance in close_pairs([value for _, value in owners], bits):
        detail = f"perceptual hashes are {distance} of {HASH_BITS} bits apart"
        yield Link(left=owners[left][0], right=owners[right][0], reason="near_duplicate", detail=detail)


def _video_links(signatures: Sequence[Signature], bits: int) -> Iterator[Link]:
    frames: list[tuple[int, float, int]] = []
    for place, signature in enumerate(signatures):
        if signature.kind == "video":
            # Distinct looks are enough to find candidates: a still screen would else pair with itself for its whole length.
            first: dict[int, float] = {}
            for time, value in signature.looks:
                first.setdefault(value, time)
            frames += [(place, time, value) for value, time in first.items()]
    candidates = set()
    for left, right, _ in close_pairs([value for _, _, value in frames], bits):
        pair = (frames[left][0], frames[right][0])
        if pair[0] != pair[1]:
            candidates.add((min(pair), max(pair)))
    for left, right in sorted(candidates):
        found = same_film(signatures[left].looks, signatures[right].looks, bits)
        if found is not None:
            yield Link(left=left, right=right, reason=found[0], detail=found[1])


def same_film(
    one: Sequence[tuple[float, int]], other: Sequence[tuple[float, int]], bits: int
) -> tuple[Literal["near_duplicate", "excerpt"], str] | None:
    """How two sequences of looks belong together, with the evidence in words, or None when they are different films.

    Every shift between matching frames is tried. At the best one `FRAMES_MATCHING` of the shorter sequence, and at least
    `FRAMES_MIN` different looks of it, must lie within ``bits`` of a look at most one step away.
    """
    short, long = sorted((one, other), key=len)
    looks_needed = max(2, min(FRAMES_MIN, len({value for _, value in short})))
    shifts: Counter[float] = Counter()
    for time, value in short:
        for elsewhere, found in long:
            if (value ^ found).bit_count() <= bits:
                shifts[round(elsewhere - time, 3)] += 1
    step = min((right[0] - left[0] for left, right in itertools.pairwise(long)), default=1.0)
    best: tuple[int, float, float] | None = None
    for shift in sorted(shifts, key=lambda value: (abs(value), value)):
        distances = [_nearest(time + shift, value, long, step) for time, value in short]
        matching = [distance for distance in distances if distance <= bits]
        looks = {value for (_, value), distance in zip(short, distances, strict=True) if distance <= bits}
        if len(matching) >= FRAMES_MATCHING * len(short) and len(looks) >= looks_needed:
            rank = (len(matching), -sum(matching) / len(matching), shift)
            if best is None or rank[:2] > best[:2]:
                best = rank
    if best is None:
        return None
    matching_count, mean, shift = best
    frames = f"{matching_count} of {len(short)} frames match at a shift of {abs(shift):g} s"
    detail = f"{frames}, on average {-mean:.1f} of {HASH_BITS} bits apart"
    return ("near_duplicate" if matching_count >= FRAMES_MATCHING * len(long) else "excerpt"), detail


def _nearest(time: float, value: int, looks: Sequence[tuple[float, int]], step: float) -> int:
    """The smallest distance to a look at most one step from a time."""
    low = bisect_left(looks, time - step - 1e-3, key=lambda look: look[0])
    high = bisect_right(looks, time + step + 1e-3, key=lambda look: look[0])
    return min(((value ^ found).bit_count() for _, found in looks[low:high]), default=HASH_BITS)


def _text_links(signatures: Sequence[Signature], similarity: float) -> Iterator[Link]:
    places = [place for place, signature in enumerate(signatures) if signature.kind == "text" and signature.minhash]
    if len(places) < 2:
        return
    import numpy as np
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=similarity, num_perm=PERMUTATIONS, weights=(0.2, 0.8))
    sketches = {}
    for place in places:
        values = np.array(signatures[place].minhash, dtype=np.uint64)
        sketches[place] = MinHash(num_perm=PERMUTATIONS, seed=SEED, scheme="affine32", hashvalues=values)
        index.insert(str(place), sketches[place])
    for place in places:
        for other in sorted(int(found) for found in index.query(sketches[place])):
            if other > place:
                estimate = float(sketches[place].jaccard(sketches[other]))
                if estimate >= similarity:
                    detail = f"estimated Jaccard similarity of 5-word shingles is {estimate:.2f}"
                    yield Link(left=place, right=other, reason="near_duplicate", detail=detail)


def _picture_links(signatures: Sequence[Signature]) -> Iterator[Link]:
    first: dict[str, int] = {}
    for place, signature in enumerate(signatures):
        for picture in signature.pictures:
            if first.setdefault(picture, place) != place:
                yield Link(left=first[picture], right=place, reason="shared_picture", detail=f"both show picture {picture}")


def components(count: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """For each of ``count`` places, the smallest place that it is connected with."""
    parent = list(range(count))

    def find(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    for left, right in pairs:
        low, high = sorted((find(left), find(right)))
        parent[high] = low
    return [find(place) for place in range(count)]
