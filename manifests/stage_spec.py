"""What a stage and its model ARE: phases, mixture, limits and budgets of one of the four stages, validated when made.

A stage manifest carries these, whole, so that the trainer needs nothing else. `manifests.recipe.Recipe` holds four of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Literal

from manifests.require import require as _require
from manifests.tasks import unknown_task

Attention = Literal["dense", "warmup", "sparse"]
Trains = Literal["projector", "everything", "indexer"]


@dataclass(frozen=True, kw_only=True)
class PartRates:
    """Peak learning rates of parts of the model that differ from their phase's; None takes the phase's.

    A pretrained vision tower usually learns at a tenth of the decoder's rate.
    """

    vision: float | None = None
    projector: float | None = None
    embeddings: float | None = None
    decoder: float | None = None
    indexer: float | None = None
    lm_head: float | None = None

    def __post_init__(self) -> None:
        for part, rate in self.given.items():
            _require(math.isfinite(rate) and rate > 0, f"learning_rates.{part}={rate} must be above 0")

    @property
    def given(self) -> dict[str, float]:
        """The rates that are given, by part."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {part: rate for part, rate in named.items() if rate is not None}


@dataclass(frozen=True, kw_only=True)
class PhaseSpec:
    """A part of a stage with one DSA mode and one set of trained parameters.

    Attributes:
        name: what the log calls it.
        attention: ``dense``, ``warmup`` (dense attention, the indexer learns it) or ``sparse``.
        trains: ``projector``, ``everything`` or ``indexer``.
        share: the part of the stage's steps that it takes; the shares of a stage sum to 1.
        learning_rate: peak learning rate; linear warm-up over ``warmup_share`` of the phase, then cosine to a tenth.
        learning_rates: peaks of parts that learn at another rate; they follow the same schedule.
        indexer_lambda: weight of the indexer's KL loss beside the next-token loss.
        balance_lambda: weight of the load-balancing loss of the experts.
    """

    name: str
    attention: Attention
    trains: Trains
    share: float = 1.0
    learning_rate: float = 1e-3
    learning_rates: PartRates = field(default_factory=PartRates)
    warmup_share: float = 0.05
    indexer_lambda: float = 1.0
    balance_lambda: float = 1e-3

    def __post_init__(self) -> None:
        _require(self.attention in ("dense", "warmup", "sparse"), f"phase {self.name}: unknown attention {self.attention!r}")
        _require(self.trains in ("projector", "everything", "indexer"), f"phase {self.name}: unknown trains {self.trains!r}")
        _require(0 < self.share <= 1, f"phase {self.name}: share={self.share} must be in (0, 1]")
        _require(self.learning_rate > 0, f"phase {self.name}: learning_rate={self.learning_rate} must be above 0")
        _require(0 <= self.warmup_share < 1, f"phase {self.name}: warmup_share={self.warmup_share} must be in [0, 1)")
        _require(self.indexer_lambda >= 0, f"phase {self.name}: indexer_lambda={self.indexer_lambda} must not be negative")
        _require(self.balance_lambda >= 0, f"phase {self.name}: balance_lambda={self.balance_lambda} must not be negative")
        foreign = sorted(set(self.learning_rates.given) - {self.trains}) if self.trains != "everything" else []
        _require(not foreign, f"phase {self.name}: learning_rates names {foreign}, but only the {self.trains} trains")
        _require(
            (self.attention == "warmup") == (self.trains == "indexer"),
            f"phase {self.name}: attention='warmup' goes with trains='indexer'",
        )


@dataclass(frozen=True, kw_only=True)
class MixtureSpec:
    """One ingredient of a stage: samples whose task starts with ``task`` (or all with ``*``), and its share of tokens."""

    task: str
    weight: float

    def __post_init__(self) -> None:
        _require(bool(self.task), "a mixture entry needs a task prefix")
        sound = math.isfinite(self.weight) and self.weight > 0
        _require(sound, f"mixture.{self.task}: weight={self.weight} must be a finite number above 0")
        unknown = unknown_task(self.task)
        _require(unknown is None, f"mixture.{self.task}: {unknown}")


@dataclass(frozen=True, kw_only=True)
class StageSpec:
    """One of the four stages, complete: a stage manifest carries it, and the trainer needs nothing else.

    Attributes:
        number: 0 to 3.
        context: tokens of a packed sequence, at most.
        visual_budget: visual tokens of a packed sequence, at most.
        tokens: training tokens planned, at most; a corpus that has fewer is repeated up to ``epochs_max`` times.
        sequences_per_step: packed sequences of one optimiser step, over all ranks.
        mixture: ingredients by task prefix; the longest matching prefix wins; tasks that match none are left out.
        epochs_max: how often a sample may be placed, at most; the last time for a part of the samples.
        long_share: share of tokens for samples above half the context; None leaves it to the mixture.
        text_share: share of tokens for samples without pictures; None leaves it to the mixture.
        temperature: T gives each ingredient its weight times the (1 / T)-th power of the tokens it has; None the weight alone.
        source_share_max: largest part of ``tokens`` that one source may give, repeats counted; None for no limit.
        shortfall_max: largest part of what an ingredient wants that may be missing; more is an error before anything is packed.
            None: shortfalls are reported, whatever they are.
        ranks: data-parallel ranks for which every step is even, and every number that divides it; it divides
            ``sequences_per_step``.
        leave_out_longer: in the stage with the largest context: leave out samples that are longer than it. Otherwise such a
            sample, which no stage could hold, is an error.
        phases: what trains, in order.
        seed: what choice and order depend on.
    """

    number: int
    name: str
    context: int
    visual_budget: int
    tokens: int
    sequences_per_step: int
    mixture: tuple[MixtureSpec, ...]
    phases: tuple[PhaseSpec, ...]
    epochs_max: float = 1.0
    long_share: float | None = None
    text_share: float | None = None
    temperature: float | None = None
    source_share_max: float | None = None
    shortfall_max: float | None = None
    ranks: int = 1
    leave_out_longer: bool = False
    seed: int = 17

    def __post_init__(self) -> None:
        label = f"stage{self.number}"
        _require(0 <= self.number <= 3, f"stage number {self.number} must be 0 to 3")
        _require(self.context > 0, f"{label}: context={self.context} must be above 0")
        _require(
            0 <= self.visual_budget <= self.context,
            f"{label}: visual_budget={self.visual_budget} must be between 0 and context={self.context}",
        )
        _require(self.tokens > 0, f"{label}: tokens={self.tokens} must be above 0")
        _require(self.sequences_per_step > 0, f"{label}: sequences_per_step={self.sequences_per_step} must be above 0")
        _require(self.epochs_max > 0, f"{label}: epochs_max={self.epochs_max} must be above 0")
        _require(bool(self.mixture), f"{label}: mixture is empty")
        tasks = [entry.task for entry in self.mixture]
        _require(len(set(tasks)) == len(tasks), f"{label}: mixture names a task twice: {tasks}")
        _require(bool(self.phases), f"{label}: phases is empty")
        total = sum(phase.share for phase in self.phases)
        _require(abs(total - 1.0) < 1e-6, f"{label}: the shares of the phases sum to {total:g}, not 1")
        for name in ("long_share", "text_share", "source_share_max", "shortfall_max"):
            value = getattr(self, name)
            _require(value is None or 0 <= value <= 1, f"{label}: {name}={value} must be in [0, 1]")
        _require(self.source_share_max != 0, f"{label}: source_share_max=0 would take every sample away")
        heat = self.temperature
        _require(heat is None or heat > 0, f"{label}: temperature={heat} must be above 0")
        _require(
            self.ranks > 0 and self.sequences_per_step % self.ranks == 0,
            f"{label}: ranks={self.ranks} must divide sequences_per_step={self.sequences_per_step}",
        )


@dataclass(frozen=True, kw_only=True)
class CostSpec:
    """What the decoder's forward pass costs, in floating-point operations over all layers (a multiply-add is two).

    The defaults are the published model's. They are properties of the preset, as `model.costs.forward_flops` counts them: a
    test holds them against it. Planning needs them and does not load the model.

    Attributes:
        token: projections, experts, router and head, a token.
        read_pair: a query-key pair that attention reads.
        indexer_token: the indexer's projections, a token.
        scored_pair: a query-key pair that the indexer scores.
    """

    token: int = 6_083_313_664
    read_pair: int = 786_432
    indexer_token: int = 217_055_232
    scored_pair: int = 99_840

    def __post_init__(self) -> None:
        for name in ("token", "read_pair", "indexer_token", "scored_pair"):
            value = getattr(self, name)
            _require(value > 0, f"model.cost: {name}={value} must be above 0")


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Which model is trained: a preset of `model.presets`, the fields a recipe may scale, and what its decoder costs."""

    preset: str
    top_k: int
    cost: CostSpec = field(default_factory=CostSpec)
    seed: int = 17

    def __post_init__(self) -> None:
        _require(self.top_k > 0, f"model: top_k={self.top_k} must be above 0")
