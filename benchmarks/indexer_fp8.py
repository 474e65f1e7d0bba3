"""What 8-bit scores do to the selected sets: emulated on the CPU, on random and on trained indexers.

Measured: of each query's exact set (float32), the share that the 8-bit scores select too, over queries that see more than k
keys: mean, and the worst hundredth of the queries. Beside it the same after rounding queries and keys to bf16, and 8 bits
without the Hadamard turn.

- random: independent normal queries and keys, 16 x 64, k = 2048 of 32,768 keys: neighbours in rank differ least.
- one large dim: the same, one of the 64 dims 30 times the others in queries and keys both.
- trained: the indexers of a run's model (`make demo` makes one) on held-out samples, k = an eighth of each.

Products of e4m3 numbers are exact here and sums float32; Hopper's 8-bit products are summed with fewer bits.

Run: `python benchmarks/indexer_fp8.py [--corpus out/demo/corpus] [--run out/demo/run] [--stage 3]`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor

from model.indexer import Indexer, index_scores, top_k_indices
from model.kernels.quantisation import quantised_scores

WAYS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "bf16": lambda q, k, w: index_scores(q.bfloat16().float(), k.bfloat16().float(), w),
    "fp8, turned": quantised_scores,
    "fp8, as it is": lambda q, k, w: quantised_scores(q, k, w, turn=False),
}


def sets(scores_TS: Tensor, top_k: int, past: int) -> Tensor:
    """[T, S] bool: the selected keys of the last T of S positions."""
    hidden = torch.ones_like(scores_TS, dtype=torch.bool).triu(past + 1)
    chosen_TK = top_k_indices(scores_TS.masked_fill(hidden, -torch.inf), top_k)
    mask = torch.zeros(scores_TS.shape[0], scores_TS.shape[1] + 1, dtype=torch.bool)
    return mask.scatter_(1, chosen_TK, True)[:, :-1]


def compared(samples: Iterator[tuple[Tensor, Tensor, Tensor, int]]) -> None:
    """One line a way, over all indexer tensors given: queries [T, J, E], keys [S, E], gates [T, J] and k."""
    shares: dict[str, list[Tensor]] = {name: [] for name in WAYS}
    for q, k, w, top_k in samples:
        past, begun = len(k) - len(q), max(0, top_k - (len(k) - len(q)))
        exact_TS = sets(index_scores(q, k, w), top_k, past)[begun:]
        for name, way in WAYS.items():
            also_TS = sets(way(q, k, w), top_k, past)[begun:]
            shares[name].append((exact_TS & also_TS).sum(-1) / top_k)
    for name, each in shares.items():
        all_T = torch.cat(each)
        print(
            f"  {name:<14} mean {all_T.mean():.4f}   worst hundredth {all_T.quantile(0.01):.4f}   {len(all_T):,} queries",
            flush=True,
        )


def drawn(large: float, seeds: int) -> Iterator[tuple[Tensor, Tensor, Tensor, int]]:
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(seed)
        shapes = ((64, 16, 64), (32768, 64), (64, 16))
        q, k, w = (torch.randn(*shape, generator=generator) for shape in shapes)
        q[..., 5] *= large
        k[..., 5] *= large
        yield q, k, w, 2048


def trained(corpus: Path, run: Path, recipe_name: str, stage: int, number: int) -> Iterator[tuple[Tensor, Tensor, Tensor, int]]:
    """The indexer tensors of every layer of a run's model on held-out samples."""
    from manifests.catalog import Catalog
    from model import VisionLanguageModel
    from trainer.collate import collate
    from trainer.evaluate import evenly_spaced
    from trainer.loader import StageSequences
    from trainer.sequence_reader import Order
    from trainer.stage_manifest import read_stages

    catalog = Catalog(corpus)
    recipe = read_stages(catalog, recipe_name)[stage].recipe
    model = VisionLanguageModel.from_pretrained(run / f"stage{stage}" / "model", dtype=torch.float32)
    heldout = StageSequences(catalog, recipe, stage=3, split="heldout")
    placed = {segment for position in range(len(heldout)) for segment in heldout.order(position).segments}
    long = sorted((s for s in placed if s.total >= 512), key=lambda segment: (segment.total, segment.sample_id))
    kept: list[tuple[Tensor, Tensor, Tensor]] = []
    for module in model.modules():
        if isinstance(module, Indexer):
            module.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    for at in evenly_spaced(len(long), number):
        batch = collate(heldout.reader.read(Order(heldout.where, at, (long[at],))))
        kept.clear()
        with torch.no_grad():
            model(
                batch.input_ids, None, batch.cu_seqlens, batch.pixel_values, batch.image_grid_thw, "sparse", batch.labels,
                need_logits=False, top_k=batch.tokens // 8,
            )  # fmt: skip
        for q, k, w in kept:
            yield q, k, w, batch.tokens // 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, default=Path("out/demo/corpus"))
    parser.add_argument("--run", type=Path, default=Path("out/demo/run"))
    parser.add_argument("--recipe", default="laptop")
    parser.add_argument("--stage", type=int, default=3, help="the stage whose exported model is read")
    parser.add_argument("--samples", type=int, default=12)
    arguments = parser.parse_args()
    print("random, 16 x 64, k = 2048 of 32,768 keys")
    compared(drawn(1.0, 4))
    print("random with one large dim (30 x)")
    compared(drawn(30.0, 4))
    if not (arguments.run / f"stage{arguments.stage}" / "model").exists():
        print(f"trained: not measured, {arguments.run} holds no model of stage {arguments.stage} (make demo)")
        return
    print(f"trained: indexers of {arguments.run}/stage{arguments.stage}, k = an eighth of each held-out sample")
    compared(trained(arguments.corpus, arguments.run, arguments.recipe, arguments.stage, arguments.samples))


if __name__ == "__main__":
    main()
