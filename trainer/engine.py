"""One phase's optimisation through DeepSpeed: the loss of a step, its gradient, the update.

Decided here: one packed sequence is one forward pass, on any number of ranks, so a step's loss is the same sum in the same
units however it is spread: next-token losses divided by the targets of the whole step, KL and balancing losses weighted by
tokens of the whole step. (Packing several sequences into one pass gained 25% at 256 tokens and nothing from 1,024 on, and would
have made the balancing loss depend on the number of ranks.) DeepSpeed averages gradients over ranks, so each pass is scaled by
their number; ranks that share a sequence each have a part of its losses, and of their gradients, that add up in the same way.
A pass without pictures still looks at a blank one, times zero: every rank then has a gradient for every parameter, and runs the
same layers in the same order, which collectives inside a pass need. One rank under ZeRO 0 has no collectives: it writes the
zeros that are missing, and clips by the norm that it has taken already (DeepSpeed would take it again, a parameter at a time).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from manifests.recipe import TrainSpec
from manifests.stage_spec import PhaseSpec
from model.moe import Experts
from model.sequence_shard import SequenceShard
from model.vlm import VisionLanguageModel, part_of
from trainer.collate import PackedBatch
from trainer.expert_parallel import declaration, divide_experts, is_divided, places_of, split_groups
from trainer.loader import StepBatches
from trainer.optimiser_state import OptimiserState
from trainer.parallel import Groups
from trainer.ranks import Ranks, quietly
from trainer.recall import measured_sample
from trainer.sample_facts import SampleKind
from trainer.sample_order import fingerprint, share_of_fingerprint
from trainer.stages import trained_parts
from trainer.stopwatch import Stopwatch
from trainer.tally import StepSight, StepTally
from trainer.update_gate import UpdateGate

# Under ZeRO 3 DeepSpeed puts a linear function of its own into torch, for the whole process and beyond its engine's life.
_LINEAR = nn.functional.linear


@dataclass(frozen=True, kw_only=True)
class StepFigures:
    """What a step did, over all ranks.

    Attributes:
        loss: mean next-token loss in nats, over the step's targets.
        indexer_loss, balance_loss: means over the step's tokens; None where the phase has none.
        grad_norm: global norm before clipping.
        forward_s, backward_s, optimiser_s: what this rank spent on each; collectives are where they are waited for.
        sight: losses by kind of sample, experts, operations.
        skipped: why the weights were not changed; None when they were.
        samples: a fingerprint of the step's samples in order, the same on any number of ranks.
    """

    loss: float
    indexer_loss: float | None
    balance_loss: float
    grad_norm: float
    tokens: int
    visual_tokens: int
    forward_s: float
    backward_s: float
    optimiser_s: float
    sight: StepSight
    skipped: str | None = None
    samples: str = ""


Judge = Callable[[float, float, float], str | None]
NO_GRADIENT = "the gradient is not finite"


class Objective(nn.Module):
    """A model and the loss that a phase minimises, as one module, so that DeepSpeed's hooks see every pass."""

    def __init__(self, model: VisionLanguageModel, phase: PhaseSpec) -> None:
        super().__init__()
        self.inner = model
        self.phase = phase
        self.sums: list[float] = []
        self.tally: StepTally | None = None

    def forward(
        self, batch: PackedBatch, targets: float, tokens: float, weight: float, shard: SequenceShard | None = None
    ) -> Tensor:
        """This pass's part of the step's loss.

        Args:
            shard: this rank's part of the sequence, when ranks share it.
            targets, tokens: of the whole step, over all ranks.
            weight: 0 for a pass that only keeps ranks in step.
        """
        output = self.inner(
            batch.input_ids,
            cu_seqlens=batch.cu_seqlens,
            pixel_values=batch.pixel_values,
            image_grid_thw=batch.image_grid_thw,
            attention=self.phase.attention,
            labels=batch.labels,
            shard=shard,
        )
        share = weight * batch.tokens / max(tokens, 1.0)
        terms = [
            (output.token_losses_sum, weight / max(targets, 1.0)),
            (output.indexer_loss, self.phase.indexer_lambda * share),
            (output.load_balancing_loss, self.phase.balance_lambda * share),
        ]
        learned = [value * factor for value, factor in terms if value is not None and value.requires_grad]
        indexer = 0.0 if output.indexer_loss is None else float(output.indexer_loss.detach())
        balance = float(output.load_balancing_loss.detach())
        if self.tally is not None and weight:
            self.tally.add(batch, output, ranks=1 if shard is None else shard.size)
        self.sums = [float(output.token_losses_sum.detach()) * weight, indexer * share, balance * share]
        return torch.stack([term.float() for term in learned]).sum()


class PhaseEngine:
    """DeepSpeed around one model for one phase.

    Args:
        model: its weights are trained in place.
        phase: what trains, and on which loss.
        train: ZeRO stage, precision, clipping, weight decay.
        passes: forward passes of a full step on this rank.
        kinds: of samples that losses are told apart by, the same on every rank.
        groups: the ranks that share sequences and experts with this one.
    """

    def __init__(
        self,
        model: VisionLanguageModel,
        phase: PhaseSpec,
        train: TrainSpec,
        *,
        passes: int,
        ranks: Ranks,
        kinds: Sequence[SampleKind] = (),
        groups: Groups = Groups(),  # noqa: B008, frozen
    ) -> None:
        self.ranks, self.groups, self.zero_stage, self.kinds = ranks, groups, train.zero_stage, kinds
        model.train_only(*trained_parts(phase))
        model.gradient_checkpointing = train.activation_checkpointing
        self.alone = ranks.world == 1 and train.zero_stage == 0 and train.precision == "fp32"
        self.clip = train.gradient_clip if self.alone else 0.0
        # A projector that sees nothing would leave a pass without a gradient.
        model.always_looks = phase.trains == "projector" or (not self.alone and (phase.trains != "indexer" or ranks.world > 1))
        if groups.experts is not None:
            divide_experts(model, groups.experts)
        self.objective = Objective(model.to(ranks.device), phase)
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if any(is_divided(parameter) for parameter in self.trained):
            self.objective.declaration = declaration(model.config.decoder.moe.experts)
        with quietly():
            import deepspeed

            self.engine: Any = deepspeed.initialize(
                model=self.objective,
                model_parameters=split_groups(_groups(model, phase, train.weight_decay)),
                config=_configuration(phase, train, passes, divided=groups.experts is not None, clips=not self.alone),
            )[0]
        if ranks.world == 1 and train.zero_stage == 0:
            self.engine.enable_backward_allreduce = False  # it would copy all gradients into a sum of one and back
        self.gate = UpdateGate(self.engine.basic_optimizer)
        self.state = OptimiserState(self.engine, model, ranks, places=places_of(model))
        self.updates = 0

    def step(self, batches: StepBatches, learning_rate: float, judge: Judge = lambda *losses: None) -> StepFigures:
        """Forward and backward of every pass, then the update, unless a loss or the gradient is bad.

        Args:
            judge: given the step's losses (next token, indexer, balancing), why it must not change the weights, or None; every
                rank gets the same losses.
        """
        counted = [batch for batch, weight in batches.batches if weight]
        counts = self.ranks.total(
            [
                sum(batch.targets for batch in counted),
                sum(batch.tokens for batch in counted),
                sum(batch.visual_tokens for batch in counted),
                share_of_fingerprint(batches, self.ranks),
            ]
        )
        targets, tokens, visual, order = (count / self.ranks.sharing for count in counts)
        for group in self.engine.optimizer.param_groups:
            group["lr"] = learning_rate * group["share"]
        sums = [0.0, 0.0, 0.0]
        norm: float | None = None
        last = len(batches.batches) - 1
        inner, watch = self.objective.inner, Stopwatch(self.ranks.device)
        tally = StepTally(inner.config, self.objective.phase, self.kinds, self.ranks.device, waited_s=batches.waited_s)
        for number, (batch, weight) in enumerate(batches.batches):
            self.engine.set_gradient_accumulation_boundary(number == last)
            here, shard = self._here(batch)
            if shard is None:  # every rank of the group computes the whole sequence: each answers for its part
                weight /= self.ranks.sharing
            self.objective.tally = tally if shard is not None or self.ranks.rank % self.ranks.sharing == 0 else None
            with watch("forward"):
                loss = self.engine(here, targets, tokens, weight, shard)
            with watch("backward"):
                self.engine.backward(loss * self.ranks.world, scale_wrt_gas=False)
            if number == last and self.engine.optimizer is self.engine.basic_optimizer:  # the others know their norm
                with watch("optimiser"):
                    norm = self._norm()
            sums = [total + value for total, value in zip(sums, self.objective.sums, strict=True)]
            if number < last:
                with watch("optimiser"):
                    self.engine.step()
        token_losses, indexer, balance, *seen = self.ranks.total([*sums, *tally.values()])
        loss = token_losses / max(targets, 1.0)
        skipped = judge(loss, indexer, balance)
        if norm is not None and not math.isfinite(norm):
            skipped = skipped or NO_GRADIENT
        self.gate.closed = skipped is not None
        with watch("optimiser"):
            self.engine.step()
        if norm is None:
            norm = float(self.engine.get_global_grad_norm() or 0.0)
            if not math.isfinite(norm):  # DeepSpeed has left the update out by itself
                skipped = skipped or NO_GRADIENT
        if skipped is None:
            self.updates += 1
            if inner.config.decoder.moe.balance == "bias" and "decoder" in trained_parts(self.objective.phase):
                inner.update_router_bias(tally.load(seen))
        return StepFigures(
            loss=loss,
            indexer_loss=None if self.objective.phase.attention == "dense" else indexer,
            balance_loss=balance,
            grad_norm=norm,
            tokens=int(tokens),
            visual_tokens=int(visual),
            forward_s=watch.seconds("forward"),
            backward_s=watch.seconds("backward"),
            optimiser_s=watch.seconds("optimiser"),
            sight=tally.sight(seen, tokens=tokens, world=self.ranks.world),
            skipped=skipped,
            samples=fingerprint(order),
        )

    def _norm(self) -> float:
        """The gradient's norm, before it is clipped here where DeepSpeed does not."""
        if self.alone:
            for parameter in self.trained:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in self.trained if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.clip:
            torch.nn.utils.clip_grads_with_norm_(self.trained, self.clip, norm)
        return float(norm)

    def _here(self, batch: PackedBatch) -> tuple[PackedBatch, SequenceShard | None]:
        """A batch on this rank's device, and its part of it."""
        owners = () if batch.share is None else batch.share.owners
        return batch.to(self.ranks.device), self.groups.shard(batch.tokens, self.ranks, owners)

    @torch.no_grad()
    def recall(self, batches: StepBatches) -> float | None:
        """Share of dense attention mass on the indexers' choice, over a sample of each rank's first sequence of a step; None
        where no query had to choose. Every rank must call it. Changes nothing that training depends on."""
        covered = queries = 0.0
        batch, weight = batches.batches[0]
        batch, shard = self._here(measured_sample(batch, self.objective.inner.config))
        # A sample too short to be shared has no query that chooses, and not all of its pictures are here.
        if batch.share is None or shard is not None:
            measured = self.objective.inner.indexer_recall(
                batch.input_ids,
                cu_seqlens=batch.cu_seqlens,
                pixel_values=batch.pixel_values,
                image_grid_thw=batch.image_grid_thw,
                shard=shard,
            )
            if weight:
                covered, queries = measured.mean * measured.queries, float(measured.queries)
        covered, queries = self.ranks.total([covered, queries])
        return covered / queries if queries else None

    def restore(self, files: Sequence[Path], updates: int) -> None:
        """Takes back the state that `OptimiserState.snapshot` gave, on any number of ranks and ZeRO stage."""
        self.state.restore(files, updates)
        self.updates = updates

    def export(self, folder: Path) -> None:
        """Writes the whole model as safetensors with the published names; only the leading rank writes."""
        tensors = self._gathered() if self.zero_stage == 3 or self.groups.experts is not None else None
        if self.ranks.leads:
            self.objective.inner.save_pretrained(folder, tensors=tensors)

    def _gathered(self) -> dict[str, Tensor]:
        """The whole model's values in the leading rank's main memory; one tensor at a time is whole on the device."""
        import deepspeed

        model = self.objective.inner
        tensors = {name: buffer.cpu() for name, buffer in model.named_buffers()}
        shards = {id(p): module.shard for module in model.modules() if isinstance(module, Experts) for p in module.parameters()}
        for name, parameter in model.named_parameters():
            with deepspeed.zero.GatheredParameters([parameter], enabled=self.zero_stage == 3):
                shard = shards.get(id(parameter))
                whole = parameter.detach() if shard is None else shard.whole(parameter)
                if self.ranks.leads:
                    tensors[name] = whole.cpu().clone()
        return tensors

    def close(self) -> None:
        """Takes DeepSpeed's hooks off the model, and its linear function out of torch."""
        with quietly():
            self.engine.destroy()
        nn.functional.linear = _LINEAR


def _groups(model: VisionLanguageModel, phase: PhaseSpec, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay, vectors (norms, biases) do not; parts with a learning rate of their own are apart.

    ``share`` is a group's rate by the phase's, at every step.
    """
    rates = phase.learning_rates.given
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            part = part_of(name)
            groups.setdefault((part if part in rates else "", parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": weight_decay if matrices else 0.0,
            "share": rates.get(part, phase.learning_rate) / phase.learning_rate,
        }
        for (part, matrices), parameters in sorted(groups.items(), key=lambda item: (item[0][0], not item[0][1]))
    ]


def _configuration(phase: PhaseSpec, train: TrainSpec, passes: int, *, divided: bool, clips: bool) -> dict[str, Any]:
    """DeepSpeed's configuration. torch's own fused AdamW runs on any device and compiles nothing. Divided experts need
    contiguous gradients, a bucket more of memory: without, ZeRO 2 refuses them and ZeRO 1 sums them wrongly (losses 2e-3 off
    after three steps)."""
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": passes,
        "gradient_clipping": train.gradient_clip if clips else 0.0,
        "optimizer": {
            "type": "AdamW",
            "params": {"lr": phase.learning_rate, "betas": [0.9, 0.95], "eps": 1e-8, "torch_adam": True, "fused": True},
        },
        "zero_optimization": {
            "stage": train.zero_stage,
            "contiguous_gradients": divided,
            "overlap_comm": False,
        },
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": train.precision == "bf16"},
        "steps_per_print": 1_000_000_000,
        "wall_clock_breakdown": False,
    }
