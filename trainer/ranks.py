"""The processes of a run: one started by plain python, or many by torchrun or the deepspeed launcher.

Decided here: everything DeepSpeed needs from the environment is set when no launcher did. Its import and start-up are kept
silent, and its shared-memory kernel, which compiles C++ on first use (38 s, and a compiler), is left out: gloo does the same.
Waiting OpenMP threads sleep instead of spinning. Measured on 2 cores, 1,024 tokens forward and backward: 0.27 s against 0.23 s
on an idle machine, but 0.4 s against 8 s beside other processes. That only works before torch is loaded, so `trainer.train`
asks for it first.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import socket
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among those of the run.

    Attributes:
        sharing: neighbours that work on the same packed sequences (`trainer.parallel`).
    """

    rank: int
    world: int
    device: torch.device
    sharing: int = 1

    @property
    def data_rank(self) -> int:
        """Which of the data groups this process belongs to."""
        return self.rank // self.sharing

    @property
    def data_world(self) -> int:
        """How many data groups there are: each reads its own sequences."""
        return self.world // self.sharing

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks to the user."""
        return self.rank == 0

    def total(self, values: Sequence[float]) -> list[float]:
        """Sums over all ranks, in float64."""
        if self.world == 1:
            return [float(value) for value in values]
        import torch
        import torch.distributed

        tensor = torch.tensor(list(values), dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(tensor)
        return [float(value) for value in tensor.tolist()]

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, in order of ranks."""
        if self.world == 1:
            return [value]
        import torch.distributed

        found: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(found, value)
        return found

    def wait(self) -> None:
        """Returns when every rank is here."""
        if self.world > 1:
            import torch.distributed

            torch.distributed.barrier()


def rest_while_waiting() -> None:
    """Lets idle OpenMP threads sleep; has an effect only before torch is loaded."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keeps what libraries print and warn off the user's terminal; errors still raise."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def start_ranks() -> Ranks:
    """Joins (or, alone, makes) the process group and sets the number of threads. Calling it again changes nothing."""
    import torch
    import torch.distributed

    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    on_gpu = torch.cuda.is_available() and os.environ.get("DS_ACCELERATOR", "cuda") != "cpu"
    local_rank = int(os.environ.setdefault("LOCAL_RANK", "0"))
    device = torch.device("cuda", local_rank) if on_gpu else torch.device("cpu")
    if not torch.distributed.is_initialized():
        if on_gpu:
            torch.cuda.set_device(device)
        elif "OMP_NUM_THREADS" not in os.environ:
            neighbours = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("WORLD_SIZE", "1")))
            torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // neighbours))
        with quietly(), _launched():
            import deepspeed
            import deepspeed.ops

            logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
            deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
            deepspeed.init_distributed(dist_backend="nccl" if on_gpu else "gloo", auto_mpi_discovery=False, verbose=False)
    return Ranks(rank=torch.distributed.get_rank(), world=torch.distributed.get_world_size(), device=device)


@contextlib.contextmanager
def _launched() -> Iterator[None]:
    """The variables a launcher sets, for a process that has none; taken back, so that a child process does not inherit them."""
    if "RANK" in os.environ:
        yield
        return
    alone = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    known = {name: os.environ.get(name) for name in alone}
    os.environ.update(alone)
    try:
        yield
    finally:
        for name, value in known.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
