"""What the model costs: parameters and floating-point operations per part, as exact functions of the configuration.

Decided here: a multiply-add counts as two operations; norms, activations, softmax and RoPE are left out (they are
bandwidth). Training is three times the forward for whatever trains. Attention is counted over the pairs that are
really read: all visible pairs when dense, at most k a query when sparse; the indexer always scores all visible pairs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from model.config import AttentionMode, ModelConfig


def parameters(config: ModelConfig) -> dict[str, int]:
    """Parameters by part; the published model's sum to 31,122,082,160. `decoder` leaves out embeddings, head and
    indexers."""
    decoder, indexer, moe = config.decoder, config.decoder.indexer, config.decoder.moe
    size = decoder.hidden_size
    attention = 2 * size * decoder.head_dim * (decoder.heads + decoder.kv_heads) + 2 * decoder.head_dim
    experts = 3 * moe.experts * size * moe.expert_size + moe.experts * size
    per_indexer = size * (indexer.heads * (indexer.head_dim + 1) + indexer.head_dim) + 3 * indexer.head_dim
    parts = {
        "vision": 0,
        "projector": 0,
        "embeddings": decoder.vocab_size * size,
        "decoder": decoder.layers * (attention + experts + 2 * size) + size,
        "indexer": decoder.layers * per_indexer,
        "lm_head": decoder.vocab_size * size,
    }
    if config.vision is not None:
        vision = config.vision
        wide, mlp = vision.hidden_size, vision.intermediate_size
        layer = 4 * (wide * wide + wide) + 2 * wide * mlp + mlp + wide + 4 * wide
        tables = (vision.position_side**2 + vision.packing_positions) * wide
        parts["vision"] = vision.patch_values * wide + wide + tables + vision.layers * layer + 2 * wide
        merged = wide * config.projector.merge_size**2
        parts["projector"] = 2 * merged + merged * merged + merged + merged * size + size
    return parts


@dataclass(frozen=True, kw_only=True)
class Flops:
    """Operations of one forward pass."""

    vision: int
    projector: int
    decoder_linear: int
    attention: int
    indexer: int
    lm_head: int

    @property
    def total(self) -> int:
        return self.vision + self.projector + self.decoder_linear + self.attention + self.indexer + self.lm_head


def visible_pairs(length: int, top_k: int | None = None) -> int:
    """Query-key pairs read in one causal sample: all (`top_k` None), or at most `top_k` a query."""
    if top_k is None or length <= top_k:
        return length * (length + 1) // 2
    return top_k * (top_k + 1) // 2 + (length - top_k) * top_k


def forward_flops(
    config: ModelConfig, lengths: Iterable[int], grids: Iterable[tuple[int, int]] = (), *, attention: AttentionMode = "dense"
) -> Flops:
    """Operations of one forward pass over a packed row.

    Args:
        lengths: tokens of each sample. grids: (h, w) in patches of each image or frame. attention: the mode; warm-up
            also runs the indexer over all pairs.
    """
    lengths, grids = list(lengths), list(grids)
    tokens, decoder, indexer, moe = sum(lengths), config.decoder, config.decoder.indexer, config.decoder.moe
    size = decoder.hidden_size
    linear = size * decoder.head_dim * 2 * (decoder.heads + decoder.kv_heads) + size * moe.experts
    linear += 3 * moe.experts_per_token * size * moe.expert_size
    read = sum(visible_pairs(length, indexer.top_k if attention == "sparse" else None) for length in lengths)
    scoring = 0
    if attention != "dense":
        projections = tokens * size * (indexer.heads * (indexer.head_dim + 1) + indexer.head_dim)
        scoring = projections + sum(visible_pairs(length) for length in lengths) * indexer.heads * (indexer.head_dim + 1)
    seeing, projecting = 0, 0
    if config.vision is not None:
        vision, patches = config.vision, sum(h * w for h, w in grids)
        wide = vision.hidden_size
        layer = patches * (4 * wide * wide + 2 * wide * vision.intermediate_size) + 2 * wide * sum(
            (h * w) ** 2 for h, w in grids
        )
        seeing = patches * vision.patch_values * wide + vision.layers * layer
        merged = wide * config.projector.merge_size**2
        projecting = patches // config.projector.merge_size**2 * (merged * merged + merged * size)
    return Flops(
        vision=2 * seeing,
        projector=2 * projecting,
        decoder_linear=2 * tokens * decoder.layers * linear,
        attention=2 * decoder.layers * read * 2 * decoder.heads * decoder.head_dim,
        indexer=2 * decoder.layers * scoring,
        lm_head=2 * tokens * size * decoder.vocab_size,
    )
