"""Named configurations: the published geometry, one that trains on one GPU, one that trains on a laptop.

Decided here: all three have the same parts in the same proportions (GQA groups of 4-8 query heads, M-RoPE sections in
the ratio 2:3:3, half or more of the head width for the indexer, softmax top-k experts), so that what is shown on
`tiny` is a property of the architecture and not of a likeness of it. The image token is Qwen's `<|image_pad|>` where
the Qwen vocabulary is used; `tiny` takes the last id of its vocabulary unless it is told.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable

from model.config import (
    BalanceMethod,
    DecoderConfig,
    IndexerConfig,
    ModelConfig,
    MoEConfig,
    ProjectorConfig,
    RopeConfig,
    VisionConfig,
)


def keye_vl_2_30b_a3b() -> ModelConfig:
    """The published model: 31,122,082,160 parameters, about 3B active a token (arXiv 2606.10651)."""
    return ModelConfig(name="keye_vl_2_30b_a3b")


def small(*, vocab_size: int = 151936, top_k: int = 512, image_token_id: int = 151655) -> ModelConfig:
    """About 0.9 billion parameters, 0.4 of them in the embeddings and the head: trains on one GPU."""
    return ModelConfig(
        name="small",
        image_token_id=image_token_id,
        vision=VisionConfig(hidden_size=768, layers=12, heads=12, intermediate_size=3072, packing_positions=0),
        projector=ProjectorConfig(),
        decoder=DecoderConfig(
            vocab_size=vocab_size,
            hidden_size=1024,
            layers=16,
            heads=16,
            kv_heads=2,
            head_dim=64,
            rope=RopeConfig(sections=(8, 12, 12)),
            moe=MoEConfig(experts=32, experts_per_token=4, expert_size=256),
            indexer=IndexerConfig(heads=8, head_dim=32, top_k=top_k),
        ),
    )


def tiny(
    *,
    vocab_size: int = 8192,
    top_k: int = 64,
    image_token_id: int | None = None,
    hidden_size: int = 192,
    layers: int = 4,
    experts: int = 8,
    max_positions: int = 8192,
    balance: BalanceMethod = "loss",
) -> ModelConfig:
    """About 9 million parameters at the default vocabulary, 3.1 of them in the embeddings and the head.

    Contexts are 1/32 of the published ones, so is `top_k` (2048 / 32 = 64).
    """
    return ModelConfig(
        name="tiny",
        image_token_id=vocab_size - 1 if image_token_id is None else image_token_id,
        vision=VisionConfig(hidden_size=128, layers=3, heads=4, intermediate_size=384, packing_positions=0),
        projector=ProjectorConfig(),
        decoder=DecoderConfig(
            vocab_size=vocab_size,
            hidden_size=hidden_size,
            layers=layers,
            heads=8,
            kv_heads=2,
            head_dim=32,
            max_positions=max_positions,
            rope=RopeConfig(sections=(4, 6, 6)),
            moe=MoEConfig(experts=experts, experts_per_token=2, expert_size=192, balance=balance),
            indexer=IndexerConfig(heads=4, head_dim=32, top_k=top_k),
        ),
    )


_PRESETS: dict[str, Callable[..., ModelConfig]] = {
    "keye_vl_2_30b_a3b": keye_vl_2_30b_a3b,
    "small": small,
    "tiny": tiny,
}


def by_name(name: str, **fields: int | str | None) -> ModelConfig:
    """The preset of that name, its own keyword fields passed on.

    Raises:
        ValueError: for an unknown name, naming the nearest known one.
    """
    if name not in _PRESETS:
        near = difflib.get_close_matches(name, _PRESETS, n=1, cutoff=0.0)[0]
        raise ValueError(f"unknown model preset {name!r}; nearest is {near!r}, known are {sorted(_PRESETS)}")
    return _PRESETS[name](**fields)
