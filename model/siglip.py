"""The vision tower from an open_clip SigLIP checkpoint.

Decided here: open_clip wraps timm's vision transformer, so its names are `visual.trunk.*`: one `qkv` matrix (queries,
keys and values under one another) where this tower has three, and a position table with a batch axis. Text tower,
logit scale and attention pooling stay behind: the published tower has no pooling head. Everything else of the trunk
must find its place, and the whole tower must be filled, or nothing is: an error names each tensor that does not fit.
The file is a local one; downloading is the hub client's work.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from torch import Tensor

from model.checkpoint import CheckpointError

if TYPE_CHECKING:
    from model.vlm import VisionLanguageModel

_TRUNK = "visual.trunk."
_BLOCK = re.compile(r"blocks\.(\d+)\.(norm1|norm2|attn\.proj|attn\.qkv|mlp\.fc1|mlp\.fc2)\.(weight|bias)")
_INSIDE_LAYER = {
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "attn.proj": "self_attn.out_proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_OUTSIDE_LAYERS = {
    "patch_embed.proj.weight": "embeddings.patch_embedding.weight",
    "patch_embed.proj.bias": "embeddings.patch_embedding.bias",
    "pos_embed": "embeddings.position_embedding.weight",
    "norm.weight": "post_layernorm.weight",
    "norm.bias": "post_layernorm.bias",
}
# Rides in the published checkpoint, is never read, and no SigLIP has it.
_UNUSED = "embeddings.packing_position_embedding.weight"


@torch.no_grad()
def load_siglip_tower(model: VisionLanguageModel, path: str | Path) -> None:
    """Fills the vision tower of `model`, in place and in its own type, from an open_clip SigLIP file.

    Args:
        path: `.safetensors`, or a torch file of tensors (`.pt`, `.bin`; also a training checkpoint's `state_dict`).

    Raises:
        FileNotFoundError: no such file.
        ValueError: the model has no vision tower.
        CheckpointError: the file holds no such trunk, or one of another shape; each tensor is named.
    """
    if model.config.vision is None:
        raise ValueError("this model has no vision tower to fill (config.vision is None)")
    targets = model.visual.vision_model.state_dict()
    trunk = {name.removeprefix(_TRUNK): tensor for name, tensor in _read(Path(path)).items() if name.startswith(_TRUNK)}
    if not trunk:
        raise CheckpointError(f"{path} has no tensors named {_TRUNK}*: not an open_clip model with a timm image tower")
    problems: list[str] = []
    placed = dict(_placed(trunk, problems))
    for name, tensor in placed.items():
        if name not in targets:
            problems.append(f"unknown tensor {name} {list(tensor.shape)}")
        elif tensor.shape != targets[name].shape:
            problems.append(f"{name} has shape {list(tensor.shape)}, the model needs {list(targets[name].shape)}")
    problems += [f"missing tensor {name}" for name in targets if name not in placed and name != _UNUSED]
    if problems:
        more = f"; and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise CheckpointError(f"{path} does not fit the vision tower: {'; '.join(problems[:8])}{more}")
    for name, tensor in placed.items():
        targets[name].copy_(tensor)


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file: give an open_clip model's .safetensors, .bin or .pt")
    if path.suffix == ".safetensors":
        return load_file(path)
    contents = torch.load(path, map_location="cpu", weights_only=True)
    contents = contents.get("state_dict", contents)
    return {name.removeprefix("module."): tensor for name, tensor in contents.items()}


def _placed(trunk: dict[str, Tensor], problems: list[str]) -> Iterator[tuple[str, Tensor]]:
    """The trunk's tensors under the tower's names; what has none is added to `problems`."""
    for name, tensor in trunk.items():
        if name.startswith("attn_pool."):
            continue
        if name in _OUTSIDE_LAYERS:
            yield _OUTSIDE_LAYERS[name], tensor.squeeze(0) if name == "pos_embed" else tensor
            continue
        inside = _BLOCK.fullmatch(name)
        if inside is None:
            problems.append(f"unknown tensor {_TRUNK}{name} {list(tensor.shape)}")
            continue
        layer, where, kind = inside.groups()
        prefix = f"encoder.layers.{layer}."
        if where == "attn.qkv":
            for part, values in zip("qkv", tensor.chunk(3), strict=True):
                yield f"{prefix}self_attn.{part}_proj.{kind}", values
        else:
            yield f"{prefix}{_INSIDE_LAYER[where]}.{kind}", tensor
