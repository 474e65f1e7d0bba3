"""An open_clip SigLIP file fills the vision tower; what does not fit is named and changes nothing."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from small_model import random_model, small_config

from model.checkpoint import CheckpointError
from model.siglip import load_siglip_tower


def _open_clip_state(model) -> dict[str, torch.Tensor]:
    """The model's tower as open_clip (timm's VisionTransformer inside) would name it, with what else such a file holds."""
    ours = {name: value.clone() for name, value in model.visual.vision_model.state_dict().items()}
    size = model.config.vision.hidden_size
    state = {
        "visual.trunk.patch_embed.proj.weight": ours.pop("embeddings.patch_embedding.weight"),
        "visual.trunk.patch_embed.proj.bias": ours.pop("embeddings.patch_embedding.bias"),
        "visual.trunk.pos_embed": ours.pop("embeddings.position_embedding.weight")[None],
        "visual.trunk.norm.weight": ours.pop("post_layernorm.weight"),
        "visual.trunk.norm.bias": ours.pop("post_layernorm.bias"),
    }
    for layer in range(model.config.vision.layers):
        theirs, mine = f"visual.trunk.blocks.{layer}.", f"encoder.layers.{layer}."
        for kind in ("weight", "bias"):
            qkv = [ours.pop(f"{mine}self_attn.{part}_proj.{kind}") for part in "qkv"]
            state[f"{theirs}attn.qkv.{kind}"] = torch.cat(qkv)
            state[f"{theirs}attn.proj.{kind}"] = ours.pop(f"{mine}self_attn.out_proj.{kind}")
            for number in (1, 2):
                state[f"{theirs}norm{number}.{kind}"] = ours.pop(f"{mine}layer_norm{number}.{kind}")
                state[f"{theirs}mlp.fc{number}.{kind}"] = ours.pop(f"{mine}mlp.fc{number}.{kind}")
    assert not ours
    beside = {
        "visual.trunk.attn_pool.latent": torch.zeros(1, 1, size),
        "visual.trunk.attn_pool.kv.weight": torch.zeros(2 * size, size),
        "text.token_embedding.weight": torch.zeros(10, size),
        "logit_scale": torch.zeros(()),
    }
    return state | beside


@pytest.mark.parametrize("form", ["safetensors", "pt", "training"])
def test_a_tower_from_open_clip_gives_the_same_features(tmp_path, form):
    source, target = random_model(small_config(), seed=1), random_model(small_config(), seed=2)
    path = tmp_path / ("open_clip_model.safetensors" if form == "safetensors" else "open_clip.pt")
    state = _open_clip_state(source)
    if form == "safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}} if form == "training" else state, path)
    projector = {name: value.clone() for name, value in target.mlp_AR.state_dict().items()}
    load_siglip_tower(target, path)
    patches, grid = torch.randn(40, 588), torch.tensor([[1, 4, 6], [1, 2, 8]])
    assert torch.equal(target.visual(patches, grid), source.visual(patches, grid))
    assert all(torch.equal(value, projector[name]) for name, value in target.mlp_AR.state_dict().items())


def test_what_does_not_fit_is_named_and_changes_nothing(model, tmp_path):
    before = {name: value.clone() for name, value in model.visual.state_dict().items()}
    state = _open_clip_state(random_model(small_config(), seed=1))
    state["visual.trunk.cls_token"] = torch.zeros(1, 1, 32)
    state["visual.trunk.pos_embed"] = torch.zeros(1, 196, 32)
    state["visual.trunk.blocks.7.norm1.bias"] = torch.zeros(32)
    del state["visual.trunk.blocks.1.attn.qkv.bias"]
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(CheckpointError) as error:
        load_siglip_tower(model, tmp_path / "other.pt")
    message = str(error.value)
    assert "unknown tensor visual.trunk.cls_token [1, 1, 32]" in message
    assert "unknown tensor encoder.layers.7.layer_norm1.bias [32]" in message
    assert "embeddings.position_embedding.weight has shape [196, 32], the model needs [729, 32]" in message
    assert "missing tensor encoder.layers.1.self_attn.k_proj.bias" in message
    assert all(torch.equal(value, before[name]) for name, value in model.visual.state_dict().items())


def test_a_file_without_a_trunk_and_no_file_are_named(model, tmp_path):
    torch.save({"visual.conv1.weight": torch.zeros(3)}, tmp_path / "vit.pt")
    with pytest.raises(CheckpointError, match=r"has no tensors named visual\.trunk\.\*"):
        load_siglip_tower(model, tmp_path / "vit.pt")
    with pytest.raises(FileNotFoundError, match="is no file"):
        load_siglip_tower(model, tmp_path / "nowhere.safetensors")
