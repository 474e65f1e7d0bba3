"""What training a plan costs on given GPUs: operations, hours and memory of each phase, and the parallel plan that is cheapest.

Operations come from the model's own counts (`model.costs`) and the plan's figures: tokens, pictures, visible and read query-key
pairs. With F a part's forward pass, training costs by what a phase trains

    everything   3 F of vision, projector and decoder             (forward, and two products backward); where attention is
                 sparse F of the indexers, and 2 F of their projections and of the pairs that are read
    projector    F of vision, 3 F of the projector, 2 F of the decoder   (its gradient passes through, its weights have none)
    indexer      F of vision, projector and decoder, 3 F of the indexers

and one F more of what passes gradients (decoder; vision when it trains) when activations are recomputed. Norms, softmax and
the optimiser are left out, as in `model.costs`. Pictures are counted as frames of the recipe's largest size, because
attention in the vision tower grows with the square of a picture.

    step = passes x operations of a sequence / (ranks that share it x peak x MFU) + its traffic     (`trainer.traffic`)
    wall = steps x step          GPU-hours = wall x GPUs

Decided here: a stage has one parallel plan, because a launch has. Where none is given it is the one with the fewest hours among
those whose every phase fits (`trainer.memory`), the simplest of equals; where none fits, the one that misses by least.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from manifests.errors import UsageError
from manifests.recipe import Recipe
from manifests.stage_spec import PhaseSpec, StageSpec
from model.config import ModelConfig
from model.costs import forward_flops, parameters
from trainer.gpus import Gpu, gpu_named
from trainer.layout import Layout, layouts
from trainer.memory import Memory, checkpoint_bytes, frames, memory, width
from trainer.model_shape import model_config
from trainer.traffic import Traffic, traffic, with_network

MFU = 0.35


@dataclass(frozen=True, kw_only=True)
class PhaseEstimate:
    """What one phase costs under a parallel plan.

    Attributes:
        flops: operations of the whole phase.
        passes: forward passes (micro-steps) of a GPU in a step. step_tokens: tokens a GPU and step.
        compute_s, traffic: of one step.
        memory: bytes on each GPU. room: what a GPU may use.
        checkpoint, model: bytes on disk of a checkpoint within the phase, and of the exported model.
    """

    stage: int
    phase: str
    layout: Layout
    steps: int
    tokens: int
    flops: float
    passes: int
    step_tokens: float
    compute_s: float
    traffic: Traffic
    memory: Memory
    room: float
    checkpoint: int
    model: int

    @property
    def step_s(self) -> float:
        """Seconds of a step."""
        return self.compute_s + self.traffic.seconds

    @property
    def wall_hours(self) -> float:
        """Of the phase."""
        return self.steps * self.step_s / 3600

    @property
    def gpu_hours(self) -> float:
        """Of the phase, waiting included."""
        return self.wall_hours * self.layout.ranks

    @property
    def fits(self) -> bool:
        """Whether each GPU has room for all parts at once."""
        return self.memory.total <= self.room

    @property
    def too_large(self) -> str | None:
        """The largest part, when the parts do not fit; None when they do."""
        return None if self.fits else next(iter(self.memory.parts))


def estimate(
    recipe: Recipe,
    figures: Sequence[Mapping[str, Any]],
    *,
    gpu: str,
    gpus: int,
    mfu: float = MFU,
    zero: int | None = None,
    sequence: int | None = None,
    expert: int | None = None,
    network: float | None = None,
) -> list[PhaseEstimate]:
    """Costs of every phase of a plan.

    Args:
        figures: of each stage, as `curriculum.plan` counts them: ``stage``, ``sequences``, ``steps``, ``tokens``,
            ``visual_tokens``, ``visible_pairs``, ``read_pairs``.
        gpu: a name in `trainer.gpus.GPUS`. gpus: how many. mfu: share of the peak that is reached while computing (0.3 to 0.45
            is usual for MoE models).
        zero, sequence, expert: the parallel plan, as far as it is given; None is chosen.
        network: GB/s of a GPU to another node; None: the GPU's usual.

    Raises:
        UsageError: no such GPU, a number that makes no sense, or choices that do not go together.
    """
    kind = with_network(gpu_named(gpu), network)
    if gpus < 1 or not 0 < mfu <= 1 or (network is not None and network <= 0):
        raise UsageError(f"gpus={gpus} must be at least 1, mfu={mfu} in (0, 1] and the network above 0 GB/s")
    config = model_config(recipe)
    possible = list(layouts(gpus, recipe.train, config, zero=zero, sequence=sequence, expert=expert))
    found: list[PhaseEstimate] = []
    for counted in figures:
        stage = recipe.stages[counted["stage"]]
        found += _cheapest([_stage(recipe, config, stage, counted, kind, mfu, layout) for layout in possible])
    return found


def _cheapest(plans: list[list[PhaseEstimate]]) -> list[PhaseEstimate]:
    """Of plans of one stage, the simplest first."""
    fitting = [phases for phases in plans if all(phase.fits for phase in phases)]
    if fitting:
        # A thousandth of the time is worth no ranks that share.
        return min(fitting, key=lambda phases: float(f"{sum(phase.wall_hours for phase in phases):.3g}"))
    return min(plans, key=lambda phases: max(phase.memory.total for phase in phases))


def _stage(
    recipe: Recipe, config: ModelConfig, stage: StageSpec, counted: Mapping[str, Any], gpu: Gpu, mfu: float, layout: Layout
) -> list[PhaseEstimate]:
    passes = layout.passes(stage.sequences_per_step)
    sequences = max(counted["sequences"], 1)
    found = []
    for phase in stage.phases:
        flops = training_flops(recipe, config, phase, counted)
        found.append(
            PhaseEstimate(
                stage=stage.number,
                phase=phase.name,
                layout=layout,
                steps=round(phase.share * counted["steps"]),
                tokens=round(phase.share * counted["tokens"]),
                flops=phase.share * flops,
                passes=passes,
                step_tokens=counted["tokens"] / max(counted["steps"], 1) / layout.ranks,
                compute_s=passes * flops / sequences / layout.sequence / (gpu.flops * mfu),
                traffic=traffic(recipe, config, stage, phase, layout, gpu, counted["tokens"] / sequences),
                memory=memory(recipe, config, stage, phase, layout),
                room=gpu.room,
                checkpoint=checkpoint_bytes(config, phase),
                model=sum(parameters(config).values()) * width(recipe),
            )
        )
    return found


def training_flops(recipe: Recipe, config: ModelConfig, phase: PhaseSpec, counted: Mapping[str, Any]) -> float:
    """Operations of training on all sequences of a stage in the manner of one phase."""
    tokens, visual = counted["tokens"], counted["visual_tokens"]
    one = forward_flops(config, [1], attention="sparse")
    cost = recipe.model.cost
    read = counted["read_pairs"] if phase.attention == "sparse" else counted["visible_pairs"]
    decoder = tokens * (one.decoder_linear + one.lm_head) + read * one.attention
    indexer = taught = 0.0
    if phase.attention != "dense":
        indexer = tokens * cost.indexer_token + counted["visible_pairs"] * cost.scored_pair
        taught = tokens * cost.indexer_token + read * cost.scored_pair
    (frame,) = frames(recipe, recipe.visual.frame_tokens_max)
    looked = forward_flops(config, [], [frame])
    pictures = visual / recipe.visual.frame_tokens_max
    vision, projector = looked.vision * pictures, looked.projector * pictures
    again = int(recipe.train.activation_checkpointing)
    if phase.trains == "everything":
        return (3 + again) * (vision + decoder) + (1 + again) * indexer + 2 * taught + 3 * projector
    if phase.trains == "projector":
        return vision + 3 * projector + (2 + again) * decoder
    return vision + projector + decoder + indexer + 2 * taught
