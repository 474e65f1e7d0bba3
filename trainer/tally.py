"""What a step shows beside its loss: losses by kind of sample, the indexer's KL, the experts' load, operations.

Decided here: everything is a sum, stays on the device until the step is over, and travels between ranks in the one sum that the
step makes anyway. Measured on the demo's model (see `benchmarks/README.md`), gathering it costs less than a hundredth of a
step.

Shapes: N layers, E experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from manifests.stage_spec import PhaseSpec
from model.config import ModelConfig
from model.output import ModelOutput
from trainer.collate import PackedBatch
from trainer.flops import step_flops
from trainer.sample_facts import LossByKind, SampleFacts, SampleKind


@dataclass(frozen=True, kw_only=True)
class StepSight:
    """What a step showed, over all ranks.

    Attributes:
        losses: axis (`trainer.sample_facts.AXES`) -> group -> (mean next-token loss, targets).
        indexer_kl: by layer, summed over groups, mean over tokens; empty where attention is dense.
        expert_load: by layer, the busiest expert's choices over the mean; 1 when balanced.
        experts_unused: by layer, experts that no token chose.
        router_entropy: by layer, mean over tokens, in nats.
        flops: model operations of all ranks (`trainer.flops`).
        data_wait_s: for how long a rank waited for data, mean over ranks.
    """

    losses: dict[str, dict[str, tuple[float, int]]]
    indexer_kl: list[float]
    expert_load: list[float]
    experts_unused: list[int]
    router_entropy: list[float]
    flops: float
    data_wait_s: float


class StepTally:
    """Sums of one step on one rank.

    Args:
        kinds: of samples that the stage can hold, the same on every rank.
        waited_s: for how long this rank waited for the step's data.
    """

    def __init__(
        self, config: ModelConfig, phase: PhaseSpec, kinds: Sequence[SampleKind], device: torch.device, *, waited_s: float
    ) -> None:
        self.config, self.phase, self.waited_s = config, phase, waited_s
        self.by_kind = LossByKind(kinds)
        self.flops = 0.0
        layers, experts = config.decoder.layers, config.decoder.moe.experts
        self.load_NE = torch.zeros(layers, experts, dtype=torch.float64, device=device)
        self.entropy_N = torch.zeros(layers, dtype=torch.float64, device=device)
        self.kl_N = torch.zeros(layers, dtype=torch.float64, device=device)
        self.samples: list[tuple[tuple[SampleFacts, ...], Tensor]] = []

    @torch.no_grad()
    def add(self, batch: PackedBatch, output: ModelOutput, *, ranks: int = 1) -> None:
        """Adds a forward pass, or this rank's part of one that so many ranks share."""
        self.flops += step_flops(self.config, self.phase, batch) / ranks
        self.load_NE += output.router.load
        self.entropy_N += output.router.entropy * batch.tokens
        if output.indexer_loss_per_layer is not None:
            self.kl_N += output.indexer_loss_per_layer * batch.tokens
        if batch.facts and output.sample_losses is not None and output.sample_targets is not None:
            self.samples.append((batch.facts, torch.stack((output.sample_losses, output.sample_targets.double()))))

    def values(self) -> list[float]:
        """Everything in one list, for the sum over ranks. Waits for the device."""
        for facts, sums_2S in self.samples:
            self.by_kind.add(facts, *sums_2S.tolist())
        layers = torch.cat((self.load_NE.flatten(), self.entropy_N, self.kl_N))
        return [self.flops, self.waited_s, *self.by_kind.values(), *layers.tolist()]

    def load(self, values: Sequence[float]) -> Tensor:
        """Choices of each expert in the summed `values`, [N, E]."""
        first = 2 + 2 * len(self.by_kind.kinds)
        load_NE = torch.tensor(values[first : first + self.load_NE.numel()], dtype=torch.float64, device=self.load_NE.device)
        return load_NE.view(self.load_NE.shape)

    def sight(self, values: Sequence[float], *, tokens: float, world: int) -> StepSight:
        """What the summed `values` say of a step of so many tokens."""
        flops, waited = values[:2]
        kinds = 2 * len(self.by_kind.kinds)
        layers, experts = self.load_NE.shape
        sums = torch.tensor(values[2 + kinds :], dtype=torch.float64)
        load_NE = sums[: layers * experts].view(layers, experts)
        entropy_N, kl_N = sums[layers * experts :].view(2, layers) / max(tokens, 1.0)
        return StepSight(
            losses=self.by_kind.along(values[2 : 2 + kinds]),
            indexer_kl=[] if self.phase.attention == "dense" else _short(kl_N),
            expert_load=_short(load_NE.amax(1) / load_NE.mean(1).clamp(min=1e-9)),
            experts_unused=(load_NE == 0).sum(1).tolist(),
            router_entropy=_short(entropy_N),
            flops=flops,
            data_wait_s=waited / world,
        )


def _short(values_N: Tensor) -> list[float]:
    """Six digits: these are for reading."""
    return [float(f"{value:.6g}") for value in values_N.tolist()]
