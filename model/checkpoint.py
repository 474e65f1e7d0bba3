"""Checkpoint folders: safetensors with the published names, and Qwen3-MoE folders as a start and as a way out.

Decided here: the modules carry the published names, so saving and loading is the identity on names; the only mapping
is Qwen3-MoE's experts, per expert ([out, in] matrices) or fused ([E, out, in]), from and to the input-major tensors
published for this family. A Qwen3-MoE folder is written per expert, as Qwen publishes it: every reader knows that
form. Tensors stream: one is in memory beside the model at a time. A tensor that is missing, unknown or misshaped is
an error that names it, before the model is used; only what a Qwen3-MoE folder cannot have, the indexers, starts from
seed 0 instead. Files appear whole: the index is written last.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from model import hub_config
from model.initialise import initialise

if TYPE_CHECKING:
    from model.vlm import VisionLanguageModel

Layout = Literal["keye_vl_2", "qwen3_moe"]
_EXPERT = re.compile(r"(model\.layers\.\d+\.mlp\.experts)\.(\d+)\.(gate_proj|up_proj|down_proj)\.weight")


class CheckpointError(ValueError):
    """A folder that does not hold the model its config.json describes."""


def save(
    model: VisionLanguageModel,
    folder: Path,
    *,
    layout: Layout,
    max_shard_bytes: int,
    tensors: dict[str, Tensor] | None = None,
) -> None:
    """Writes config.json and the tensors: one `model.safetensors`, or shards of at most `max_shard_bytes` and an index.

    Args:
        layout: "keye_vl_2" is the whole model. "qwen3_moe" is its language model in Qwen3-MoE's own names, for programs
            that know no other: dense attention; vision tower, projector and indexers stay behind.
        tensors: the values, by name, of a model whose own are spread over ranks; None: its `state_dict`.

    Raises:
        ValueError: an unknown layout, or "qwen3_moe" for a router balanced by bias, which that layout cannot say.
    """
    if layout not in ("keye_vl_2", "qwen3_moe"):
        raise ValueError(f"layout must be 'keye_vl_2' or 'qwen3_moe', got {layout!r}")
    tensors = model.state_dict() if tensors is None else tensors
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    if layout == "qwen3_moe":
        if model.config.decoder.moe.balance == "bias":
            raise ValueError(
                "a Qwen3-MoE folder has no place for the selection biases of MoEConfig.balance 'bias', and without them tokens "
                "go to other experts: save the layout 'keye_vl_2'"
            )
        tensors = dict(_qwen_tensors(tensors))
        contents = hub_config.to_qwen_json(model.config, dtype)
    else:
        contents = hub_config.to_json(model.config, dtype)
    folder.mkdir(parents=True, exist_ok=True)
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        bytes_ = tensor.numel() * tensor.element_size()
        if shards[-1] and size + bytes_ > max_shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += bytes_
    index: dict[str, str] = {}
    for number, shard in enumerate(shards):
        file = "model.safetensors" if len(shards) == 1 else f"model-{number + 1:05d}-of-{len(shards):05d}.safetensors"
        on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in shard.items()}
        save_file(on_cpu, folder / f".{file}.part", metadata={"format": "pt"})
        os.replace(folder / f".{file}.part", folder / file)
        index.update(dict.fromkeys(shard, file))
    _write_json(folder / "config.json", contents)
    if len(shards) > 1:
        total = sum(tensor.numel() * tensor.element_size() for shard in shards for tensor in shard.values())
        _write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": index})


def _qwen_tensors(state: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The language model's tensors under Qwen3-MoE's names: views, `_target`'s mapping the other way."""
    for name, tensor in state.items():
        if not name.startswith(("model.", "lm_head.")) or ".sa_indexer." in name:
            continue
        prefix, found, matrix = name.partition(".mlp.experts.")
        if not found:
            yield name, tensor
            continue
        for number, whole in enumerate(tensor):
            parts = {"down_proj": whole}
            if matrix == "gate_up_proj":
                parts = dict(zip(("gate_proj", "up_proj"), whole.chunk(2, dim=1), strict=True))
            for part, values in parts.items():
                yield f"{prefix}.mlp.experts.{number}.{part}.weight", values.T


def _write_json(path: Path, contents: object) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(contents, indent=2) + "\n")
    os.replace(part, path)


def load(folder: Path, *, dtype: torch.dtype | None, device: torch.device) -> VisionLanguageModel:
    """Builds the model a folder describes and fills it.

    Args:
        folder: config.json and model.safetensors, or model.safetensors.index.json and its shards.
        dtype: type of the parameters; None keeps the file's (its first tensor's).

    Raises:
        FileNotFoundError: no such folder, config.json or tensors.
        CheckpointError: tensors missing, unknown or misshaped, each named.
    """
    from model.vlm import VisionLanguageModel

    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} has no config.json: not a model folder")
    contents = json.loads((folder / "config.json").read_text())
    with torch.device("meta"):
        model = VisionLanguageModel(hub_config.from_json(contents))
    files = _files(folder)
    if dtype is None:
        with safe_open(files[0], framework="pt") as opened:
            dtype = opened.get_tensor(next(iter(opened.keys()))).dtype
    model.to_empty(device=device).to(dtype)
    from_qwen = contents["model_type"] == "qwen3_moe"
    targets = model.state_dict()
    needed = {name: tensor.numel() for name, tensor in targets.items() if not (from_qwen and ".sa_indexer." in name)}
    problems: list[str] = []
    for name, tensor in _tensors(files):
        target = _target(name, targets, from_qwen)
        if target is None:
            problems.append(f"unknown tensor {name} {list(tensor.shape)}")
            continue
        owner, view = target
        source = tensor.T if from_qwen and _EXPERT.fullmatch(name) else tensor
        if from_qwen and ".mlp.experts." in name and tensor.ndim == 3:
            source = tensor.transpose(1, 2)
        if source.shape != view.shape:
            problems.append(f"tensor {name} has shape {list(tensor.shape)}, the model needs {list(view.shape)} of {owner}")
        else:
            view.copy_(source)
        needed[owner] -= view.numel()
    problems += [f"missing tensor {name} {list(targets[name].shape)}" for name, left in needed.items() if left]
    if problems:
        more = f"; and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise CheckpointError(f"{folder} does not fit its config.json: {'; '.join(problems[:8])}{more}")
    if from_qwen:
        initialise(model, seed=0, std=model.config.decoder.initializer_range, only=".sa_indexer.")
    return model


def _files(folder: Path) -> list[Path]:
    index, names = folder / "model.safetensors.index.json", ["model.safetensors"]
    if index.is_file():
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    for name in names:
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} has no {name}")
    return [folder / name for name in names]


def _tensors(files: list[Path]) -> Iterator[tuple[str, Tensor]]:
    for file in files:
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - not a dictionary
                yield name, opened.get_tensor(name)


def _target(name: str, targets: dict[str, Tensor], from_qwen: bool) -> tuple[str, Tensor] | None:
    """The parameter, and the part of it, that a stored tensor fills."""
    expert = _EXPERT.fullmatch(name) if from_qwen else None
    if expert is None:
        return (name, targets[name]) if name in targets else None
    prefix, number, matrix = expert[1], int(expert[2]), expert[3]
    owner = f"{prefix}.{'down_proj' if matrix == 'down_proj' else 'gate_up_proj'}"
    if owner not in targets or number >= len(targets[owner]):
        return None
    whole = targets[owner][number]
    if matrix == "down_proj":
        return owner, whole
    half = whole.shape[1] // 2
    return owner, whole[:, :half] if matrix == "gate_proj" else whole[:, half:]
