"""Whether two videos are the same film: their looks laid over each other at the best shift.

Looks are a second apart, and a cut need not fall on the same second of both, so a look may match one a step away; and once the
films lie over each other a look may be `ALIGNED_BITS` further off than two pictures that come alone. Near when 65 % of both
match, on average within five sixths of the bits allowed, and one begins at most a step, or a tenth of its length, before the
other: a re-encoded, rescaled or slightly trimmed copy is caught, a shared title card is not a copy. 65 and not 80 %, because
another frame rate shows fast motion a moment earlier: that look differs, the others hardly at all. When 80 % of the shorter one
match and no more is known, it is an excerpt: both are kept, on one side of the split.

Other seconds of one recording are close as well, and hashes hardly tell: of a still screen they see no dialog. So what hashes
call near is looked at again, by thumbnails of the key looks (`pipelines.overlay`). Where these do not fall together (a long
copy that begins a few steps later than its original), hashes have to do: a copy's looks are as far off as encoding makes them,
however much the film moves, other seconds as far as a look from the next. Beyond two thirds of the bits allowed, looks must
then be nearer to each other than seven tenths of what their films change from look to look.

A cropped copy matches in no whole look. Up to `KEY_LOOKS` looks of every film therefore carry the hashes of their windows
(`manifests.looks`); those of one window are laid over the whole looks of the other film. An excerpt that is cropped as well is
found only when at least three of the longer film's key looks fall into it.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from manifests.looks import HASH_BITS, WINDOWS, look
from pipelines.overlay import Apart, apart, thumbnail, unpack
from pipelines.pictures import PictureStore

FRAMES_MATCHING = 0.65
EXCERPT_MATCHING = 0.8
CLOSE_SHARE = 5 / 6
CROPPED_CLOSE_SHARE = 1.0
STILL_CLOSE_SHARE = 2 / 3
MOVING_SHARE = 0.7
TRIMMED_SHARE = 0.1
FRAMES_MIN = 3
ALIGNED_BITS = 4
KEY_LOOKS = 16
_SHIFTS_MAX = 64
_VIEWS_MAX = 4
_LOOK = np.dtype([("time", ">f8"), ("hash", ">u8")])
_COMPARED_MAX = 4_000_000

Relation = tuple[Literal["near_duplicate", "excerpt"], str]


def pack_looks(looks: Iterable[tuple[float, int]]) -> bytes:
    """(seconds, perceptual hash) of frames, 16 bytes each."""
    return np.array([(time, value) for time, value in looks], dtype=_LOOK).tobytes()


def unpack_looks(packed: bytes) -> list[tuple[float, int]]:
    """The inverse of `pack_looks`."""
    return [(float(time), int(value)) for time, value in np.frombuffer(packed, dtype=_LOOK)]


def key_places(times: Sequence[float]) -> list[int]:
    """Which looks carry windows and thumbnails: all, or those at every second, fourth, eighth ... step, at most `KEY_LOOKS`.

    Steps are counted from 0 and doubled, so that key looks of a film and of a copy that is a little longer fall together.
    """
    step = min((after - before for before, after in itertools.pairwise(times)), default=1.0)
    numbers = [round(time / step) for time in times]
    places, every = list(range(len(numbers))), 1
    while len(places) > KEY_LOOKS:
        every *= 2
        places = [place for place in places if numbers[place] % every == 0]
    return places


@dataclass(frozen=True)
class Film:
    """The looks of one video.

    Attributes:
        packed: as of `pack_looks`.
        windows: of each of its `key_places`, as of `manifests.looks.Look`; empty when they are not known.
        small: thumbnails of the same looks, as of `pipelines.overlay`.
    """

    packed: bytes
    windows: bytes = b""
    small: bytes = b""

    @cached_property
    def times(self) -> NDArray[np.float64]:
        """[looks] seconds."""
        return np.frombuffer(self.packed, dtype=_LOOK)["time"].astype(np.float64)

    @cached_property
    def hashes(self) -> NDArray[np.uint64]:
        """[looks] hashes of the whole frames."""
        return np.frombuffer(self.packed, dtype=_LOOK)["hash"].astype(np.uint64)

    @cached_property
    def views(self) -> NDArray[np.uint64]:
        """[key looks, windows] hashes."""
        return np.frombuffer(self.windows, dtype=">u8").astype(np.uint64).reshape(-1, WINDOWS)

    @cached_property
    def keys(self) -> list[int]:
        """Places of the key looks."""
        return key_places(self.times.tolist())

    @cached_property
    def moved(self) -> float:
        """Mean bits between a look and the next."""
        return float(np.bitwise_count(self.hashes[1:] ^ self.hashes[:-1]).mean()) if len(self.hashes) > 1 else 0.0

    @cached_property
    def step(self) -> float:
        """Seconds between two looks, at least."""
        return float(np.diff(self.times).min()) if len(self.times) > 1 else 1.0


def same_film(one: Film, other: Film, bits: int) -> Relation | None:
    """How two videos belong together, with the evidence in words, or None when they are different films.

    Args:
        bits: largest Hamming distance of two looks that are the same.
    """
    if not len(one.times) or not len(other.times):
        return None
    short, long = (one, other) if len(one.times) <= len(other.times) else (other, one)
    found = _settled(short, long, _whole(short, long, bits), bits, CLOSE_SHARE)
    if found is not None and found[0] == "near_duplicate":
        return found
    cropped = [
        _settled(first, second, _cropped(first, second, bits), bits, CROPPED_CLOSE_SHARE)
        for first, second in ((short, long), (long, short))
    ]
    near = next((relation for relation in cropped if relation is not None and relation[0] == "near_duplicate"), None)
    return near or found or next((relation for relation in cropped if relation is not None), None)


@dataclass(frozen=True, order=True)
class _Match:
    """What lies over what at one shift; the greater is the better.

    Attributes:
        near: whether one is a copy of the other; else it is an excerpt of it.
        count: looks that match, of ``looks`` that could.
        closeness: minus the mean distance of those, in bits.
    """

    near: bool
    count: int
    closeness: float
    looks: int
    shift: float

    @property
    def words(self) -> str:
        """For people."""
        frames = f"{self.count} of {self.looks} frames match at a shift of {abs(self.shift):g} s"
        return f"{frames}, on average {-self.closeness:.1f} of {HASH_BITS} bits apart"


def _settled(one: Film, other: Film, match: _Match | None, bits: int, share: float) -> Relation | None:
    """What becomes of the best match of two films when their thumbnails have been asked as well."""
    if match is None:
        return None
    if match.near:
        found = _apart(one, other, match.shift)
        if found is None and -match.closeness <= _close(one, other, bits, share):
            return "near_duplicate", match.words
        if found is not None and found.copies:
            return "near_duplicate", f"{match.words}; thumbnails differ by {found.difference:.1f} of 255"
    return ("excerpt", match.words) if match.count >= EXCERPT_MATCHING * match.looks else None


def _apart(one: Film, other: Film, shift: float) -> Apart | None:
    """How far the thumbnails of two films are apart; None when they do not tell."""
    if not one.small or not other.small:
        return None
    return apart(
        unpack(one.small), one.times[one.keys] + shift, unpack(other.small), other.times[other.keys], max(one.step, other.step)
    )


def _close(one: Film, other: Film, bits: int, share: float) -> float:
    """Mean bits of a copy's looks from the original's, at most: ``share`` of those allowed, fewer where little moves."""
    return min(share * bits, max(STILL_CLOSE_SHARE * bits, MOVING_SHARE * (one.moved + other.moved) / 2))


def _trimmed(one: Film, other: Film) -> float:
    """Seconds by which a copy may begin before or after the original."""
    length = max(film.times[-1] - film.times[0] for film in (one, other))
    return max(one.step, other.step, TRIMMED_SHARE * float(length)) + 1e-3


def _match(
    hashes: NDArray[np.uint64],
    distances: NDArray[np.int64],
    longer: float,
    needed: int,
    bits: int,
    close: float,
    shift: float,
    trimmed: float,
) -> _Match | None:
    """What the distances of looks say.

    Args:
        hashes, distances: of the looks that could match.
        longer: how many times as many looks the longer film has.
        needed: different looks that must match.
        close: mean distance of a copy's looks, at most, before its thumbnails are asked.
        trimmed: seconds of the shift of a copy, at most.
    """
    matching = distances <= bits + ALIGNED_BITS
    count = int(matching.sum())
    if not count or len(np.unique(hashes[matching])) < needed:
        return None
    share, mean = count / len(distances), float(distances[matching].mean())
    near = share >= FRAMES_MATCHING * longer and mean <= close and abs(shift) <= trimmed
    if not near and share < EXCERPT_MATCHING:
        return None
    return _Match(near=near, count=count, closeness=-mean, looks=len(distances), shift=shift)


def _whole(short: Film, long: Film, bits: int) -> _Match | None:
    needed = max(2, min(FRAMES_MIN, len(np.unique(short.hashes))))
    longer = len(long.times) / len(short.times)
    close, trimmed = CLOSE_SHARE * bits, _trimmed(short, long)
    found = [
        _match(short.hashes, _nearest(short.times + shift, short.hashes, long), longer, needed, bits, close, shift, trimmed)
        for shift in _shifts(short.times, short.hashes, long, bits)
    ]
    return max((match for match in found if match is not None), default=None)


def _cropped(original: Film, copy: Film, bits: int) -> _Match | None:
    """Whether ``copy`` shows the same window of ``original`` throughout."""
    if not original.windows:
        return None
    times = original.times[original.keys]
    near = np.bitwise_count(original.views[:, :, None] ^ copy.hashes[None, None]) <= bits
    votes = near.any(axis=2).sum(axis=0)
    length = max(original.times[-1] - original.times[0], copy.times[-1] - copy.times[0]) + copy.step
    close, trimmed = CROPPED_CLOSE_SHARE * bits, _trimmed(original, copy)
    found: list[_Match | None] = []
    for view in np.argsort(-votes, kind="stable")[:_VIEWS_MAX]:
        hashes = original.views[:, view]
        needed = max(2, min(FRAMES_MIN, len(np.unique(hashes))))
        for shift in _shifts(times, hashes, copy, bits) if votes[view] >= 2 else ():
            within = (times + shift >= copy.times[0] - copy.step) & (times + shift <= copy.times[-1] + copy.step)
            shared = min(original.times[-1] + shift, copy.times[-1]) - max(original.times[0] + shift, copy.times[0])
            if shared >= 0:
                distances = _nearest(times[within] + shift, hashes[within], copy)
                longer = length / (shared + copy.step)
                found.append(_match(hashes[within], distances, longer, needed, bits, close, shift, trimmed))
    return max((match for match in found if match is not None), default=None)


def _shifts(times: NDArray[np.float64], hashes: NDArray[np.uint64], long: Film, bits: int) -> list[float]:
    """Seconds by which looks may be shifted to meet those of the other film: those that most matches ask for."""
    found = []
    for part in _parts(len(times), len(long.times)):
        near = np.bitwise_count(hashes[part, None] ^ long.hashes[None]) <= bits
        left, right = np.nonzero(near)
        found.append(np.round(long.times[right] - times[part][left], 3))
    values, votes = np.unique(np.concatenate(found), return_counts=True)
    order = np.lexsort((values, np.abs(values), -votes))
    return [float(value) for value in values[order[:_SHIFTS_MAX]]]


def _parts(rows: int, columns: int) -> Iterator[slice]:
    size = max(1, _COMPARED_MAX // max(1, columns))
    for start in range(0, rows, size):
        yield slice(start, start + size)


def _nearest(times: NDArray[np.float64], hashes: NDArray[np.uint64], looks: Film) -> NDArray[np.int64]:
    """For each look the smallest distance to one of the other film at most a step away."""
    low = np.searchsorted(looks.times, times - looks.step - 1e-3, side="left")
    high = np.searchsorted(looks.times, times + looks.step + 1e-3, side="right")
    nearest = np.full(len(times), HASH_BITS, dtype=np.int64)
    for offset in range(int((high - low).max(initial=0))):
        place = low + offset
        inside = place < high
        distance = np.bitwise_count(hashes[inside] ^ looks.hashes[place[inside]])
        nearest[inside] = np.minimum(nearest[inside], distance)
    return nearest


def key_looks(looks: Sequence[tuple[float, int]], shown: Callable[[float], str], store: PictureStore) -> tuple[bytes, bytes]:
    """The windows and the thumbnails of a film's key looks, as `Film` takes them.

    Args:
        looks: (seconds, perceptual hash), as of `pack_looks`.
        shown: media_id of the stored frame at a time.
    """
    keys = [looks[place] for place in key_places([time for time, _ in looks])]
    windows, small = [], []
    for (_, value), item in zip(keys, store.pictures([shown(time) for time, _ in keys]), strict=True):
        picture = Image.open(io.BytesIO(item.data)).convert("L")
        found = look(picture)
        # A frame that is all but flat may become flat in the store.
        windows.append(value.to_bytes(8, "big") * WINDOWS if found is None else found.windows)
        small.append(thumbnail(picture))
    return b"".join(windows), b"".join(small)
