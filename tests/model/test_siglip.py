"""An open_clip SigLIP model fills the vision tower, from a file, a folder or the hub; what does not fit is named and
changes nothing."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import open_clip
import pytest
import torch
from open_clip.push_to_hf_hub import save_for_hf
from safetensors.torch import save_file
from small_model import random_model, small_config
from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer, _create_vision_transformer
from torch.nn import functional

from model import VisionLanguageModel
from model.checkpoint import CheckpointError
from model.patches import image_to_patches
from model.siglip import load_siglip_tower

LITTLE = {"patch_size": 14, "embed_dim": 32, "depth": 2, "num_heads": 2, "mlp_ratio": 1.5, "act_layer": "gelu_tanh"}


@register_model
def vit_little_patch14_siglip_56(pretrained: bool = False, **kwargs: object) -> VisionTransformer:
    """SigLIP's shape at the size of `small_config`, over 56 x 56 pixels: a position table of 4 x 4."""
    shape = {"img_size": 56, "class_token": False, "global_pool": "map", **LITTLE, **kwargs}
    return _create_vision_transformer("vit_little_patch14_siglip_56", pretrained=pretrained, **shape)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> SimpleNamespace:
    """A little SigLIP of random weights, and the folder open_clip itself saved it to."""
    folder = tmp_path_factory.mktemp("siglip")
    description = {
        "embed_dim": 32,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 56,
            "timm_model_name": "vit_little_patch14_siglip_56",
            "timm_model_pretrained": False,
            "timm_pool": "map",
            "timm_proj": "none",
        },
        "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1},
    }
    (folder / "little-siglip.json").write_text(json.dumps(description))
    open_clip.add_model_config(folder / "little-siglip.json")
    clip = open_clip.create_model("little-siglip").eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in clip.visual.parameters():
            scale = 1.2 * parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    save_for_hf(clip, SimpleNamespace(save_pretrained=lambda folder: None), description, str(folder / "saved"))
    return SimpleNamespace(clip=clip, folder=folder / "saved")


def _empty_model() -> VisionLanguageModel:
    config = small_config()
    return random_model(dataclasses.replace(config, vision=dataclasses.replace(config.vision, position_side=4)), seed=5)


def _serve(monkeypatch, folder: Path) -> list[tuple[str, str]]:
    """The hub client answers from a folder; the list fills with what was asked of it."""
    asked: list[tuple[str, str]] = []

    def download(repo_id: str, filename: str, **_: object) -> str:
        asked.append((repo_id, filename))
        return str(folder / filename)

    monkeypatch.setattr("open_clip.pretrained.hf_hub_download", download)
    return asked


@pytest.mark.parametrize(
    ("source", "tag", "repository"),
    [
        ("open_clip_model.safetensors", None, None),
        ("open_clip_pytorch_model.bin", None, None),
        ("", None, None),
        ("hf-hub:somebody/little-siglip", None, "somebody/little-siglip"),
        ("ViT-SO400M-14-SigLIP-384", "webli", "timm/ViT-SO400M-14-SigLIP-384"),
    ],
)
def test_the_tower_gives_what_open_clips_own_trunk_gives(saved, monkeypatch, source, tag, repository):
    """Without the 2-D RoPE, which the published tower adds and SigLIP does not have."""
    asked = _serve(monkeypatch, saved.folder)
    model = _empty_model()
    load_siglip_tower(model, source if repository else saved.folder / source, pretrained=tag)
    assert asked == ([(repository, "open_clip_model.safetensors")] if repository else [])
    image = torch.randint(0, 256, (56, 56, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    patches, grid = image_to_patches(image)
    monkeypatch.setattr("model.vision.rotate", lambda x_PHD, cos_PD, sin_PD: x_PHD)
    with torch.no_grad():
        wanted = saved.clip.visual.trunk.forward_features((image.permute(2, 0, 1)[None] / 255 - 0.5) / 0.5)[0]
        assert (model.visual(patches, torch.tensor([grid])) - wanted).abs().max() <= 1e-5


def test_a_position_table_of_another_side_is_resampled_bilinearly(tmp_path):
    target = random_model(small_config(), seed=2)
    state = _open_clip_state(random_model(small_config(), seed=1))
    table = torch.randn(1, 16 * 16, 32, generator=torch.Generator().manual_seed(0))
    torch.save(state | {"visual.trunk.pos_embed": table}, tmp_path / "siglip-224.pt")
    load_siglip_tower(target, tmp_path / "siglip-224.pt")
    square = table.view(16, 16, 32).permute(2, 0, 1)[None]
    wanted = functional.interpolate(square, size=(27, 27), mode="bilinear", align_corners=False)[0].flatten(1).T
    got = target.visual.vision_model.embeddings.position_embedding.weight
    torch.testing.assert_close(got.detach(), wanted, atol=1e-5, rtol=0)


def test_another_patch_size_or_width_is_refused_in_one_line(model, tmp_path):
    state = _open_clip_state(random_model(small_config(), seed=1))
    state["visual.trunk.patch_embed.proj.weight"] = torch.zeros(48, 3, 16, 16)
    torch.save(state, tmp_path / "patch16.pt")
    wanted = (
        r"is another tower: patch_size \[16, 16\] where VisionConfig has \[14, 14\], hidden_size 48 where VisionConfig "
        r"has 32; change the configuration or take its tower$"
    )
    with pytest.raises(CheckpointError, match=wanted):
        load_siglip_tower(model, tmp_path / "patch16.pt")


def test_without_a_network_one_line_says_what_to_do(model, monkeypatch):
    def unreachable(**_: object) -> str:
        raise OSError("no route to the hub,\nnot even after 5 tries")

    monkeypatch.setattr("open_clip.pretrained.hf_hub_download", unreachable)
    for source, tag in (("hf-hub:somebody/little-siglip", None), ("ViT-SO400M-14-SigLIP-384", "webli")):
        with pytest.raises(FileNotFoundError) as error:
            load_siglip_tower(model, source, pretrained=tag)
        message = str(error.value)
        assert message.startswith(f"open_clip could not download {source}: ")
        assert "no route to the hub, not even after 5 tries" in message
        assert message.endswith("; without a network give a local file")


def test_unknown_names_and_tags_are_told_before_any_download(model, monkeypatch):
    asked = _serve(monkeypatch, Path("nowhere"))
    with pytest.raises(ValueError, match=r"no 'ViT-SO400M-14-SigLIP-384' with the tag 'laion': known tags are \['webli'\]"):
        load_siglip_tower(model, "ViT-SO400M-14-SigLIP-384", pretrained="laion")
    with pytest.raises(ValueError, match="open_clip has no weights under that name"):
        load_siglip_tower(model, "ViT-nonsense", pretrained="webli")
    with pytest.raises(ValueError, match="names its weights itself: leave out the tag 'webli'"):
        load_siglip_tower(model, "hf-hub:somebody/little-siglip", pretrained="webli")
    assert asked == []


def test_the_model_imports_open_clip_only_to_download():
    program = "import sys, model, model.siglip; sys.exit(any(name in sys.modules for name in ('open_clip', 'timm')))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


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
    state["visual.trunk.pos_embed"] = torch.zeros(1, 197, 32)
    state["visual.trunk.blocks.7.norm1.bias"] = torch.zeros(32)
    del state["visual.trunk.blocks.1.attn.qkv.bias"]
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(CheckpointError) as error:
        load_siglip_tower(model, tmp_path / "other.pt")
    message = str(error.value)
    assert "unknown tensor visual.trunk.cls_token [1, 1, 32]" in message
    assert "unknown tensor encoder.layers.7.layer_norm1.bias [32]" in message
    assert "embeddings.position_embedding.weight has shape [197, 32], the model needs [729, 32]" in message
    assert "missing tensor encoder.layers.1.self_attn.k_proj.bias" in message
    assert all(torch.equal(value, before[name]) for name, value in model.visual.state_dict().items())


def test_a_file_without_a_trunk_and_no_file_are_named(model, tmp_path):
    torch.save({"visual.conv1.weight": torch.zeros(3)}, tmp_path / "vit.pt")
    with pytest.raises(CheckpointError, match=r"has no tensors named visual\.trunk\.\*"):
        load_siglip_tower(model, tmp_path / "vit.pt")
    with pytest.raises(FileNotFoundError, match=r"is no file: give .* or an open_clip name and its tag"):
        load_siglip_tower(model, tmp_path / "nowhere.safetensors")
    with pytest.raises(FileNotFoundError, match="not a folder open_clip saved"):
        load_siglip_tower(model, tmp_path)
