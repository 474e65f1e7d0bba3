"""Curves of a run for TensorBoard: ``RUN/tensorboard``, one point a step, the steps of all stages in a row.

Decided here: tensorboardX (MIT), which needs numpy and protobuf, both here already; `torch.utils.tensorboard` needs the whole
of TensorBoard, with a web server and gRPC, where only somebody who looks needs it. The files are written for looking: what a
run IS stands in ``metrics.jsonl``. They are forced out with every checkpoint, and a resumed run tells TensorBoard to forget the
steps that it makes again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainer.ranks import quietly
from trainer.step_line import StepLine


class TensorBoard:
    """Event files of a run; only the leading rank has one.

    Args:
        folder: ``RUN/tensorboard``.
        first: the first step that will be written, counted over all stages; later ones of an earlier process are forgotten.
    """

    def __init__(self, folder: Path, first: int) -> None:
        with quietly():
            from tensorboardX import SummaryWriter

            # The library names files by the second: a run resumed at once would write over the events before it.
            suffix = f".{first:08d}.{os.getpid()}.{time.time_ns()}"
            self.writer: Any = SummaryWriter(str(folder), purge_step=first, flush_secs=10, filename_suffix=suffix)

    def step(self, line: StepLine, at: int) -> None:
        """Adds a step under its number over all stages."""
        for name, value in scalars(line):
            self.writer.add_scalar(name, value, at)

    def flush(self) -> None:
        """Forces everything out."""
        self.writer.flush()

    def close(self) -> None:
        """Ends the files."""
        self.writer.close()


def scalars(line: StepLine) -> Iterator[tuple[str, float]]:
    """Name and value of every curve; what has a layer is its mean over layers, unless layers are what one looks for."""
    single = {
        "loss/train": line.loss,
        "loss/indexer": line.indexer_loss,
        "loss/balance": line.balance_loss,
        "optimiser/grad_norm": line.grad_norm,
        "optimiser/learning_rate": line.lr,
        "speed/tokens_per_s": line.tokens_per_s,
        "speed/mfu": line.mfu,
        "time/data_wait_s": line.data_wait_s,
        "time/forward_s": line.forward_s,
        "time/backward_s": line.backward_s,
        "time/optimiser_s": line.optimiser_s,
        "memory/GiB": line.memory_bytes / 2**30,
        "indexer/recall": line.indexer_recall,
        "experts/unused": float(sum(line.experts_unused)),
        "experts/load_max": max(line.expert_load, default=None),
        "experts/router_entropy": _mean(line.router_entropy),
    }
    yield from ((name, value) for name, value in single.items() if value is not None)
    for axis, groups in line.losses.items():
        yield from ((f"loss_by_{axis}/{group}", mean) for group, (mean, _) in groups.items())
    for layer, value in enumerate(line.indexer_kl):
        yield f"indexer_kl/layer{layer:02d}", value


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
