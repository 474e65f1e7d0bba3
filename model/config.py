"""The model's configuration: nested, keyword-only, frozen dataclasses, checked when made.

Decided here: a configuration that exists is a configuration that can be built. Every rule that ties two fields together
(head counts, M-RoPE sections, grouped-product alignment) is checked in `__post_init__`, with the offending value in the
message, so no module has to check shapes of its own. What the published report leaves undisclosed is a field here.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

AttentionMode = Literal["dense", "warmup", "sparse"]
BalanceMethod = Literal["loss", "bias", "none"]


def _positive(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        if not value > 0:
            raise ValueError(f"{type(owner).__name__}.{name} must be positive, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """SigLIP-shaped tower at native resolution.

    `position_side`: side of the learned, square position table, resampled to each image's grid.
    `packing_positions`: rows of the unused table that rides in the published checkpoint; 0 leaves it out.
    """

    hidden_size: int = 1152
    layers: int = 27
    heads: int = 16
    intermediate_size: int = 4304
    patch_size: int = 14
    channels: int = 3
    position_side: int = 27
    packing_positions: int = 32768
    rope_theta: float = 1e4
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        _positive(self, "hidden_size", "layers", "heads", "intermediate_size", "patch_size", "channels", "position_side")
        if self.packing_positions < 0:
            raise ValueError(f"VisionConfig.packing_positions must not be negative, got {self.packing_positions}")
        if self.hidden_size % self.heads or self.head_dim % 4:
            raise ValueError(
                f"VisionConfig.hidden_size {self.hidden_size} over {self.heads} heads must give a head dim divisible by 4 "
                f"(two position axes, each in sine/cosine pairs), got {self.hidden_size / self.heads}"
            )

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.heads

    @property
    def patch_values(self) -> int:
        """Numbers in one flattened patch: channels x patch x patch."""
        return self.channels * self.patch_size**2


@dataclass(frozen=True, kw_only=True)
class ProjectorConfig:
    """2 x 2 patches -> one visual token. The LayerNorm epsilon is the public serving code's, 1e-5."""

    merge_size: int = 2
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        _positive(self, "merge_size", "norm_eps")


@dataclass(frozen=True, kw_only=True)
class IndexerConfig:
    """The lightning indexer of DeepSeek Sparse Attention.

    `query_chunk` only bounds memory: values do not depend on it beyond the rounding of a matrix product.
    """

    heads: int = 16
    head_dim: int = 64
    top_k: int = 2048
    norm_eps: float = 1e-6
    query_chunk: int = 64

    def __post_init__(self) -> None:
        _positive(self, "heads", "head_dim", "top_k", "norm_eps", "query_chunk")
        if self.head_dim % 2:
            raise ValueError(f"IndexerConfig.head_dim must be even for RoPE, got {self.head_dim}")


@dataclass(frozen=True, kw_only=True)
class MoEConfig:
    """Softmax router over all experts, the chosen weights renormalised, SwiGLU experts, no shared expert.

    `balance`: "loss" (auxiliary loss, returned), "bias" (auxiliary-loss-free: a per-expert bias that only moves the
    choice, see `VisionLanguageModel.update_router_bias`) or "none".
    """

    experts: int = 128
    experts_per_token: int = 8
    expert_size: int = 768
    renormalise: bool = True
    balance: BalanceMethod = "loss"

    def __post_init__(self) -> None:
        _positive(self, "experts", "experts_per_token", "expert_size")
        if self.experts_per_token > self.experts:
            raise ValueError(f"MoEConfig.experts_per_token {self.experts_per_token} exceeds MoEConfig.experts {self.experts}")
        if self.expert_size % 8:
            raise ValueError(
                f"MoEConfig.expert_size must be a multiple of 8 (grouped products align rows to 16 bytes), "
                f"got {self.expert_size}"
            )
        if self.balance not in ("loss", "bias", "none"):
            raise ValueError(f"MoEConfig.balance must be 'loss', 'bias' or 'none', got {self.balance!r}")


@dataclass(frozen=True, kw_only=True)
class RopeConfig:
    """M-RoPE: `sections` are the frequency pairs given to time, height and width, contiguous, summing to head_dim / 2."""

    theta: float = 1e7
    sections: tuple[int, int, int] = (16, 24, 24)

    def __post_init__(self) -> None:
        _positive(self, "theta")
        if len(self.sections) != 3 or min(self.sections) < 0:
            raise ValueError(f"RopeConfig.sections must be three counts (time, height, width), got {self.sections!r}")


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """The language model: GQA with per-head RMSNorm on q and k, M-RoPE, all layers mixture-of-experts, no biases."""

    vocab_size: int = 151936
    hidden_size: int = 2048
    layers: int = 48
    heads: int = 32
    kv_heads: int = 4
    head_dim: int = 128
    norm_eps: float = 1e-6
    max_positions: int = 262144
    initializer_range: float = 0.02
    rope: RopeConfig = RopeConfig()
    moe: MoEConfig = MoEConfig()
    indexer: IndexerConfig = IndexerConfig()

    def __post_init__(self) -> None:
        _positive(self, "vocab_size", "hidden_size", "layers", "heads", "kv_heads", "head_dim", "max_positions", "norm_eps")
        if self.heads % self.kv_heads:
            raise ValueError(f"DecoderConfig.heads {self.heads} is not a multiple of kv_heads {self.kv_heads}")
        if self.hidden_size % 8:
            raise ValueError(
                f"DecoderConfig.hidden_size must be a multiple of 8 (grouped products align rows to 16 bytes), "
                f"got {self.hidden_size}"
            )
        if 2 * sum(self.rope.sections) != self.head_dim:
            raise ValueError(
                f"RopeConfig.sections {self.rope.sections} sum to {sum(self.rope.sections)}, but DecoderConfig.head_dim "
                f"{self.head_dim} has {self.head_dim // 2} frequency pairs"
            )
        if any(section * self.indexer.head_dim % self.head_dim for section in self.rope.sections):
            raise ValueError(
                f"RopeConfig.sections {self.rope.sections} cannot be scaled by IndexerConfig.head_dim / "
                f"DecoderConfig.head_dim = {self.indexer.head_dim}/{self.head_dim} to whole pairs"
            )

    @property
    def indexer_sections(self) -> tuple[int, int, int]:
        """M-RoPE sections of the indexer's smaller heads: the decoder's, scaled."""
        time, height, width = (s * self.indexer.head_dim // self.head_dim for s in self.rope.sections)
        return time, height, width


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The whole model. `vision` None gives a text-only decoder (a Qwen3-MoE with indexers)."""

    decoder: DecoderConfig = DecoderConfig()
    vision: VisionConfig | None = VisionConfig()
    projector: ProjectorConfig = ProjectorConfig()
    image_token_id: int = 151655
    name: str = "custom"

    def __post_init__(self) -> None:
        if self.vision is not None and not 0 <= self.image_token_id < self.decoder.vocab_size:
            raise ValueError(
                f"ModelConfig.image_token_id {self.image_token_id} lies outside the vocabulary of {self.decoder.vocab_size}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain nested values, for printing a run's configuration in full."""
        return dataclasses.asdict(self)

    def with_top_k(self, top_k: int) -> ModelConfig:
        """The same model reading another number of tokens a query."""
        indexer = dataclasses.replace(self.decoder.indexer, top_k=top_k)
        return dataclasses.replace(self, decoder=dataclasses.replace(self.decoder, indexer=indexer))
