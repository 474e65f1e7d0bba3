"""One packed sequence over 1, 2 and 4 ranks: what each keeps from forward to backward, and what each computes.

Decided here: kept bytes are counted, not estimated (every tensor autograd saves, once, parameters left out); work is processor
time of each process, gloo's exchanges included, because the ranks share this machine's cores. The limit is 1 / N of one rank's.
`uneven` is the busiest rank's time over the mean. What is saved on a GPU, and how fast its links are, this cannot say.

Run: `python benchmarks/shared_sequence.py [--tokens T]`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

ROUNDS = 3
CASES = (("dense", False), ("sparse", False), ("dense", True), ("sparse", True))


def measure(tokens: int) -> list[dict[str, Any]]:
    """On the ranks of this launch: of each case, MiB kept and processor seconds of forward and backward, by rank."""
    import torch.distributed as dist

    from model import VisionLanguageModel, presets
    from model.sequence_shard import SequenceShard

    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    model = VisionLanguageModel(presets.tiny(max_positions=tokens))
    ids = torch.randint(0, 8000, (tokens,), generator=torch.Generator().manual_seed(0))
    shard = SequenceShard(tokens, rank=rank, size=size, group=dist.group.WORLD) if size > 1 else None
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    found = []
    for mode, checkpointing in CASES:
        model.gradient_checkpointing = checkpointing
        kept: dict[int, int] = {}

        def keep(saved: torch.Tensor, kept: dict[int, int] = kept) -> torch.Tensor:
            storage = saved.untyped_storage()
            if storage.data_ptr() not in weights:
                kept[storage.data_ptr()] = storage.nbytes()
            return saved

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
            output = model(ids, attention=mode, labels=ids, shard=shard)
        output.combine().backward()
        seconds = []
        for _ in range(ROUNDS):
            dist.barrier()
            begun = time.process_time()
            model(ids, attention=mode, labels=ids, shard=shard).combine().backward()
            seconds.append(time.process_time() - begun)
            model.zero_grad(set_to_none=True)
        mine = torch.zeros(2, size, dtype=torch.float64)
        mine[:, rank] = torch.tensor([sum(kept.values()) / 2**20, statistics.median(seconds)])
        dist.all_reduce(mine)
        found.append({"mode": mode, "checkpointing": checkpointing, "mib": mine[0].tolist(), "seconds": mine[1].tolist()})
    dist.destroy_process_group()
    return found if rank == 0 else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=4096)
    tokens = parser.parse_args().tokens
    if "RANK" in os.environ:
        if found := measure(tokens):
            print("RESULT " + json.dumps(found))
        return
    by_ranks: dict[int, list[dict[str, Any]]] = {}
    for ranks in (1, 2, 4):
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), __file__]
        done = subprocess.run(
            [*launch, "--tokens", str(tokens)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        if not lines:
            sys.exit(done.stderr)
        by_ranks[ranks] = json.loads(lines[0].removeprefix("RESULT "))
    print(f"one sample of {tokens:,} tokens, the tiny preset, fp32; load {os.getloadavg()[0]:.1f}")
    print("attention  recomputed ranks MiB a rank of one CPU s a rank of one uneven")
    for number, (mode, checkpointing) in enumerate(CASES):
        one = by_ranks[1][number]
        for ranks, cases in by_ranks.items():
            mib, spent = max(cases[number]["mib"]), statistics.mean(cases[number]["seconds"])
            print(
                f"{mode:10} {'yes' if checkpointing else 'no':10} {ranks:5} {mib:10.1f} {mib / one['mib'][0]:6.2f} "
                f"{spent:12.2f} {spent / one['seconds'][0]:6.2f} {max(cases[number]['seconds']) / spent:6.2f}"
            )


if __name__ == "__main__":
    main()
