"""One packed sequence as numpy arrays: what is read ahead, in reader processes that load no torch.

Decided here: nothing is padded. The first token of a sample is never a target, so no label crosses from one sample to the next,
however a model shifts them; `targets` counts exactly the tokens that carry loss. Pictures stay bytes until the batch is made:
a quarter of what their floats would take on the way between processes and to a GPU.

Shapes: T tokens, S samples, P patches, N pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manifests.rendering import IGNORED
from trainer.picture_share import PictureShare
from trainer.token_store import Tokens


@dataclass(frozen=True, kw_only=True)
class Replaced:
    """A picture that could not be read and has a stand-in.

    Attributes:
        sample_id, media_id: of whom, and which.
        reason: what was wrong with it.
    """

    sample_id: str
    media_id: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class PackedArrays:
    """A packed sequence without torch.

    Attributes:
        ids, labels: int32 [T]; labels are not shifted, -100 where nothing is learned.
        cu_seqlens: int32 [S + 1], first token of each sample, and T.
        patches: uint8 [P, 3 * patch**2], pictures in reading order, patches in raster order, channels first within a patch;
            with a share only those of this rank's pictures.
        grid: int64 [N, 3] in patches: 1, rows, columns.
        targets: tokens that carry next-token loss.
        visual_tokens: picture tokens among the T.
        replaced: pictures with a stand-in.
        share: which pictures are here, where ranks share the sequence; None: all.
    """

    ids: NDArray[np.int32]
    labels: NDArray[np.int32]
    cu_seqlens: NDArray[np.int32]
    patches: NDArray[np.uint8]
    grid: NDArray[np.int64]
    targets: int
    visual_tokens: int
    replaced: tuple[Replaced, ...] = ()
    share: PictureShare | None = None


ARRAYS = ("ids", "labels", "cu_seqlens", "patches", "grid")
"""The fields of `PackedArrays` that are arrays."""


def pack(
    tokens: Tokens,
    pictures: Sequence[NDArray[np.uint8]],
    *,
    patch: int,
    merge: int,
    replaced: Sequence[Replaced] = (),
    unlearned: Sequence[int] = (),
    share: PictureShare | None = None,
) -> PackedArrays:
    """Puts tokens and pictures of one sequence together.

    Args:
        pictures: uint8 [H, W, 3] at the size the model reads, in the order of ``tokens.visuals``; of those that are another
            rank's the size alone counts.
        patch, merge: as `manifests.visual.VisualSpec`.
        unlearned: indices of samples whose labels are left out.

    Raises:
        ValueError: a picture's sides are no multiples of ``patch * merge``.
    """
    starts = np.concatenate(([0], tokens.ends))
    labels = tokens.labels.copy()
    labels[starts[:-1]] = IGNORED
    for index in unlearned:
        labels[starts[index] : starts[index + 1]] = IGNORED
    grid = np.array([grid_of(picture, patch=patch, merge=merge) for picture in pictures], dtype=np.int64).reshape(-1, 3)
    here = [number for number in range(len(pictures)) if share is None or share.has(number)]
    patches = np.empty((int(grid[here].prod(axis=1).sum()), 3 * patch * patch), dtype=np.uint8)
    first = 0
    for number in here:
        picture, (_, rows, columns) = pictures[number], grid[number].tolist()
        # A view of the place in the result, in the axes of the picture: the bytes are moved once.
        place = patches[first : first + rows * columns].reshape(rows, columns, 3, patch, patch)
        place.transpose(0, 3, 1, 4, 2)[...] = picture.reshape(rows, patch, columns, patch, 3)
        first += rows * columns
    return PackedArrays(
        ids=tokens.ids,
        labels=labels,
        cu_seqlens=starts.astype(np.int32),
        patches=patches,
        grid=grid,
        targets=int(np.count_nonzero(labels != IGNORED)),
        visual_tokens=int(grid.prod(axis=1).sum()) // merge**2,
        replaced=tuple(replaced),
        share=share,
    )


def grid_of(picture: NDArray[np.uint8], *, patch: int, merge: int) -> tuple[int, int, int]:
    """1, rows and columns of a picture in patches.

    Raises:
        ValueError: its sides are no multiples of ``patch * merge``.
    """
    height, width = picture.shape[:2]
    unit = patch * merge
    if height % unit or width % unit or not height or not width:
        raise ValueError(f"a picture of {width}x{height} px is no multiple of {unit} px")
    return 1, height // patch, width // patch


def layout(arrays: PackedArrays) -> tuple[list[tuple[str, str, tuple[int, ...], int]], int]:
    """Where each array lies when all stand in one block of bytes: name, dtype, shape, offset; and the block's length."""
    places, offset = [], 0
    for name in ARRAYS:
        array: NDArray[Any] = getattr(arrays, name)
        places.append((name, array.dtype.str, array.shape, offset))
        offset += -(-array.nbytes // 64) * 64
    return places, offset
