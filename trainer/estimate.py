"""What training a plan costs on given GPUs: operations, hours and memory of each stage, before anything is trained.

Operations come from the model's own counts (`model.costs`) and the plan's figures: tokens, pictures, visible and read query-key
pairs. With F a part's forward pass, training costs by what a phase trains

    everything   3 F of vision, projector and decoder             (forward, and two products backward)
    projector    F of vision, 3 F of the projector, 2 F of the decoder   (its gradient passes through, its weights have none)
    indexer      F of vision, projector and decoder, 3 F of the indexers

and one F more of what passes gradients (decoder; vision when it trains) when activations are recomputed. Norms, softmax and
the optimiser are left out, as in `model.costs`. Pictures are counted as frames of the recipe's largest size, because
attention in the vision tower grows with the square of a picture.

    GPU-hours = operations / (peak operations a second x MFU) / 3600      wall = GPU-hours / GPUs

Memory of one GPU, with P parameters, T of them trained, N GPUs (Rajbhandari et al. 2020, ZeRO):

    weights      2 P bytes in bf16, 4 P in fp32           / N under ZeRO 3
    gradients    as weights, for T                        / N under ZeRO 2 and 3
    optimiser    12 T bytes (8 T in fp32): fp32 copy and two moments   / N under ZeRO 1 to 3
    activations  `model.activations` for one packed sequence that is one sample as long as the context, in fp32: an upper bound

The trainer splits no sequence over GPUs, so activations are a whole sequence's. A GPU counts as full at `USABLE` of its memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from manifests.errors import UsageError
from manifests.recipe import Recipe
from manifests.stage_spec import PhaseSpec, StageSpec
from model.activations import activations
from model.config import ModelConfig
from model.costs import forward_flops, parameters
from trainer.model_shape import model_config

USABLE = 0.92


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """Peak bf16 operations a second without sparsity, and bytes of memory, as its maker's data sheet gives them."""

    name: str
    flops: float
    memory: float


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu(name="a100", flops=312e12, memory=80e9),
        Gpu(name="h100", flops=989e12, memory=80e9),
        Gpu(name="h200", flops=989e12, memory=141e9),
        Gpu(name="b200", flops=2250e12, memory=180e9),
    )
}


@dataclass(frozen=True, kw_only=True)
class PhaseEstimate:
    """What one phase costs.

    Attributes:
        flops: operations of the whole phase.
        gpu_hours, wall_hours: at the given share of the peak.
        weights, gradients, optimiser, activations: bytes on each GPU.
        room: bytes that a GPU may use.
    """

    stage: int
    phase: str
    steps: int
    tokens: int
    flops: float
    gpu_hours: float
    wall_hours: float
    weights: float
    gradients: float
    optimiser: float
    activations: float
    room: float

    @property
    def memory(self) -> float:
        """Bytes on each GPU in all."""
        return self.weights + self.gradients + self.optimiser + self.activations

    @property
    def too_large(self) -> str | None:
        """The largest part, when the parts do not fit; None when they do."""
        parts = ("weights", "gradients", "optimiser", "activations")
        return None if self.memory <= self.room else max(parts, key=lambda part: float(getattr(self, part)))


def estimate(
    recipe: Recipe, figures: Sequence[Mapping[str, Any]], *, gpu: str, gpus: int, mfu: float = 0.35
) -> list[PhaseEstimate]:
    """Costs of every phase of a plan.

    Args:
        figures: of each stage, as `curriculum.plan` counts them: ``sequences``, ``steps``, ``tokens``, ``visual_tokens``,
            ``visible_pairs``, ``read_pairs``.
        gpu: a name in `GPUS`. gpus: how many. mfu: share of the peak that is reached (0.3 to 0.45 is usual for MoE models).

    Raises:
        UsageError: no such GPU, or a number that makes no sense.
    """
    if gpu not in GPUS:
        raise UsageError(f"no GPU {gpu!r}; known are {', '.join(sorted(GPUS))}")
    if gpus < 1 or not 0 < mfu <= 1:
        raise UsageError(f"gpus={gpus} must be at least 1 and mfu={mfu} in (0, 1]")
    config = model_config(recipe)
    return [
        _phase(recipe, config, stage, phase, counted, GPUS[gpu], gpus, mfu)
        for stage, counted in zip(recipe.stages, figures, strict=True)
        for phase in stage.phases
    ]


def _phase(
    recipe: Recipe, config: ModelConfig, stage: StageSpec, phase: PhaseSpec, counted: Mapping[str, Any], gpu: Gpu, gpus: int,
    mfu: float,
) -> PhaseEstimate:  # fmt: skip
    flops = phase.share * training_flops(recipe, config, phase, counted)
    hours = flops / (gpu.flops * mfu) / 3600
    by_part = parameters(config)
    every = sum(by_part.values())
    trained = {
        "everything": every,
        "projector": by_part["projector"],
        "indexer": by_part["indexer"],
    }[phase.trains]
    width = 2 if recipe.train.precision == "bf16" else 4
    zero = recipe.train.zero_stage
    kept = activations(
        config,
        [stage.context],
        _frames(recipe, stage.visual_budget),
        attention=phase.attention,
        trains=phase.trains,
        checkpointing=recipe.train.activation_checkpointing,
    )
    return PhaseEstimate(
        stage=stage.number,
        phase=phase.name,
        steps=round(phase.share * counted["steps"]),
        tokens=round(phase.share * counted["tokens"]),
        flops=flops,
        gpu_hours=hours,
        wall_hours=hours / gpus,
        weights=every * width / (gpus if zero == 3 else 1),
        gradients=trained * width / (gpus if zero >= 2 else 1),
        optimiser=trained * (12 if width == 2 else 8) / (gpus if zero >= 1 else 1),
        activations=kept.peak,
        room=gpu.memory * USABLE,
    )


def training_flops(recipe: Recipe, config: ModelConfig, phase: PhaseSpec, counted: Mapping[str, Any]) -> float:
    """Operations of training on all sequences of a stage in the manner of one phase."""
    tokens, visual = counted["tokens"], counted["visual_tokens"]
    one = forward_flops(config, [1], attention="sparse")
    cost = recipe.model.cost
    read = counted["read_pairs"] if phase.attention == "sparse" else counted["visible_pairs"]
    decoder = tokens * (one.decoder_linear + one.lm_head) + read * one.attention
    indexer = 0.0
    if phase.attention != "dense":
        indexer = tokens * cost.indexer_token + counted["visible_pairs"] * cost.scored_pair
    (frame,) = _frames(recipe, recipe.visual.frame_tokens_max)
    looked = forward_flops(config, [], [frame])
    pictures = visual / recipe.visual.frame_tokens_max
    vision, projector = looked.vision * pictures, looked.projector * pictures
    again = int(recipe.train.activation_checkpointing)
    if phase.trains == "everything":
        return (3 + again) * (vision + decoder + indexer) + 3 * projector
    if phase.trains == "projector":
        return vision + 3 * projector + (2 + again) * decoder
    return vision + projector + decoder + 3 * indexer


def _frames(recipe: Recipe, visual_tokens: int) -> list[tuple[int, int]]:
    """Grids in patches of as many largest frames as ``visual_tokens`` hold; a smaller rest is left out."""
    visual = recipe.visual
    side = visual.merge * int(min(visual_tokens, visual.frame_tokens_max) ** 0.5)
    each = max(1, (side // visual.merge) ** 2)
    return [(side, side)] * (visual_tokens // each) if side else []
