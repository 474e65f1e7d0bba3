"""What it costs to see a step: everything that tells losses apart, counts experts and writes lines, over the step itself.

Decided here: the trainer's own steps on the demo's corpus and model, one stage after the other from fresh weights. What sees
is timed inside them, by wrapping the functions that do nothing else: the losses by sample, the tally, its sums and figures, the
line with its file, and the events for TensorBoard. Both are processor time of the thread that trains, so that other processes
do not count. Products that run on several threads are then too short in the step, so the share looks larger, never smaller.
Recall is not in it: it is measured where asked for, and is shown as the time of one measurement over that of one step.

Run: `make demo`, then `python benchmarks/seeing_cost.py [--corpus out/demo/corpus] [--steps 12]`.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from trainer.ranks import rest_while_waiting

rest_while_waiting()

import model.vlm  # noqa: E402
from manifests.catalog import Catalog  # noqa: E402
from trainer.build import build_model, precision_of  # noqa: E402
from trainer.engine import PhaseEngine  # noqa: E402
from trainer.launch import Launch  # noqa: E402
from trainer.loader import StageSequences, StepBatches, step_positions  # noqa: E402
from trainer.metrics import MetricsFile  # noqa: E402
from trainer.ranks import start_ranks  # noqa: E402
from trainer.sample_facts import kinds_of  # noqa: E402
from trainer.seeing import Seeing  # noqa: E402
from trainer.stage_manifest import read_stages  # noqa: E402
from trainer.stages import phases_of  # noqa: E402
from trainer.tally import StepTally  # noqa: E402
from trainer.watching import Nobody  # noqa: E402


class Seen:
    """Sums the time of the functions it wraps."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            begun = time.thread_time()
            result = function(*arguments, **named)
            self.seconds += time.thread_time() - begun
            return result

        return timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=Path("out/demo/corpus"))
    parser.add_argument("--recipe", default="laptop")
    parser.add_argument("--steps", type=int, default=12)
    arguments = parser.parse_args()
    catalog = Catalog(arguments.corpus)
    manifests = read_stages(catalog, arguments.recipe)
    recipe, ranks, seen = manifests[0].recipe, start_ranks(), Seen()
    for name in ("add", "values", "sight", "__init__"):
        setattr(StepTally, name, seen.wrap(getattr(StepTally, name)))
    model.vlm.by_sample = seen.wrap(model.vlm.by_sample)  # type: ignore[attr-defined]
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {Launch()}")
    print(f"{'stage':>5} {'phase':>15} {'tokens':>7} {'step s':>8} {'seeing ms':>10} {'share':>7} {'worst':>7} {'recall':>7}")
    for number, manifest in manifests.items():
        sequences = StageSequences(catalog, recipe, stage=number, split="train")
        kinds = kinds_of(catalog, recipe.name, stage=number, split="train")
        for phase in phases_of(manifest.spec, manifest.steps):
            engine = PhaseEngine(build_model(recipe), phase.spec, recipe.train, passes=1, ranks=ranks, kinds=kinds)
            with tempfile.TemporaryDirectory() as folder:
                run = Path(folder)
                watch = Seeing(
                    run, MetricsFile(run / "metrics.jsonl"), manifests, ranks=ranks, watch=Nobody(),
                    precision=precision_of(recipe.train),
                )  # fmt: skip
                watch.phase(manifest, phase, first=0)
                shown = seen.wrap(watch.step)
                shares, costs, steps, tokens, recalls = [], [], [], 0, []
                per_step = manifest.spec.sequences_per_step
                for step in range(min(arguments.steps, len(sequences) // per_step)):
                    positions = step_positions(step, sequences=len(sequences), per_step=per_step)
                    batches = StepBatches(
                        step=step, batches=tuple((sequences.batch(position), 1.0) for position in positions), waited_s=0.0
                    )
                    seen.seconds, begun = 0.0, time.thread_time()
                    figures = engine.step(batches, 1e-4)
                    line: dict[str, Any] = {"step": step + 1, "sequences": positions, "learning_rate": 1e-4, "recall": None}
                    shown(figures, **line, seconds=1.0, data_wait_s=0.0)
                    spent = time.thread_time() - begun
                    tokens += figures.tokens
                    if step:  # the first one warms up
                        shares.append(seen.seconds / spent)
                        costs.append(seen.seconds)
                        steps.append(spent)
                    if phase.spec.attention != "dense" and step in (1, 2):
                        begun = time.thread_time()
                        engine.recall(batches)
                        recalls.append((time.thread_time() - begun) / spent)
                watch.close()
            engine.close()
            recall = f"{statistics.median(recalls):.0%}" if recalls else "-"
            print(
                f"{number:>5} {phase.spec.name:>15} {tokens // (len(steps) + 1):>7,} {statistics.median(steps):>8.3f} "
                f"{1000 * statistics.median(costs):>10.2f} {statistics.median(shares):>7.2%} {max(shares):>7.2%} {recall:>7}"
            )


if __name__ == "__main__":
    main()
