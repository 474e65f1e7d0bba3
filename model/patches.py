"""An image of bytes -> packed, normalised patches in raster order: what the vision tower eats.

Decided here: patches are rows [channels x patch x patch] in the layout of a convolution's weight, so that embedding
them is one matrix product; values are (x / 255 - 0.5) / 0.5; the image must already have sides that are multiples of
patch x merge (the resize rule belongs to whoever counts the tokens, not to the model).

Shapes: H x W pixels, h x w patches, P = h * w.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import numpy as np


def image_to_patches(
    image_HWC: Tensor | np.ndarray, *, patch_size: int = 14, merge_size: int = 2
) -> tuple[Tensor, tuple[int, int, int]]:
    """Cuts one image into patches.

    Args:
        image_HWC: [H, W, 3] uint8, numpy or torch; H and W multiples of patch_size * merge_size.

    Returns:
        patches [h * w, 3 * patch_size**2] float32 in [-1, 1], and the grid (1, h, w) in patch units.

    Raises:
        ValueError: another type, another number of channels, or sides that do not divide.
    """
    image = torch.as_tensor(image_HWC)
    unit = patch_size * merge_size
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"an image must be uint8 [H, W, 3], got {image.dtype} {tuple(image.shape)}")
    height, width = image.shape[:2]
    if height % unit or width % unit or not height or not width:
        raise ValueError(f"image sides {height} x {width} must be positive multiples of {unit} pixels: resize it first")
    h, w = height // patch_size, width // patch_size
    cut = image.reshape(h, patch_size, w, patch_size, 3).permute(0, 2, 4, 1, 3).reshape(h * w, -1)
    return (cut.float() / 255.0 - 0.5) / 0.5, (1, h, w)


def images_to_patches(images: list[Tensor | np.ndarray], *, patch_size: int = 14, merge_size: int = 2) -> tuple[Tensor, Tensor]:
    """Packs several images, or the frames of a video, without padding.

    Returns:
        pixel_values [P, 3 * patch_size**2] float32 and image_grid_thw [N, 3] int64, in the order given.
    """
    cut = [image_to_patches(image, patch_size=patch_size, merge_size=merge_size) for image in images]
    if not cut:
        return torch.zeros(0, 3 * patch_size**2), torch.zeros(0, 3, dtype=torch.int64)
    return torch.cat([patches for patches, _ in cut]), torch.tensor([grid for _, grid in cut], dtype=torch.int64)
