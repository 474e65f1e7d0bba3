"""Bytes that one phase takes on each GPU under a parallel plan, part by part.

With P parameters, T of them trained, w bytes a value (2 in bf16, 4 in fp32), W ranks, of which E share the experts; X are the
experts' parameters, and P and T below leave them out where E > 1 (Rajbhandari et al. 2020, and what DeepSpeed holds, which a
test counts):

    weights      P w, / W under ZeRO 3; with E: + X w / E
    gathered     ZeRO 3 alone: whole weights while they are used, at most `LIVE` of them
    gradients    T w, / W under ZeRO 2 and 3; with E: + X w / E, / W instead under ZeRO 2; and a bucket of at most `BUCKET`
                 values being summed, with E always as many
    optimiser    ZeRO 1 to 3: 12 T / W, a float32 copy and two moments; with E: + 12 X / W
                 ZeRO 0: the two moments, 8 T (fp32 only: in bf16 it keeps no copy, and is refused)
    activations  `model.activations` for one packed sequence that is one sample as long as the context, on one of its ranks

Decided here: with ZeRO 1 all gradients count, because they add up over the passes of a step before they are divided.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from manifests.recipe import Recipe
from manifests.stage_spec import PhaseSpec, StageSpec
from model.activations import activations
from model.config import ModelConfig
from model.costs import parameters
from trainer.layout import Layout

# DeepSpeed's defaults, which the trainer leaves as they are: stage3_max_live_parameters and reduce_bucket_size.
LIVE, BUCKET = 1_000_000_000, 500_000_000


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on each GPU."""

    weights: float
    gathered: float
    gradients: float
    optimiser: float
    activations: float

    @property
    def parts(self) -> dict[str, float]:
        """By name, the largest first."""
        return dict(sorted(dataclasses.asdict(self).items(), key=lambda part: -part[1]))

    @property
    def total(self) -> float:
        """All of them."""
        return sum(self.parts.values())


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Parameters in all and trained by a phase, the experts' apart."""

    every: int
    trained: int
    experts: int
    trained_experts: int


def counts(config: ModelConfig, phase: PhaseSpec) -> Counts:
    """What there is to hold."""
    by_part = parameters(config)
    moe = config.decoder.moe
    experts = config.decoder.layers * 3 * moe.experts * config.decoder.hidden_size * moe.expert_size
    every = sum(by_part.values())
    if phase.trains != "everything":
        return Counts(every=every - experts, trained=by_part[phase.trains], experts=experts, trained_experts=0)
    trained = every - (by_part["indexer"] if phase.attention == "dense" else 0)
    return Counts(every=every - experts, trained=trained - experts, experts=experts, trained_experts=experts)


def width(recipe: Recipe) -> int:
    """Bytes of a value in the recipe's precision."""
    return 2 if recipe.train.precision == "bf16" else 4


def memory(recipe: Recipe, config: ModelConfig, stage: StageSpec, phase: PhaseSpec, layout: Layout) -> Memory:
    """Bytes of one phase on each GPU."""
    held, w, ranks, apart = counts(config, phase), width(recipe), layout.ranks, layout.expert > 1
    every = held.every if apart else held.every + held.experts
    trained = held.trained if apart else held.trained + held.trained_experts
    experts, trained_experts = (n / layout.expert if apart else 0.0 for n in (held.experts, held.trained_experts))
    peers = ranks // layout.expert  # those that have the same experts
    divided = {stage: ranks if layout.zero >= stage else 1 for stage in (1, 2, 3)}
    kept = activations(
        config,
        [stage.context],
        frames(recipe, stage.visual_budget),
        attention=phase.attention,
        trains=phase.trains,
        checkpointing=recipe.train.activation_checkpointing,
        width=w,
        ranks=layout.sequence,
    )
    bucket = BUCKET if trained_experts else min(trained, BUCKET)
    return Memory(
        weights=every * w / divided[3] + experts * w,
        gathered=min(every, LIVE) * w * (1 - 1 / ranks) if layout.zero == 3 else 0.0,
        gradients=trained * w / divided[2]
        + trained_experts * w / (peers if layout.zero == 2 else 1)
        + (bucket * w if ranks > 1 else 0),
        optimiser=(8 if layout.zero == 0 else 12) * trained / divided[1] + 12 * trained_experts / peers,
        activations=kept.peak,
    )


def checkpoint_bytes(config: ModelConfig, phase: PhaseSpec) -> int:
    """A checkpoint within a phase: what is trained in float32, and its two moments."""
    held = counts(config, phase)
    return 12 * (held.trained + held.trained_experts)


def frames(recipe: Recipe, visual_tokens: int) -> list[tuple[int, int]]:
    """Grids in patches of as many largest frames as ``visual_tokens`` hold; a smaller rest is left out."""
    visual = recipe.visual
    side = visual.merge * int(min(visual_tokens, visual.frame_tokens_max) ** 0.5)
    each = max(1, (side // visual.merge) ** 2)
    return [(side, side)] * (visual_tokens // each) if side else []
