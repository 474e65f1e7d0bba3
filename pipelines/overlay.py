"""How far apart two films are where their key looks lie over each other: what tells a copy from other seconds of one recording.

Perceptual hashes see the whole picture. Other seconds of a still screen differ in a dialog or a moved piece, a few percent of
it, and their hashes hardly at all. Here thumbnails of `SIDE` x `SIDE` pixels are compared in `CELLS` x `CELLS` cells, and what
counts is the mean of the `WORST` of these: encoding changes all cells by little, another scene some by much.

A picture of a square or a tree looks the same all day but for what moves in it. So what changes is compared as well: cells less
their mean over the film, correlated over all looks. The correlation is above 0.5 for nearly all copies and about 0 for other
seconds, down to changes of less than one grey level. Only where nothing changes (`STILL`) the difference alone decides.

A copy may be cropped. So the window that fits best is looked for: the windows of `manifests.looks.CROPS` of either film, then
Gauss-Newton steps on its four edges. Cells are means over exact areas of the thumbnail: reading between its pixels instead made
crops of fine patterns (tiles, text) as different as other seconds are.

What is far is said by the films themselves: a copy is nearer to its original than a look of the film is to the next, or as near
as encoding leaves it (`ENCODED`).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from manifests.looks import CROPS

SIDE = 64
CELLS = 16
WORST = 8
ENCODED = 10.0
ALIKE_MIN = 0.5
STILL = 0.3
SHARED_MIN = 2
_TOGETHER = 0.35
_STEPS = 4
_STEP_MAX = 0.015
_ROBUST = 8.0
_NUDGE = 0.004
_EDGE_MAX, _SPAN_MIN, _SPAN_MAX = 0.08, 0.89, 1.12

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Window:
    """Where the whole of one film lies in another: first edge and length as shares of the other's height and width."""

    top: float
    height: float
    left: float
    width: float

    def seen(self, pixels: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        """Pixels [n, SIDE, SIDE] as cells [n, CELLS, CELLS] of the window, and which of these lie in the picture."""
        (down, inside), (across, within) = _cover(self.top, self.height), _cover(self.left, self.width)
        return down @ pixels @ across.T, inside[:, None] & within[None]

    def moved(self, by: Floats) -> Window:
        """The window with its four figures changed."""
        top, height, left, width = (float(value) for value in np.array(self.figures) + by)
        return Window(
            float(np.clip(top, -_EDGE_MAX, _EDGE_MAX)),
            float(np.clip(height, _SPAN_MIN, _SPAN_MAX)),
            float(np.clip(left, -_EDGE_MAX, _EDGE_MAX)),
            float(np.clip(width, _SPAN_MIN, _SPAN_MAX)),
        )

    @property
    def figures(self) -> tuple[float, float, float, float]:
        """All four."""
        return self.top, self.height, self.left, self.width


WHOLE = Window(0.0, 1.0, 0.0, 1.0)


@dataclass(frozen=True)
class Apart:
    """How far two films are apart, in grey levels of 0 to 255.

    Attributes:
        difference: mean over their looks of the worst cells' difference.
        moved: the same between a key look of either film and the next.
        changed: how far cells are from their mean over the film, root of the mean square; of the film that changes less.
        alike: correlation of these changes.
    """

    difference: float
    moved: float
    changed: float
    alike: float

    @property
    def copies(self) -> bool:
        """Whether they are near enough to be one film."""
        return self.difference <= max(ENCODED, self.moved) and (self.alike >= ALIKE_MIN or self.changed < STILL)


def thumbnail(picture: Image.Image) -> bytes:
    """A picture as it is compared: `SIDE` x `SIDE` grey pixels, whatever its shape."""
    return picture.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX).tobytes()


def unpack(packed: bytes) -> Floats:
    """[n, SIDE, SIDE] of n thumbnails."""
    return np.frombuffer(packed, dtype=np.uint8).reshape(-1, SIDE, SIDE).astype(np.float64)


def apart(one: Floats, one_times: Floats, other: Floats, other_times: Floats, within_s: float) -> Apart | None:
    """How far two films are apart; None when fewer than `SHARED_MIN` of their key looks fall together.

    Args:
        one, other: [n, SIDE, SIDE] their key looks, as of `unpack`.
        one_times, other_times: [n] seconds of these, on one clock.
        within_s: looks that far from each other may show the same: the nearest of them counts.
    """
    near = np.abs(one_times[:, None] - other_times[None]) <= within_s + 1e-3
    shared = np.flatnonzero(near.any(axis=1))
    if not len(shared) or len(shared) < min(SHARED_MIN, len(one), len(other)):
        return None
    pixels, near = one[shared], near[shared]
    cells, _ = WHOLE.seen(other)
    first = _fitting(pixels.mean(axis=0), cells[near.any(axis=0)].mean(axis=0))
    windows = (first, _refined(pixels, cells, near, first))
    difference, window = min(
        ((_difference(pixels, cells, near, window), window) for window in windows), key=lambda found: found[0]
    )
    own = np.concatenate([_worst(np.diff(WHOLE.seen(film)[0], axis=0).reshape(-1, CELLS * CELLS)) for film in (one, other)])
    gaps = other_times[None] - one_times[:, None]
    changes = [
        _changes(one, cells, np.nonzero(np.abs(gaps - lag) <= _TOGETHER * within_s), window)
        for lag in (0.0, -within_s, within_s)
    ]
    alike, changed = max(changes)
    return Apart(difference, round(float(own.mean()) if len(own) else 0.0, 3), changed, alike)


def _changes(pixels: Floats, cells: Floats, pairs: tuple[NDArray[np.int64], ...], window: Window) -> tuple[float, float]:
    """How alike the changes of looks are that lie over each other in pairs, and how large; 0 and 0 of less than two pairs."""
    if len(pairs[0]) < SHARED_MIN:
        return 0.0, 0.0
    seen, inside = window.seen(pixels[pairs[0]])
    changes = []
    for looks in (seen[:, inside], cells[pairs[1]][:, inside]):
        level = looks - np.median(looks, axis=1, keepdims=True)
        changes.append(level - level.mean(axis=0))
    first, second = (float(np.sqrt((change**2).mean())) for change in changes)
    product = float((changes[0] * changes[1]).mean())
    return round(product / max(first * second, 1e-9), 4), round(min(first, second), 4)


def _difference(pixels: Floats, cells: Floats, near: NDArray[np.bool_], window: Window) -> float:
    """Mean over looks of the smallest difference to a look of the other film that is near in time.

    Rounded, as all that is compared: the last bits of a sum depend on the machine, and the verdict must not.
    """
    seen, inside = window.seen(pixels)
    found = []
    for look, others in zip(seen, near, strict=True):
        gap = (cells[others] - look)[:, inside]
        found.append(_worst(gap - np.median(gap, axis=1, keepdims=True)).min())
    return round(float(np.mean(found)), 3)


def _worst(gaps: Floats) -> Floats:
    """Mean of the largest of the last axis."""
    return np.asarray(np.sort(np.abs(gaps), axis=-1)[..., -WORST:].mean(axis=-1))


def _fitting(picture: Floats, cells: Floats) -> Window:
    """Of the known crops of either film the one that fits best."""
    return min(_windows(), key=lambda window: _misfit(picture, cells, window))


def _misfit(picture: Floats, cells: Floats, window: Window) -> float:
    seen, inside = window.seen(picture)
    return round(float(np.abs(seen - cells)[inside].mean()), 6)


def _refined(pixels: Floats, cells: Floats, near: NDArray[np.bool_], window: Window) -> Window:
    """The window after Gauss-Newton steps; cells that differ much have little say (Huber's weights)."""
    seen, inside = window.seen(pixels)
    gaps = np.array([[np.abs(cell - look)[inside].mean() for cell in cells] for look in seen])
    target = cells[np.argmin(np.where(near, np.round(gaps, 6), np.inf), axis=1)]
    for _ in range(_STEPS):
        seen, inside = window.seen(pixels)
        slopes = [
            (window.moved(nudge).seen(pixels)[0] - window.moved(-nudge).seen(pixels)[0]) / (2 * _NUDGE)
            for nudge in np.eye(4) * _NUDGE
        ]
        # The last column is brightness, which a copy may have more of.
        design = np.stack([*slopes, np.ones_like(seen)], axis=-1)[:, inside].reshape(-1, 5)
        gap = (target - seen)[:, inside].ravel()
        weighted = design / np.maximum(1, np.abs(gap) / _ROBUST)[:, None]
        normal = weighted.T @ design
        normal += np.diag(np.diag(normal) * 0.01 + 1e-6)
        window = window.moved(np.clip(np.linalg.solve(normal, weighted.T @ gap)[:4], -_STEP_MAX, _STEP_MAX))
    return window


@lru_cache(maxsize=1)
def _windows() -> tuple[Window, ...]:
    """The whole, every crop of one film in the other, and the other way round; the whole first."""
    found = [WHOLE]
    for (top, bottom), (left, right) in itertools.islice(itertools.product(CROPS, CROPS), 1, None):
        height, width = bottom - top, right - left
        found.append(Window(top, height, left, width))
        found.append(Window(-top / height, 1 / height, -left / width, 1 / width))
    return tuple(found)


@lru_cache(maxsize=256)
def _cover(start: float, length: float) -> tuple[Floats, NDArray[np.bool_]]:
    """Rows that average a line of a thumbnail to the cells of a span of it, and which cells lie in the picture."""
    edges = (start + length * np.arange(CELLS + 1) / CELLS) * SIDE
    pixels = np.arange(SIDE)
    covered = np.clip(np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels), 0, None)
    inside = (edges[:-1] >= -0.5) & (edges[1:] <= SIDE + 0.5)
    return covered / np.maximum(covered.sum(axis=1, keepdims=True), 1e-9), inside
