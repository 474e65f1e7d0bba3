"""Does the indexer find what dense attention reads? On the data and the model of `make demo`.

Decided here:
- It starts from the model as the run's last dense stage left it, and warms the indexers up (nothing else learns) on the
  packed sequences of a later stage's plan, in their order, with the trainer's schedule.
- Measured on held-out samples one by one, k = an eighth of that sample's own length, over the queries that see more than k
  keys: the share of dense attention mass (mean over heads) on the k selected keys, beside the most that any k keys hold.
  That ceiling is a property of the attention: no indexer passes it.
- Loss: the same held-out samples, dense against sparse at that k. First after warm-up alone, beside what the k best keys
  would give if they were known (`best keys`: read off dense attention): the price of leaving the rest out of a model that
  never met sparsity.
- Then the recipe goes on as it does: the sparse phase of the same stage, on its own sequences. Beside it a twin from before
  the warm-up takes the same sequences, schedule and losses with dense attention. Sparse loss against the twin's dense loss
  is what sparsity costs at equal training.

Run: `python benchmarks/indexer_recall.py [--corpus out/demo/corpus] [--run out/demo/run]`. `--seed` starts the indexers anew.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from manifests.catalog import Catalog
from manifests.recipe import Recipe
from manifests.stage_spec import PhaseSpec
from model import VisionLanguageModel, attention
from model.dsa_reading import Slice
from model.dsa_reference import SampleAttention
from model.indexer import top_k_indices
from model.initialise import initialise
from model.output import ModelOutput
from trainer.collate import PackedBatch, collate
from trainer.evaluate import evenly_spaced
from trainer.loader import StageSequences
from trainer.sequence_reader import Order
from trainer.stage_manifest import read_stages
from trainer.stages import learning_rate, phases_of, trained_parts

# Shorter samples would make k a handful of keys.
SHORTEST = 512


def forward(model: VisionLanguageModel, batch: PackedBatch, attention: str, **options: object) -> ModelOutput:
    """One pass without logits."""
    return model(
        batch.input_ids, None, batch.cu_seqlens, batch.pixel_values, batch.image_grid_thw, attention, batch.labels,
        need_logits=False, **options,
    )  # fmt: skip


def warm_up(model: VisionLanguageModel, sequences: StageSequences, *, steps: int, peak: float, clip: float) -> None:
    """Trains the indexers, one sequence a step."""
    model.train_only("indexer")
    indexers = list(model.parts()["indexer"].values())
    optimizer = torch.optim.AdamW(indexers, lr=peak, betas=(0.9, 0.95), weight_decay=0.01)
    tenth = max(steps // 10, 1)
    divergence, begun = 0.0, time.perf_counter()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, peak=peak, warmup_share=0.05)
        optimizer.zero_grad(set_to_none=True)
        loss = forward(model, sequences.batch(step % len(sequences)), "warmup").indexer_loss
        assert loss is not None
        loss.backward()
        torch.nn.utils.clip_grad_norm_(indexers, clip)
        optimizer.step()
        divergence += float(loss.detach()) / tenth
        if (step + 1) % tenth == 0:
            print(f"  step {step + 1:>4}/{steps}  KL {divergence:.4f}  {time.perf_counter() - begun:5.0f} s", flush=True)
            divergence = 0.0


def adapt(
    model: VisionLanguageModel, sequences: StageSequences, phase: PhaseSpec, recipe: Recipe, *, first: int, last: int
) -> None:
    """Trains on the sequences `[first, last)` as a phase of the recipe does, one a step."""
    model.train_only(*trained_parts(phase))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": recipe.train.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=phase.learning_rate, betas=(0.9, 0.95), fused=True)
    total, begun = 0.0, time.perf_counter()
    for step in range(first, last):
        rate = learning_rate(step - first, last - first, peak=phase.learning_rate, warmup_share=phase.warmup_share)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        output = forward(model, sequences.batch(step % len(sequences)), phase.attention)
        output.combine(lambda_indexer=phase.indexer_lambda, lambda_balance=phase.balance_lambda).backward()
        torch.nn.utils.clip_grad_norm_(trained, recipe.train.gradient_clip)
        optimizer.step()
        assert output.loss is not None
        total += float(output.loss.detach()) / (last - first)
    seconds = time.perf_counter() - begun
    print(f"  {phase.attention:<6} {last - first} sequences, mean training loss {total:.4f}  {seconds:5.0f} s", flush=True)


@contextmanager
def best_keys() -> Iterator[None]:
    """Inside, sparse attention reads the keys with the most dense mass (mean over heads) instead of the indexer's."""

    def read(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *_: object, top_k: int, chunk: int, with_kl: bool
    ) -> SampleAttention:
        groups, k_GSD, v_GSD = k.shape[1], k.transpose(0, 1).contiguous(), v.transpose(0, 1).contiguous()
        outs = []
        for start in range(0, len(q), chunk):
            end = min(start + chunk, len(q))
            reading = Slice(end - start, end, q)
            logits = torch.bmm(reading.pack(q[start:end] * q.shape[-1] ** -0.5, groups), k_GSD[:, :end].transpose(1, 2))
            reading.heads(logits, groups).add_(reading.bias)
            if end > top_k:
                mass = reading.heads(logits.softmax(-1), groups).mean((0, 1))
                chosen = top_k_indices(mass.masked_fill(reading.bias < 0, -torch.inf), top_k)
                left_out = mass.new_full((end - start, end + 1), -torch.inf).scatter_(1, chosen, 0.0)[:, :end]
                reading.heads(logits, groups).add_(left_out)
            outs.append(reading.unpack(torch.bmm(logits.softmax(-1), v_GSD[:, :end]), groups))
        return SampleAttention(torch.cat(outs), None, None)

    usual = attention.sparse_attention
    attention.sparse_attention = read
    try:
        yield
    finally:
        attention.sparse_attention = usual


@torch.no_grad()
def loss_of(model: VisionLanguageModel, samples: list[PackedBatch], mode: str) -> float:
    """Mean next-token loss, k = an eighth of each sample."""
    total, targets = 0.0, 0
    for batch in samples:
        losses = forward(model, batch, mode, top_k=batch.tokens // 8).token_losses_sum
        assert losses is not None
        total, targets = total + float(losses), targets + batch.targets
    return total / targets


@torch.no_grad()
def measure(model: VisionLanguageModel, samples: list[PackedBatch]) -> dict[str, list[float]]:
    """Covered and attainable mass of each layer over all choosing queries, and the losses dense and sparse."""
    layers = model.config.decoder.layers
    covered, attainable, queries = torch.zeros(layers), torch.zeros(layers), 0
    dense, sparse, targets = 0.0, 0.0, 0
    for batch in samples:
        top_k = batch.tokens // 8
        full = forward(model, batch, "dense", measure_recall=True, top_k=top_k)
        assert full.recall is not None
        assert full.token_losses_sum is not None
        covered += full.recall.per_layer * full.recall.queries
        attainable += full.recall.attainable_per_layer * full.recall.queries
        queries += full.recall.queries
        chosen = forward(model, batch, "sparse", top_k=top_k)
        assert chosen.token_losses_sum is not None
        dense, sparse = dense + float(full.token_losses_sum), sparse + float(chosen.token_losses_sum)
        targets += batch.targets
    return {
        "covered": (covered / queries).tolist(),
        "attainable": (attainable / queries).tolist(),
        "loss": [dense / targets, sparse / targets],
    }


def report(label: str, figures: dict[str, list[float]]) -> None:
    """One line: every layer's covered / attainable mass, their means, and the losses."""
    covered, attainable = figures["covered"], figures["attainable"]
    each = "  ".join(f"{c:.3f}/{a:.3f}" for c, a in zip(covered, attainable, strict=True))
    share = sum(covered) / sum(attainable)
    dense, sparse = figures["loss"]
    print(f"{label:<8} by layer  {each}")
    print(f"{'':<8} mean      {sum(covered) / len(covered):.3f} of {sum(attainable) / len(covered):.3f}: {share:.1%}")
    print(f"{'':<8} loss      dense {dense:.4f}, sparse {sparse:.4f}: {sparse / dense - 1:+.2%}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, default=Path("out/demo/corpus"))
    parser.add_argument("--run", type=Path, default=Path("out/demo/run"))
    parser.add_argument("--recipe", default="laptop")
    parser.add_argument("--start", type=int, default=1, help="the stage whose exported model is warmed up")
    parser.add_argument("--stage", type=int, default=2, help="the stage whose sequences teach")
    parser.add_argument("--steps", type=int, default=128, help="sequences of warm-up; 0 measures the model as it is")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--samples", type=int, default=24)
    parser.add_argument("--seed", type=int, help="new indexers from this seed, instead of the run's")
    parser.add_argument("--no-adaptation", action="store_true", help="stop after the warm-up")
    arguments = parser.parse_args()
    catalog = Catalog(arguments.corpus)
    recipe = read_stages(catalog, arguments.recipe)[arguments.stage].recipe
    model = VisionLanguageModel.from_pretrained(arguments.run / f"stage{arguments.start}" / "model", dtype=torch.float32)
    if arguments.seed is not None:
        initialise(model, seed=arguments.seed, std=model.config.decoder.initializer_range, only="sa_indexer")
    teaching = StageSequences(catalog, recipe, stage=arguments.stage, split="train")
    heldout = StageSequences(catalog, recipe, stage=3, split="heldout")
    placed = {segment for position in range(len(heldout)) for segment in heldout.order(position).segments}
    long = sorted((s for s in placed if s.total >= SHORTEST), key=lambda segment: (segment.total, segment.sample_id))
    # A sequence of one sample each: the loader renders and decodes as in training.
    chosen = [long[index] for index in evenly_spaced(len(long), arguments.samples)]
    samples = [collate(heldout.reader.read(Order(heldout.where, at, (one,)))) for at, one in enumerate(chosen)]
    print(f"{len(samples)} held-out samples of {samples[0].tokens:,} to {samples[-1].tokens:,} tokens, k = an eighth of each")
    report("before", measure(model, samples))
    twin = copy.deepcopy(model)
    with best_keys():
        dense, best = loss_of(model, samples, "dense"), loss_of(model, samples, "sparse")
    print(f"best keys loss      dense {dense:.4f}, sparse {best:.4f}: {best / dense - 1:+.2%}", flush=True)
    if arguments.steps:
        print(f"warm-up: {arguments.steps} sequences of stage {arguments.stage}, learning rate {arguments.learning_rate:g}")
        warm_up(model, teaching, steps=arguments.steps, peak=arguments.learning_rate, clip=recipe.train.gradient_clip)
        report("after", measure(model, samples))
    if arguments.no_adaptation:
        return
    sparse = phases_of(recipe.stages[arguments.stage], len(teaching))[-1]
    print(f"adaptation: the phase {sparse.spec.name!r} of stage {arguments.stage}, and a dense twin")
    adapt(model, teaching, sparse.spec, recipe, first=sparse.first, last=sparse.last)
    adapt(twin, teaching, replace(sparse.spec, attention="dense"), recipe, first=sparse.first, last=sparse.last)
    report("adapted", measure(model, samples))
    adapted, alike = loss_of(model, samples, "sparse"), loss_of(twin, samples, "dense")
    print(f"twin     loss      dense {alike:.4f}, sparse of the adapted {adapted:.4f}: {adapted / alike - 1:+.2%}")


if __name__ == "__main__":
    main()
