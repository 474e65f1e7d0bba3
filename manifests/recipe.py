"""What a recipe IS: one nested, validated, keyword-only configuration for the whole road, from raw file to checkpoint.

`curriculum.recipes` holds the functions that return one; every package receives only the part that concerns it. The recipe that
made a corpus is written into it, so that a later step with another idea of tokens or pixels is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from manifests.curate_spec import CurateSpec
from manifests.fingerprint import value_id
from manifests.require import require as _require
from manifests.stage_spec import ModelSpec, StageSpec
from manifests.synth_spec import SynthSpec
from manifests.visual import VisualSpec


@dataclass(frozen=True, kw_only=True)
class BucketSpec:
    """Upper edges of the buckets. The names are the published sizes; a scaled recipe scales the edges, not the names.

    Attributes:
        context: tokens that ``32k``, ``64k`` and ``256k`` hold. A sample belongs to the smallest that holds it.
        duration_s: seconds that ``15s``, ``15min`` and ``2h`` hold.
    """

    context_32k: int = 32_768
    context_64k: int = 65_536
    context_256k: int = 262_144
    duration_15s: float = 15.0
    duration_15min: float = 900.0
    duration_2h: float = 7_200.0

    def __post_init__(self) -> None:
        edges = [self.context_32k, self.context_64k, self.context_256k]
        _require(0 < edges[0] < edges[1] < edges[2], f"context edges {edges} must rise from above 0")
        seconds = [self.duration_15s, self.duration_15min, self.duration_2h]
        _require(0 < seconds[0] < seconds[1] < seconds[2], f"duration edges {seconds} must rise from above 0")

    def context(self, tokens: int) -> str | None:
        """The context bucket of a sample of ``tokens`` tokens; None when no bucket holds it."""
        for name, edge in (("32k", self.context_32k), ("64k", self.context_64k), ("256k", self.context_256k)):
            if tokens <= edge:
                return name
        return None

    def duration(self, seconds: float | None) -> str | None:
        """The duration bucket of a video of ``seconds`` s; None without video, and when no bucket holds it."""
        if seconds is None:
            return None
        for name, edge in (("15s", self.duration_15s), ("15min", self.duration_15min), ("2h", self.duration_2h)):
            if seconds <= edge + 1e-6:
                return name
        return None


@dataclass(frozen=True, kw_only=True)
class TrainSpec:
    """How the trainer runs, beyond what a stage says.

    Attributes:
        precision: ``fp32`` or ``bf16``.
        zero_stage: DeepSpeed ZeRO stage, 0 to 3.
        gradient_clip: largest global gradient norm.
        weight_decay: AdamW's.
        checkpoint_steps: optimiser steps between checkpoints; every phase also ends with one.
        activation_checkpointing: recompute decoder layers in backward.
        heldout_sequences: packed held-out sequences evaluated before and after every stage, at most.
        spike_mads: a step's update is left out when its loss is so many (normalised) median deviations above the median of
            the last ``spike_window`` steps; 0 leaves only losses and gradients that are no numbers out (`trainer.bad_steps`).
        spike_window: steps that the rule looks back on.
        skipped_max: the run ends when so many steps of a window were left out.
    """

    precision: Literal["fp32", "bf16"] = "bf16"
    zero_stage: int = 1
    gradient_clip: float = 1.0
    weight_decay: float = 0.1
    checkpoint_steps: int = 500
    activation_checkpointing: bool = True
    heldout_sequences: int = 512
    spike_mads: float = 10.0
    spike_window: int = 128
    skipped_max: int = 8

    def __post_init__(self) -> None:
        _require(self.precision in ("fp32", "bf16"), f"train: precision={self.precision!r} must be fp32 or bf16")
        _require(self.zero_stage in (0, 1, 2, 3), f"train: zero_stage={self.zero_stage} must be 0 to 3")
        _require(self.gradient_clip > 0, f"train: gradient_clip={self.gradient_clip} must be above 0")
        _require(self.weight_decay >= 0, f"train: weight_decay={self.weight_decay} must not be negative")
        _require(self.checkpoint_steps > 0, f"train: checkpoint_steps={self.checkpoint_steps} must be above 0")
        _require(self.heldout_sequences > 0, f"train: heldout_sequences={self.heldout_sequences} must be above 0")
        _require(self.spike_mads >= 0, f"train: spike_mads={self.spike_mads} must not be negative")
        _require(self.spike_window > 0, f"train: spike_window={self.spike_window} must be above 0")
        _require(self.skipped_max > 0, f"train: skipped_max={self.skipped_max} must be above 0")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The whole road in one value.

    Attributes:
        name: what ``--recipe`` calls it.
        tokenizer: a bundled tokenizer or a folder (`manifests.tokenizer.load_tokenizer`).
    """

    name: str
    tokenizer: str
    curate: CurateSpec
    stages: tuple[StageSpec, ...]
    model: ModelSpec
    visual: VisualSpec = field(default_factory=VisualSpec)
    buckets: BucketSpec = field(default_factory=BucketSpec)
    synth: SynthSpec = field(default_factory=SynthSpec)
    train: TrainSpec = field(default_factory=TrainSpec)

    def __post_init__(self) -> None:
        numbers = [stage.number for stage in self.stages]
        _require(numbers == [0, 1, 2, 3], f"a recipe has the stages 0, 1, 2, 3, not {numbers}")
        contexts = [stage.context for stage in self.stages]
        _require(contexts == sorted(contexts), f"the contexts of the stages must not fall: {contexts}")

    @property
    def cost_fingerprint(self) -> str:
        """What token counts depend on. Two recipes that share it can share a corpus."""
        return value_id({"tokenizer": self.tokenizer, "visual": self.visual, "buckets": self.buckets})
