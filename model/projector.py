"""The projector: 2 x 2 neighbouring patches become one visual token of the decoder's width.

Decided here: the normalisation is over the four concatenated features (4608 in the published geometry, which its
parameter count requires), where paddleocr_vl normalises each patch before merging. GELU is the exact one. Tokens come
out in raster order of the merged grid. Parameter names are the checkpoint's `mlp_AR`.

Shapes: P patches, V visual tokens = P / merge^2, E vision width, M decoder width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.config import ProjectorConfig


class Projector(nn.Module):
    def __init__(self, config: ProjectorConfig, *, vision_size: int, decoder_size: int) -> None:
        super().__init__()
        self.merge_size = config.merge_size
        merged = vision_size * config.merge_size**2
        self.pre_norm = nn.LayerNorm(merged, eps=config.norm_eps)
        self.linear_1 = nn.Linear(merged, merged)
        self.linear_2 = nn.Linear(merged, decoder_size)

    def forward(self, features_PE: Tensor, image_grid_thw: Tensor) -> Tensor:
        """[P, E] features in raster order of each frame's grid [N, 3] (patches) -> [V, M] tokens, raster order.

        Raises:
            ValueError: a grid that does not divide.
        """
        m, merged, start = self.merge_size, [], 0
        for t, h, w in image_grid_thw.tolist():
            if h % m or w % m:
                raise ValueError(f"image_grid_thw holds {[t, h, w]}: h and w must be multiples of {m}")
            frame = features_PE[start : start + t * h * w].view(t, h // m, m, w // m, m, -1)
            merged.append(frame.transpose(2, 3).reshape(t * h * w // m**2, -1))
            start += t * h * w
        x_VM = self.pre_norm(torch.cat(merged))
        return self.linear_2(functional.gelu(self.linear_1(x_VM)))
