"""Three-axis positions of a packed row, from its token ids and its image grids.

Decided here: Qwen2-VL's rule, frame by frame. Text advances all three axes by one. An image (or one frame: a video is
a sequence of frames, each preceded by its timestamp as text) that starts at position p gives its token in merged row
r, column c the position (p, p + r, p + c); what follows starts at p + max(rows, columns). Every sample of a packed
row starts again at 0, so packing does not change positions. Time is not stretched by the frame rate: the model reads
it from the timestamps.

Shapes: T tokens of the row, N images.
"""

from __future__ import annotations

import torch
from torch import Tensor


def check_visual_tokens(input_ids_T: Tensor, image_grid_thw: Tensor | None, *, image_token_id: int, merge_size: int) -> Tensor:
    """Visual tokens each image needs, after checking that the row has exactly as many placeholders.

    Args:
        input_ids_T: [T] int64.
        image_grid_thw: [N, 3] integer grids in patches, or None without images.

    Returns:
        [N] int64, on the device of the ids.

    Raises:
        ValueError: a grid that is not [N, 3], not divisible by the merge size, or a count that does not fit.
    """
    placeholders = int((input_ids_T == image_token_id).sum())
    if image_grid_thw is None:
        grid = torch.zeros(0, 3, dtype=torch.int64, device=input_ids_T.device)
    else:
        grid = image_grid_thw.to(input_ids_T.device, torch.int64)
    if grid.ndim != 2 or grid.shape[1] != 3:
        raise ValueError(f"image_grid_thw must be [images, 3] (t, h, w in patches), got shape {tuple(grid.shape)}")
    if bool((grid < 1).any()) or bool((grid[:, 1:] % merge_size).any()):
        bad = grid[((grid < 1).any(1)) | (grid[:, 1:] % merge_size).any(1)][0].tolist()
        raise ValueError(f"image_grid_thw holds {bad}: t must be at least 1, h and w positive multiples of {merge_size}")
    tokens_N = grid.prod(1) // merge_size**2
    if placeholders != int(tokens_N.sum()):
        raise ValueError(
            f"input_ids hold {placeholders} visual placeholders (id {image_token_id}), but image_grid_thw asks for "
            f"{int(tokens_N.sum())} visual tokens in {len(grid)} images"
        )
    return tokens_N


def mrope_positions(
    input_ids_T: Tensor,
    image_grid_thw: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    *,
    image_token_id: int,
    merge_size: int = 2,
) -> Tensor:
    """Positions on the axes (time, height, width).

    Args:
        input_ids_T: [T] int64, one packed row; placeholders of an image are contiguous.
        image_grid_thw: [N, 3] grids in patch units, in order of appearance. A grid with t > 1 counts as t frames.
        cu_seqlens: [S + 1] starts of the samples and the end; None is one sample.

    Returns:
        [3, T] int64 on the device of the ids.

    Raises:
        ValueError: as `check_visual_tokens`.
    """
    device = input_ids_T.device
    tokens_N = check_visual_tokens(input_ids_T, image_grid_thw, image_token_id=image_token_id, merge_size=merge_size)
    length = input_ids_T.shape[0]
    advance_T = torch.ones(length, dtype=torch.int64, device=device)
    row_T, column_T = torch.zeros_like(advance_T), torch.zeros_like(advance_T)
    if len(tokens_N) and image_grid_thw is not None:
        grid = image_grid_thw.to(device, torch.int64)
        frames = torch.repeat_interleave(grid[:, 1:] // merge_size, grid[:, 0], dim=0)
        counts = frames.prod(1)
        ends = counts.cumsum(0)
        within = torch.arange(int(ends[-1]), device=device) - torch.repeat_interleave(ends - counts, counts)
        widths = torch.repeat_interleave(frames[:, 1], counts)
        where = (input_ids_T == image_token_id).nonzero().squeeze(1)
        row_T[where] = within // widths
        column_T[where] = within % widths
        advance_T[where] = 0
        advance_T[where[ends - 1]] = frames.max(1).values
    base_T = advance_T.cumsum(0) - advance_T
    if cu_seqlens is not None:
        starts = cu_seqlens.to(device, torch.int64)
        sizes = starts[1:] - starts[:-1]
        base_T = base_T - torch.repeat_interleave(base_T[starts[:-1].clamp(max=max(length - 1, 0))], sizes)
    return torch.stack((base_T, base_T + row_T, base_T + column_T))
