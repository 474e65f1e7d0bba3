"""Packing and balance beside their bounds: how many sequences, how even the ranks.

    python benchmarks/packing.py [--corpus out/demo/corpus]

Packing: `curriculum.packing.pack` beside first-fit-decreasing (the usual choice; here with a tree over the open sequences, so
that it is fast too) and beside the lower bound (Martello and Toth's L2). Lengths: those of the demo's samples; lognormal and
bimodal ones; and cases made to be hard, for which no packing need reach the bound: three just over a third, halves that miss
by one, uniform thirds to halves, triplets that fit exactly in one way only.

Balance: sequences packed at 256K from the demo's lengths (drawn with replacement) and from heavy-tailed ones (Pareto,
exponent 1.1), eight a rank and step, priced in operations of the published model; the planned order beside a random one.
*ranks*: what a synchronous step loses to its dearest rank (sum of dearest over sum of mean); *passes*: the same if ranks wait
after every sequence; *steps*: dearest over mean step; *gain*: throughput of the planned order over the random one.
*pictures*: fullest over mean rank of the vision tower, when the frames of a step are shared out by visual tokens, beside
dealing them in turn.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from curriculum.balance import balanced_order, evenness, shared_out
from curriculum.bounds import lower_bound
from curriculum.cost import sample_flops
from curriculum.packing import pack
from curriculum.recipes import keye_vl_2
from manifests.catalog import Catalog

CONTEXTS = {"32K": 32_768, "64K": 65_536, "256K": 262_144}
Lengths = NDArray[np.int64]


def first_fit_decreasing(lengths: Lengths, capacity: int) -> int:
    """Sequences that first-fit-decreasing opens: a tree of the largest room below each node finds the first that is enough."""
    leaves = 1 << max(1, int(np.ceil(np.log2(max(2, len(lengths))))))
    room = [capacity] * (2 * leaves)
    opened = 0
    for length in np.sort(lengths)[::-1].tolist():
        node = 1
        while node < leaves:
            node = 2 * node if room[2 * node] >= length else 2 * node + 1
        opened = max(opened, node - leaves + 1)
        room[node] -= length
        while node > 1:
            node //= 2
            room[node] = max(room[2 * node], room[2 * node + 1])
    return opened


def shapes(capacity: int, count: int, demo: Lengths | None) -> dict[str, Lengths]:
    """Lengths of each kind for sequences of ``capacity`` tokens."""
    random = np.random.default_rng(7)
    long = np.concatenate([random.normal(capacity / 60, capacity / 300, count * 9 // 10),
                           random.normal(capacity * 0.55, capacity * 0.02, count // 10)])  # fmt: skip
    third = capacity // 3
    split = np.sort(random.integers(capacity // 5, capacity * 4 // 5, (count // 3, 2)), axis=1)
    triplets = np.concatenate([split[:, 0], split[:, 1] - split[:, 0], capacity - split[:, 1]])
    found = {
        "lognormal": np.exp(random.normal(np.log(capacity / 20), 1.2, count)),
        "bimodal": long,
        "over a third": np.full(count, third + 1),
        "halves + 1": random.integers(capacity // 2 - 20, capacity // 2 + 20, count),
        "third to half": random.uniform(capacity / 4, capacity / 2, count),
        "triplets": triplets,
    }
    if demo is not None:
        found = {"demo": demo[demo <= capacity], **found}
    return {name: np.clip(values, 1, capacity).astype(np.int64) for name, values in found.items()}


def packing(count: int, demo: Lengths | None, scale: int) -> None:
    head = f"{'context':>8} {'lengths':<14} {'samples':>9} {'bound':>8}"
    print(head + f" {'ours':>8} {'over':>8} {'FFD':>8} {'over':>8} {'ours':>8} {'FFD':>8}")
    for name, capacity in CONTEXTS.items():
        for shape, lengths in shapes(capacity, count, None if demo is None else demo * scale).items():
            bound = max(1, lower_bound(lengths, capacity))
            start = time.process_time()
            packed = pack(lengths, capacity)
            ours, usual = time.process_time() - start, time.process_time()
            ffd = first_fit_decreasing(lengths, capacity)
            usual = time.process_time() - usual
            every = np.sort(np.concatenate(packed))
            assert np.array_equal(every, np.arange(len(lengths))), "every sample exactly once"
            assert max(int(lengths[items].sum()) for items in packed) <= capacity, "never over capacity"
            print(
                f"{name:>8} {shape:<14} {len(lengths):>9,} {bound:>8,} {len(packed):>8,} {len(packed) / bound - 1:>8.3%} "
                f"{ffd:>8,} {ffd / bound - 1:>8.3%} {ours:>6.2f} s {usual:>6.2f} s"
            )


def balance(demo: Lengths | None, scale: int) -> None:
    recipe = keye_vl_2()
    stage, capacity, random = recipe.stages[3], CONTEXTS["256K"], np.random.default_rng(3)
    head = f"\n{'ranks':>6} {'lengths':<10} {'sequences':>10} {'ranks':>16} {'passes':>16}"
    print(head + f" {'steps':>16} {'gain':>7} {'pictures':>16}")
    for ranks in (8, 64, 512):
        wanted = 8 * ranks * 40
        for shape in ("demo", "heavy") if demo is not None else ("heavy",):
            heavy = np.minimum((random.pareto(1.1, wanted * 40) + 0.05) * capacity / 60, capacity)
            lengths = (random.choice(demo * scale, wanted * 40) if shape == "demo" and demo is not None else heavy).astype(
                np.int64
            )
            lengths = lengths[(lengths > 0) & (lengths <= capacity)]
            packed = pack(lengths, capacity)[:wanted]
            flops = sample_flops(lengths, recipe.model, stage)
            costs = np.array([flops[items].sum() for items in packed])
            each = 8 * ranks
            planned = evenness(costs[balanced_order(costs, each, 17, ranks=ranks)], each, ranks)
            chance = evenness(random.permutation(costs), each, ranks)
            frames = random.integers(64, 257, each * 300)
            dealt, shared = np.arange(len(frames)) % ranks, shared_out(frames, ranks)
            fullest = [np.bincount(where, weights=frames).max() / (frames.sum() / ranks) for where in (shared, dealt)]
            print(
                f"{ranks:>6} {shape:<10} {len(costs):>10,} {planned.ranks:>7.4f} {chance.ranks:>8.4f} {planned.passes:>7.4f} "
                f"{chance.passes:>8.4f} {planned.steps:>7.4f} {chance.steps:>8.4f} {chance.ranks / planned.ranks:>6.2f}x "
                f"{fullest[0]:>7.4f} {fullest[1]:>8.4f}"
            )
    print("each pair: planned, random")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--corpus", type=Path, default=Path("out/demo/corpus"), help="whose lengths to pack (made by `make demo`)"
    )
    parser.add_argument("--count", type=int, default=200_000, help="lengths of each made kind")
    options = parser.parse_args()
    demo, scale = None, 1
    if options.corpus.is_dir():
        catalog = Catalog(options.corpus)
        demo = catalog.sql("SELECT total_tokens FROM samples ORDER BY sample_id").fetchnumpy()["total_tokens"].astype(np.int64)
        scale = CONTEXTS["256K"] // int(catalog.corpus.identity()["recipe"]["buckets"]["context_256k"])
        print(f"the demo's lengths are taken times {scale}, as its recipe divides contexts")
    else:
        print(f"no corpus at {options.corpus}: without the demo's lengths")
    packing(options.count, demo, scale)
    balance(demo, scale)


if __name__ == "__main__":
    main()
