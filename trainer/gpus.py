"""GPUs that a plan can be estimated for, and how they are connected.

Figures are their makers' data sheets: dense bf16 operations, memory, NVLink in one direction, and as network one adapter a GPU
(200 Gb/s beside an A100, 400 Gb/s beside later ones), as the usual servers of eight have.
"""

from __future__ import annotations

from dataclasses import dataclass

from manifests.errors import UsageError

# A GPU counts as full at this share of its memory: the driver, the communication library and gaps take the rest.
USABLE = 0.92
GPUS_A_NODE = 8


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """Peak bf16 operations a second without sparsity, bytes of memory, bytes a second to a GPU of the same node (`near`) and of
    another (`far`)."""

    name: str
    flops: float
    memory: float
    near: float
    far: float

    @property
    def room(self) -> float:
        """Bytes that training may use."""
        return self.memory * USABLE

    def link(self, gpus: int) -> float:
        """Bytes a second of one GPU among so many neighbours: the network's as soon as they are more than a node."""
        return self.near if gpus <= GPUS_A_NODE else self.far


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu(name="a100", flops=312e12, memory=80e9, near=300e9, far=25e9),
        Gpu(name="h100", flops=989e12, memory=80e9, near=450e9, far=50e9),
        Gpu(name="h200", flops=989e12, memory=141e9, near=450e9, far=50e9),
        Gpu(name="b200", flops=2250e12, memory=180e9, near=900e9, far=50e9),
    )
}


def gpu_named(name: str) -> Gpu:
    """The GPU of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in GPUS:
        raise UsageError(f"no GPU {name!r}; known are {', '.join(sorted(GPUS))}")
    return GPUS[name]
