"""A packed sequence as tensors, on the way to a model.

Decided here: pictures travel as bytes as far as they can. On a CPU they become floats where they are read ahead; for a GPU the
bytes are pinned, copied without waiting, and become the same floats there (a table of 256 values, because a GPU's division
by a constant may round otherwise).

Shapes: T tokens, S samples, P patches, N pictures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from trainer.packed_arrays import PackedArrays, Replaced
from trainer.picture_share import PictureShare
from trainer.sample_facts import SampleFacts


@dataclass(frozen=True, kw_only=True)
class PackedBatch:
    """What one forward pass takes.

    Attributes:
        input_ids, labels: int64 [T]; labels are not shifted, -100 where nothing is learned.
        cu_seqlens: int32 [S + 1], first token of each sample, and T.
        pixel_values: float32 [P, 3 * patch**2] in [-1, 1], pictures in reading order, with a share those of this rank; None
            without pictures. uint8 in pinned memory while they wait for a GPU: `to` makes them floats there.
        image_grid_thw: int64 [N, 3] in patches; None without pictures.
        targets: tokens that carry next-token loss.
        visual_tokens: picture tokens among the T.
        replaced: pictures that could not be read and are shown grey.
        facts: of each sample in order; empty when nobody asked for them.
        share: which pictures are here, where ranks share the sequence; None: all.
    """

    input_ids: Tensor
    labels: Tensor
    cu_seqlens: Tensor
    pixel_values: Tensor | None
    image_grid_thw: Tensor | None
    targets: int
    visual_tokens: int
    replaced: tuple[Replaced, ...] = ()
    facts: tuple[SampleFacts, ...] = ()
    share: PictureShare | None = None

    @property
    def tokens(self) -> int:
        """T."""
        return int(self.input_ids.shape[0])

    def to(self, device: torch.device) -> PackedBatch:
        """The same batch on a device; copies from pinned memory do not wait."""
        pixels = None if self.pixel_values is None else self.pixel_values.to(device, non_blocking=True)
        return replace(
            self,
            input_ids=self.input_ids.to(device, non_blocking=True),
            labels=self.labels.to(device, non_blocking=True),
            pixel_values=_table(device)[pixels.int()] if pixels is not None and pixels.dtype == torch.uint8 else pixels,
            image_grid_thw=None if self.image_grid_thw is None else self.image_grid_thw.to(device, non_blocking=True),
        )


def collate(arrays: PackedArrays, *, facts: tuple[SampleFacts, ...] = (), pinned: bool = False) -> PackedBatch:
    """The tensors of one sequence.

    Args:
        pinned: in page-locked memory, pictures as bytes, for a GPU.
    """
    shown = len(arrays.grid) > 0
    pixels = torch.from_numpy(arrays.patches) if shown else None
    batch = PackedBatch(
        input_ids=torch.from_numpy(arrays.ids).long(),
        labels=torch.from_numpy(arrays.labels).long(),
        cu_seqlens=torch.from_numpy(arrays.cu_seqlens).clone(),
        pixel_values=pixels if pinned or pixels is None else normalised(pixels),
        image_grid_thw=torch.from_numpy(arrays.grid).clone() if shown else None,
        targets=arrays.targets,
        visual_tokens=arrays.visual_tokens,
        replaced=arrays.replaced,
        facts=facts,
        share=arrays.share,
    )
    return _pin(batch) if pinned else batch


def normalised(pixels: Tensor) -> Tensor:
    """Bytes as `model.patches` makes floats of them, (x / 255 - 0.5) / 0.5, in one piece of memory. x / 127.5 - 1 is the same
    to the bit, for what is left out are products with powers of two, in three quarters of the time."""
    return pixels.float().div_(127.5).sub_(1.0)


@cache
def _table(device: torch.device) -> Tensor:
    """The float of each byte."""
    return normalised(torch.arange(256, dtype=torch.uint8)).to(device)


def _pin(batch: PackedBatch) -> PackedBatch:
    return replace(
        batch,
        input_ids=batch.input_ids.pin_memory(),
        labels=batch.labels.pin_memory(),
        pixel_values=None if batch.pixel_values is None else batch.pixel_values.pin_memory(),
        image_grid_thw=None if batch.image_grid_thw is None else batch.image_grid_thw.pin_memory(),
    )
