"""A 2-layer model for the whole folder, rows with text and images made from a seed, and the same model in transformers."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from model import VisionLanguageModel, presets
from model.config import ModelConfig

if TYPE_CHECKING:
    from transformers import Qwen3MoeForCausalLM


def small_config(*, top_k: int = 16) -> ModelConfig:
    """A 2-layer tiny model over 512 tokens, with chunks short enough that every test crosses their borders."""
    config = presets.tiny(vocab_size=512, top_k=top_k, hidden_size=64, layers=2)
    indexer = dataclasses.replace(config.decoder.indexer, query_chunk=16)
    vision = dataclasses.replace(config.vision, hidden_size=32, layers=2, heads=2, intermediate_size=48)
    return dataclasses.replace(config, vision=vision, decoder=dataclasses.replace(config.decoder, indexer=indexer))


def random_model(config: ModelConfig, seed: int = 0) -> VisionLanguageModel:
    """Weights large enough that attention, routing and selection are far from uniform."""
    model = VisionLanguageModel(config, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 1.2 * parameter[0].numel() ** -0.5, generator=generator)
            else:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def text_row(length: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 500, (length,), generator=torch.Generator().manual_seed(seed))


def row_with_images(grids: list[tuple[int, int]], text: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Text, image, text, image, ... text: ids [T], patches, grids [N, 3]."""
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.randint(0, 500, (text,), generator=generator)]
    for h, w in grids:
        parts += [torch.full((h * w // 4,), 511), torch.randint(0, 500, (text,), generator=generator)]
    patches = torch.randn(sum(h * w for h, w in grids), 588, generator=generator).clamp(-1, 1)
    return torch.cat(parts), patches, torch.tensor([(1, h, w) for h, w in grids])


def qwen_of(model: VisionLanguageModel) -> Qwen3MoeForCausalLM:
    """transformers' model of the same geometry and weights, eager attention."""
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    decoder = model.config.decoder
    config = Qwen3MoeConfig(
        vocab_size=decoder.vocab_size,
        hidden_size=decoder.hidden_size,
        num_hidden_layers=decoder.layers,
        num_attention_heads=decoder.heads,
        num_key_value_heads=decoder.kv_heads,
        head_dim=decoder.head_dim,
        num_experts=decoder.moe.experts,
        num_experts_per_tok=decoder.moe.experts_per_token,
        moe_intermediate_size=decoder.moe.expert_size,
        norm_topk_prob=True,
        rms_norm_eps=decoder.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": decoder.rope.theta},
        tie_word_embeddings=False,
        attn_implementation="eager",
    )
    qwen = Qwen3MoeForCausalLM(config).float()
    ours = {name: value for name, value in model.state_dict().items() if name.startswith(("model.", "lm_head."))}
    theirs = {
        name: value.transpose(1, 2) if ".mlp.experts." in name else value
        for name, value in ours.items()
        if ".sa_indexer." not in name
    }
    qwen.load_state_dict(theirs, strict=True)
    return qwen
