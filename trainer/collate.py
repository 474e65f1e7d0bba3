"""One packed sequence as tensors: tokens of its samples end to end, patches of its pictures end to end.

Decided here: nothing is padded. The first token of a sample is never a target, so no label crosses from one sample to the next,
however a model shifts them; `targets` counts exactly the tokens that carry loss.

Shapes: T tokens, S samples, P patches, N pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from manifests.rendering import IGNORED, Rendered
from model.patches import images_to_patches
from model.sequence_shard import SequenceShard, pixels_of
from trainer.sample_facts import SampleFacts


@dataclass(frozen=True, kw_only=True)
class PackedBatch:
    """What one forward pass takes.

    Attributes:
        input_ids, labels: int64 [T]; labels are not shifted, -100 where nothing is learned.
        cu_seqlens: int32 [S + 1], first token of each sample, and T.
        pixel_values: float32 [P, 3 * patch**2] in [-1, 1], pictures in reading order; None without pictures.
        image_grid_thw: int64 [N, 3] in patches; None without pictures.
        targets: tokens that carry next-token loss.
        visual_tokens: picture tokens among the T.
        facts: of each sample in order; empty when nobody asked for them.
    """

    input_ids: Tensor
    labels: Tensor
    cu_seqlens: Tensor
    pixel_values: Tensor | None
    image_grid_thw: Tensor | None
    targets: int
    visual_tokens: int
    facts: tuple[SampleFacts, ...] = ()

    @property
    def tokens(self) -> int:
        """T."""
        return int(self.input_ids.shape[0])

    def for_shard(self, shard: SequenceShard) -> PackedBatch:
        """The same batch with the pixels of the rank's own pictures only."""
        if self.pixel_values is None or self.image_grid_thw is None:
            return self
        mine = shard.pictures(self.image_grid_thw)
        return replace(self, pixel_values=pixels_of(self.pixel_values, self.image_grid_thw, mine))

    def to(self, device: torch.device) -> PackedBatch:
        """The same batch on a device."""
        return replace(
            self,
            input_ids=self.input_ids.to(device),
            labels=self.labels.to(device),
            pixel_values=None if self.pixel_values is None else self.pixel_values.to(device),
            image_grid_thw=None if self.image_grid_thw is None else self.image_grid_thw.to(device),
        )


def collate(samples: Sequence[Rendered], pictures: Sequence[NDArray[np.uint8]], *, patch: int, merge: int) -> PackedBatch:
    """Packs the samples of one sequence.

    Args:
        samples: in their order in the sequence.
        pictures: uint8 [H, W, 3] at the size the model reads, in the order of the samples' slots.
        patch, merge: as `manifests.visual.VisualSpec`.
    """
    ids = np.concatenate([sample.ids for sample in samples]).astype(np.int64)
    labels = np.concatenate([sample.labels for sample in samples]).astype(np.int64)
    ends = np.cumsum([len(sample.ids) for sample in samples])
    labels[np.concatenate(([0], ends[:-1]))] = IGNORED
    pixel_values, grid = images_to_patches(list(pictures), patch_size=patch, merge_size=merge) if pictures else (None, None)
    return PackedBatch(
        input_ids=torch.from_numpy(ids),
        labels=torch.from_numpy(labels),
        cu_seqlens=torch.from_numpy(np.concatenate(([0], ends)).astype(np.int32)),
        pixel_values=pixel_values,
        image_grid_thw=grid,
        targets=int((labels != IGNORED).sum()),
        visual_tokens=sum(sample.cost.visual for sample in samples),
    )
