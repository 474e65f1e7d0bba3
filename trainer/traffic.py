"""Bytes that one GPU sends in an optimiser step under a parallel plan, and the time they take on its links.

With S trained and P parameters, w bytes a value, W ranks and n passes a step, of which N ranks share a sequence of T tokens and
E the experts (ring algorithms; what a rank sends it also receives):

    data      (W - 1) / W times   ZeRO 0: 2 S w     ZeRO 1: 2 S w     ZeRO 2: (n + 1) S w
              ZeRO 3: n (g P + S) w, g the times that weights are gathered in a pass: forward, backward, and again to recompute
              with E: the experts' gradients, 2 (1 - E / W) 4 X / E, once
    sequence  n (N - 1) / N times, a layer: keys and values of T tokens, 2 G D w each, forward, recomputed, and their gradients
              back; where indexers run, E_idx w for theirs
    experts   n (E - 1) / E times, a layer: the hidden states of the K choices of T / N tokens, there and back, forward,
              recomputed and backward

Decided here: nothing is hidden behind computing. DeepSpeed runs with overlap_comm off, and the exchanges of a layer are waited
for. All traffic of a group larger than a node goes at the network's speed, so these times are an upper bound.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from manifests.recipe import Recipe
from manifests.stage_spec import PhaseSpec, StageSpec
from model.config import ModelConfig
from trainer.gpus import Gpu
from trainer.layout import Layout
from trainer.memory import counts, width


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Bytes that a GPU sends in a step, by what they are for, and the seconds of all of them."""

    data: float
    sequence: float
    experts: float
    seconds: float

    @property
    def total(self) -> float:
        """All bytes."""
        return self.data + self.sequence + self.experts


def traffic(
    recipe: Recipe, config: ModelConfig, stage: StageSpec, phase: PhaseSpec, layout: Layout, gpu: Gpu, tokens: float
) -> Traffic:
    """Of one optimiser step with all its sequences; `tokens` of a packed sequence on average."""
    passes = layout.passes(stage.sequences_per_step)
    runs = _runs(phase, checkpointing=recipe.train.activation_checkpointing)
    data = _data(recipe, config, phase, layout, passes, runs)
    sequence = passes * tokens * _sequence(recipe, config, phase, layout, runs)
    experts = passes * tokens / layout.sequence * _experts(recipe, config, layout, runs)
    seconds = data / gpu.link(layout.ranks) + sequence / gpu.link(layout.sequence) + experts / gpu.link(layout.expert)
    return Traffic(data=data, sequence=sequence, experts=experts, seconds=seconds)


@dataclass(frozen=True)
class _Runs:
    """How often a decoder layer runs forward (recomputed counts again) and backward."""

    forward: int
    backward: int


def _runs(phase: PhaseSpec, *, checkpointing: bool) -> _Runs:
    if phase.trains == "indexer":
        return _Runs(1, 0)
    return _Runs(2 if checkpointing else 1, 1)


def _data(recipe: Recipe, config: ModelConfig, phase: PhaseSpec, layout: Layout, passes: int, runs: _Runs) -> float:
    held, w, ranks, apart = counts(config, phase), width(recipe), layout.ranks, layout.expert > 1
    if ranks == 1:
        return 0.0
    every = held.every if apart else held.every + held.experts
    trained = held.trained if apart else held.trained + held.trained_experts
    if layout.zero == 3:
        values = passes * ((runs.forward + runs.backward) * every + trained)
    else:
        values = (passes + 1 if layout.zero == 2 else 2) * trained
    copies = 2 * (1 - layout.expert / ranks) * 4 * held.trained_experts / layout.expert if apart else 0.0
    return (ranks - 1) / ranks * values * w + copies


def _sequence(recipe: Recipe, config: ModelConfig, phase: PhaseSpec, layout: Layout, runs: _Runs) -> float:
    """For a token of the sequence."""
    decoder, others = config.decoder, (layout.sequence - 1) / layout.sequence
    keys = 2 * decoder.kv_heads * decoder.head_dim * (runs.forward + runs.backward)
    if phase.attention != "dense":
        keys += decoder.indexer.head_dim * (runs.forward + 1)
    return others * decoder.layers * keys * width(recipe)


def _experts(recipe: Recipe, config: ModelConfig, layout: Layout, runs: _Runs) -> float:
    """For a token of this rank."""
    decoder, others = config.decoder, (layout.expert - 1) / layout.expert
    rows = decoder.moe.experts_per_token * decoder.hidden_size * width(recipe)
    return others * decoder.layers * 2 * (runs.forward + runs.backward) * rows


def with_network(gpu: Gpu, gigabytes: float | None) -> Gpu:
    """The GPU with another speed of its network, in GB/s."""
    return gpu if gigabytes is None else dataclasses.replace(gpu, far=gigabytes * 1e9)
