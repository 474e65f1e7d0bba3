"""The vision tower: a SigLIP-shaped transformer over packed patches at native resolution.

Decided here: the patches of all images and frames lie in one row without padding; attention stays inside an image: on a
GPU by one packed routine where torch has one (`kernels.packed_dense`), else runs of images with the same number of patches
(the frames of a video) attend as one batch. The learned position table
is resampled bilinearly (half-pixel centres, edges clamped: `torch.nn.functional.interpolate(align_corners=False)`) to
each image's grid, and 2-D RoPE is added on top.

Long videos may be encoded in chunks of whole frames, which changes the peak memory and not one bit of the features on a
CPU in float32, whatever the chunks and the threads. Measured where bits could differ: attention, norms and RoPE give a
row the same value among any others; so does the matrix product when the number of rows is a multiple of 4, which grids that
merge 2 x 2 always are, from 4 rows on, with AVX-512 from 16 rows a thread on, so no chunk has fewer; torch's tanh GELU does
not (its vector loop and its remainder loop use two tanh), so the tower has its own, of the same accuracy and speed.

Parameter names are the published checkpoint's. Shapes: P patches, E hidden size, H heads, D head dim, N images.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from model.config import VisionConfig
from model.kernels.packed_dense import packed_dense
from model.rope import grid_tables, rotate

Tables = tuple[Tensor, Tensor]
EVEN_ROWS = 16


class PatchEmbedding(nn.Conv2d):
    """The convolution of the checkpoint, applied to patches that are already cut: one matrix product."""

    def forward(self, patches_PV: Tensor) -> Tensor:
        return functional.linear(patches_PV.to(self.weight.dtype), self.weight.flatten(1), self.bias)


class VisionEmbeddings(nn.Module):
    """Patch embedding plus the resampled position table."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.side = config.position_side
        self.patch_embedding = PatchEmbedding(
            config.channels, config.hidden_size, kernel_size=config.patch_size, stride=config.patch_size
        )
        self.position_embedding = nn.Embedding(config.position_side**2, config.hidden_size)
        if config.packing_positions:
            self.packing_position_embedding = nn.Embedding(config.packing_positions, config.hidden_size)

    def forward(self, patches_PV: Tensor, grids: list[tuple[int, int]]) -> Tensor:
        table = self.position_embedding.weight
        resampled: dict[tuple[int, int], Tensor] = {}
        for grid in grids:
            if grid not in resampled:
                resampled[grid] = resample_positions(table, self.side, grid)
        return self.patch_embedding(patches_PV) + torch.cat([resampled[grid] for grid in grids])


def _axis_taps(size: int, side: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Two table rows and their weights for each of `size` targets: [size, 2] int64 and float32."""
    source = (torch.arange(size, dtype=torch.float32, device=device) + 0.5) * side / size - 0.5
    low = source.floor()
    taps = torch.stack((low, low + 1), dim=1).long().clamp(0, side - 1)
    share = source - low
    return taps, torch.stack((1 - share, share), dim=1)


def resample_positions(table_SE: Tensor, side: int, grid: tuple[int, int]) -> Tensor:
    """A square position table at another grid, bilinearly: half-pixel centres, edges clamped, no antialiasing.

    Args:
        table_SE: [side * side, E], raster order.
        grid: (h, w).

    Returns:
        [h * w, E], raster order; the table itself when h = w = side.
    """
    (rows, row_weights), (columns, column_weights) = (_axis_taps(size, side, table_SE.device) for size in grid)
    index = (rows[:, None, :, None] * side + columns[None, :, None, :]).flatten(0, 1).flatten(1)
    weight = (row_weights[:, None, :, None] * column_weights[None, :, None, :]).flatten(0, 1).flatten(1)
    return (table_SE[index] * weight[..., None].to(table_SE.dtype)).sum(1)


class Images(NamedTuple):
    """Where the images of a packed row lie. `runs`: (number, patches) of each run of images of one size; `bounds`: [N + 1]
    int32, where each image starts, and P; `largest`: patches of the largest."""

    runs: list[tuple[int, int]]
    bounds: Tensor
    largest: int

    @classmethod
    def of(cls, grids: list[tuple[int, int]], device: torch.device) -> Images:
        """Images with these (h, w) grids, one after another."""
        runs: list[tuple[int, int]] = []
        for h, w in grids:
            images = runs.pop()[0] + 1 if runs and runs[-1][1] == h * w else 1
            runs.append((images, h * w))
        starts = [0, *itertools.accumulate(h * w for h, w in grids)]
        return cls(runs, torch.tensor(starts, dtype=torch.int32, device=device), max(patches for _, patches in runs))


def attend_in_batches(q_PHD: Tensor, k_PHD: Tensor, v_PHD: Tensor, runs: list[tuple[int, int]]) -> Tensor:
    """Attention inside each image, [P, H, D]: one batch for each run of (number, patches) equal images."""
    sizes = [number * patches for number, patches in runs]
    mixed = []
    for run, *parts in zip(runs, q_PHD.split(sizes), k_PHD.split(sizes), v_PHD.split(sizes), strict=True):
        batch = [part.unflatten(0, run).transpose(1, 2) for part in parts]
        mixed.append(functional.scaled_dot_product_attention(*batch).transpose(1, 2).flatten(0, 1))
    return mixed[0] if len(mixed) == 1 else torch.cat(mixed)


class VisionAttention(nn.Module):
    """Bidirectional attention inside each image."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.heads, self.head_dim = config.heads, config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x_PE: Tensor, tables: Tables, images: Images) -> Tensor:
        shape = (x_PE.shape[0], self.heads, self.head_dim)
        q_PHD = rotate(self.q_proj(x_PE).view(shape), *tables)
        k_PHD = rotate(self.k_proj(x_PE).view(shape), *tables)
        v_PHD = self.v_proj(x_PE).view(shape)
        packed = packed_dense(q_PHD, k_PHD, v_PHD, images.bounds, images.largest, causal=False)
        if packed is not None:
            return self.out_proj(packed.flatten(1))
        return self.out_proj(attend_in_batches(q_PHD, k_PHD, v_PHD, images.runs).flatten(1))


class _EvenGelu(torch.autograd.Function):
    """The tanh-approximated GELU as x / (1 + exp(-2u)), u = sqrt(2 / pi) (x + 0.044715 x^3): the same value for the same
    x wherever it lies in the tensor, since each of its steps is. 3000 x 4304 values take 43 ms on one thread, torch's
    own 39-43; it saves x for backward and nothing else, as torch's does."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        ctx.set_materialize_grads(False)  # no gradient stays no gradient, and is not a tensor of zeros
        scale = -2 * math.sqrt(2 / math.pi)
        y = torch.addcmul(x.new_tensor(scale), x, x, value=0.044715 * scale)
        return torch.div(x, y.mul_(x).exp_().add_(1), out=y)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None) -> Tensor | None:
        if gradient is None:
            return None
        (x,) = ctx.saved_tensors
        return torch.ops.aten.gelu_backward(gradient, x, approximate="tanh")


def _gelu(x: Tensor) -> Tensor:
    if x.device.type == "cpu" and x.dtype == torch.float32:
        return _EvenGelu.apply(x)
    return functional.gelu(x, approximate="tanh")


class VisionMLP(nn.Module):
    """fc1, tanh-approximated GELU, fc2."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x_PE: Tensor) -> Tensor:
        return self.fc2(_gelu(self.fc1(x_PE)))


class VisionLayer(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.self_attn = VisionAttention(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.mlp = VisionMLP(config)

    def forward(self, x_PE: Tensor, tables: Tables, images: Images) -> Tensor:
        x_PE = x_PE + self.self_attn(self.layer_norm1(x_PE), tables, images)
        return x_PE + self.mlp(self.layer_norm2(x_PE))


class VisionEncoder(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(VisionLayer(config) for _ in range(config.layers))


class VisionModel(nn.Module):
    """Patches -> features, the published `vision_model` without its pooling head."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = VisionEmbeddings(config)
        self.encoder = VisionEncoder(config)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.gradient_checkpointing = False

    def forward(self, patches_PV: Tensor, grids: list[tuple[int, int]]) -> Tensor:
        """Encodes the packed patches of images with these (h, w) grids: [P, V] -> [P, E]."""
        coordinates = [_coordinates(grid, patches_PV.device) for grid in grids]
        rows_P, columns_P = (torch.cat(axis) for axis in zip(*coordinates, strict=True))
        tables = grid_tables(rows_P, columns_P, head_dim=self.config.head_dim, theta=self.config.rope_theta)
        images = Images.of(grids, patches_PV.device)
        x_PE = self.embeddings(patches_PV, grids)
        for layer in self.encoder.layers:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x_PE = checkpoint(layer, x_PE, tables, images, use_reentrant=False)
            else:
                x_PE = layer(x_PE, tables, images)
        return self.post_layernorm(x_PE)


def _coordinates(grid: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    h, w = grid
    index = torch.arange(h * w, device=device)
    return index // w, index % w


def _chunks(grids: list[tuple[int, int]], most: int, least: int) -> list[list[tuple[int, int]]]:
    """Runs of whole images of at most so many patches, but of at least so many."""
    chunks: list[list[tuple[int, int]]] = []
    patches = 0
    for h, w in grids:
        if not chunks or (patches >= least and patches + h * w > most):
            chunks.append([])
            patches = 0
        chunks[-1].append((h, w))
        patches += h * w
    if len(chunks) > 1 and patches < least:
        last = chunks.pop()
        chunks[-1] += last
    return chunks


class VisionTower(nn.Module):
    """`visual` of the checkpoint: the vision model, and its chunked use on long videos."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.vision_model = VisionModel(config)

    def forward(self, pixel_values: Tensor, image_grid_thw: Tensor, *, chunk_patches: int | None = None) -> Tensor:
        """Encodes packed images at native resolution.

        Args:
            pixel_values: [P, 3 * patch_size**2] float, normalised patches in raster order.
            image_grid_thw: [N, 3] integer grids in patches, P = sum of t * h * w.
            chunk_patches: encode whole frames in groups of at most this many patches, and at least `EVEN_ROWS` a thread (None:
                all at once).

        Returns:
            [P, hidden_size].

        Raises:
            ValueError: the number or the width of the patches does not fit.
        """
        grids = [(h, w) for t, h, w in image_grid_thw.tolist() for _ in range(t)]
        needed, width = sum(h * w for h, w in grids), self.vision_model.config.patch_values
        if pixel_values.ndim != 2 or tuple(pixel_values.shape) != (needed, width):
            raise ValueError(
                f"pixel_values have shape {tuple(pixel_values.shape)}, but image_grid_thw asks for ({needed}, {width})"
            )
        if chunk_patches is None or needed <= chunk_patches:
            return self.vision_model(pixel_values, grids)
        features, start = [], 0
        for chunk in _chunks(grids, chunk_patches, EVEN_ROWS * torch.get_num_threads()):
            end = start + sum(h * w for h, w in chunk)
            features.append(self.vision_model(pixel_values[start:end], chunk))
            start = end
        return torch.cat(features)
