"""The vision tower from an open_clip SigLIP model: a local file or folder, a hub id, or one of open_clip's own names.

Decided here: open_clip finds and fetches the file (`hf-hub:ORG/NAME`, or a model name with a pretrained tag), and is
imported only then; no open_clip model is built, so neither the text tower nor its tokenizer is needed, and only the
image tower's tensors are read. open_clip wraps timm's vision transformer, so the names are `visual.trunk.*`: one `qkv`
matrix (queries, keys and values under one another) where this tower has three, and a position table with a batch axis.
Text tower, logit scale and attention pooling stay behind: the published tower has no pooling head. Everything else of
the trunk must find its place, and the whole tower must be filled, or nothing is: an error names each tensor that does
not fit.

A position table of another side is resampled to the configuration's by the rule the tower itself uses for an image's
grid (`model.vision.resample_positions`: bilinear, half-pixel centres, no antialiasing). Patch size and width are no
matter of resampling: another one is an error. Two things no file tells and the caller must know: the number of heads,
and the activation. This tower has the tanh GELU SigLIP was trained with; some of timm's entries run the exact one.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import safe_open
from torch import Tensor

from model.checkpoint import CheckpointError
from model.vision import resample_positions

if TYPE_CHECKING:
    from model.config import VisionConfig
    from model.vlm import VisionLanguageModel

_HUB = "hf-hub:"
_FOLDER_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
_TRUNK = "visual.trunk."
_BLOCK = re.compile(r"blocks\.(\d+)\.(norm1|norm2|attn\.proj|attn\.qkv|mlp\.fc1|mlp\.fc2)\.(weight|bias)")
_INSIDE_LAYER = {
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "attn.proj": "self_attn.out_proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_PATCHES, _POSITIONS = "patch_embed.proj.weight", "pos_embed"
_OUTSIDE_LAYERS = {
    _PATCHES: "embeddings.patch_embedding.weight",
    "patch_embed.proj.bias": "embeddings.patch_embedding.bias",
    _POSITIONS: "embeddings.position_embedding.weight",
    "norm.weight": "post_layernorm.weight",
    "norm.bias": "post_layernorm.bias",
}
# Rides in the published checkpoint, is never read, and no SigLIP has it.
_UNUSED = "embeddings.packing_position_embedding.weight"


@torch.no_grad()
def load_siglip_tower(model: VisionLanguageModel, source: str | Path, *, pretrained: str | None = None) -> None:
    """Fills the vision tower of `model`, in place and in its own type, from an open_clip SigLIP model.

    Args:
        source: a file (`.safetensors`, or a torch file of tensors: `.pt`, `.bin`, also a training checkpoint's
            `state_dict`), a folder open_clip saved, `hf-hub:ORG/NAME`, or, with `pretrained`, an open_clip model name.
        pretrained: open_clip's tag for the weights of that name, such as `webli` of `ViT-SO400M-14-SigLIP-384`.

    Raises:
        FileNotFoundError: no such file, or it cannot be downloaded.
        ValueError: the model has no vision tower, or open_clip knows no such name or tag.
        CheckpointError: the file holds no such trunk, or one of another shape; each tensor is named.
    """
    if model.config.vision is None:
        raise ValueError("this model has no vision tower to fill (config.vision is None)")
    targets = model.visual.vision_model.state_dict()
    trunk = _read_trunk(_locate(str(source), pretrained))
    if not trunk:
        raise CheckpointError(f"{source} has no tensors named {_TRUNK}*: not an open_clip model with a timm image tower")
    _check_geometry(trunk, model.config.vision, source)
    problems: list[str] = []
    placed = dict(_placed(trunk, model.config.vision.position_side, problems))
    for name, tensor in placed.items():
        if name not in targets:
            problems.append(f"unknown tensor {name} {list(tensor.shape)}")
        elif tensor.shape != targets[name].shape:
            problems.append(f"{name} has shape {list(tensor.shape)}, the model needs {list(targets[name].shape)}")
    problems += [f"missing tensor {name}" for name in targets if name not in placed and name != _UNUSED]
    if problems:
        more = f"; and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise CheckpointError(f"{source} does not fit the vision tower: {'; '.join(problems[:8])}{more}")
    for name, tensor in placed.items():
        targets[name].copy_(tensor)


def _locate(source: str, pretrained: str | None) -> Path:
    """The local file of a source, downloaded by open_clip (into the hub client's cache) if it is not one already."""
    path = Path(source)
    if source.startswith(_HUB) or pretrained is not None:
        return _download(source, pretrained)
    if path.is_dir():
        path = next((path / name for name in _FOLDER_FILES if (path / name).is_file()), path)
        if path.is_dir():
            raise FileNotFoundError(f"{path} holds none of {', '.join(_FOLDER_FILES)}: not a folder open_clip saved")
    if not path.is_file():
        raise FileNotFoundError(
            f"{source} is no file: give an open_clip model's file or folder, {_HUB}ORG/NAME, or an open_clip name and its tag"
        )
    return path


def _download(source: str, pretrained: str | None) -> Path:
    from open_clip import pretrained as hub

    if source.startswith(_HUB):
        if pretrained is not None:
            raise ValueError(f"{source} names its weights itself: leave out the tag {pretrained!r}")
    elif not hub.is_pretrained_cfg(source, pretrained):
        tags = hub.list_pretrained_tags_by_model(source)
        known = f"known tags are {tags}" if tags else "open_clip has no weights under that name"
        raise ValueError(f"open_clip has no {source!r} with the tag {pretrained!r}: {known}")
    try:
        if source.startswith(_HUB):
            return Path(hub.download_pretrained_from_hf(source.removeprefix(_HUB)))
        return Path(hub.download_pretrained(hub.get_pretrained_cfg(source, pretrained)))
    except Exception as failure:  # the hub client raises a dozen types, by what failed
        reason = textwrap.shorten(str(failure), 240, placeholder=" ...")
        raise FileNotFoundError(
            f"open_clip could not download {source}: {reason}; without a network give a local file"
        ) from failure


def _read_trunk(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as opened:
            names = [name for name in opened.keys() if name.startswith(_TRUNK)]  # noqa: SIM118 (no mapping)
            return {name.removeprefix(_TRUNK): opened.get_tensor(name) for name in names}
    contents = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    contents = contents.get("state_dict", contents)
    named = {name.removeprefix("module."): tensor for name, tensor in contents.items()}
    return {name.removeprefix(_TRUNK): tensor for name, tensor in named.items() if name.startswith(_TRUNK)}


def _check_geometry(trunk: dict[str, Tensor], config: VisionConfig, source: str | Path) -> None:
    if _PATCHES not in trunk:
        return  # named as missing with the rest
    width, channels, *patch = trunk[_PATCHES].shape
    found = {"patch_size": patch, "hidden_size": width, "channels": channels}
    wanted = {
        "patch_size": [config.patch_size] * 2,
        "hidden_size": config.hidden_size,
        "channels": config.channels,
    }
    other = [f"{name} {found[name]} where VisionConfig has {wanted[name]}" for name in wanted if found[name] != wanted[name]]
    if other:
        raise CheckpointError(f"{source} is another tower: {', '.join(other)}; change the configuration or take its tower")


def _placed(trunk: dict[str, Tensor], side: int, problems: list[str]) -> Iterator[tuple[str, Tensor]]:
    """The trunk's tensors under the tower's names; what has none is added to `problems`."""
    for name, tensor in trunk.items():
        if name.startswith("attn_pool."):
            continue
        if name in _OUTSIDE_LAYERS:
            yield _OUTSIDE_LAYERS[name], _positions(tensor, side) if name == _POSITIONS else tensor
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


def _positions(table_1SE: Tensor, side: int) -> Tensor:
    """[1, S, E] -> [side * side, E]; a table that is not square keeps its length, and is named as misshaped."""
    table_SE = table_1SE.squeeze(0)
    own = math.isqrt(table_SE.shape[0])
    if own == side or own * own != table_SE.shape[0]:
        return table_SE
    return resample_positions(table_SE.float(), own, (side, side))
