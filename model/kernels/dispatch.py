"""Which path computes a call: a kernel, or plain torch.

Decided here:
- A kernel is a module of this package with two functions: `reason_not(call)`, None when it can serve the call and else the
  reason why not, and `serve(call)`. It is imported when it is first asked, so that nothing loads Triton unasked.
- `auto`, the default, takes a kernel where it serves and the plain path elsewhere; on a CPU always the plain path. `plain`
  never asks a kernel. `triton` takes kernels or raises `KernelRefusedError` with the reason; on a CPU it needs Triton's
  interpreter (TRITON_INTERPRET=1, set before Triton is imported), which is what the tests do.
- The path is set by `using("triton")` for a block of code, else by the environment variable LONGREEL_KERNELS.
- Selection scores in the row's own type unless `using(path, index_precision="fp8")` or LONGREEL_INDEX_PRECISION=fp8 asks for
  8 bits (`model.kernels.quantisation`): it moves the sets a little, so it is never chosen unasked. Decoding stays exact.
- Indices of a packed row count from the start of the row, not of the sample: a kernel then loads key s at row s.

Shapes: T tokens of the row, N samples, B sequences being decoded, S cached keys, H query heads, G KV groups, D head dim,
J indexer heads, E indexer head dim, K selected keys of a query.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, cast

import torch
from torch import Tensor

from model.dsa_reference import SampleAttention

Path = Literal["auto", "plain", "triton"]
Precision = Literal["exact", "fp8"]
Name = Literal["select", "sparse", "warmup", "decode"]

_PATHS = ("auto", "plain", "triton")
_MODULES: dict[Name, str] = {
    "select": "model.kernels.index_selection",
    "sparse": "model.kernels.sparse_attention",
    "warmup": "model.kernels.warmup_attention",
    "decode": "model.kernels.decoding",
}
_FORCED: ContextVar[Path | None] = ContextVar("kernel_path", default=None)
_PRECISION: ContextVar[Precision | None] = ContextVar("index_precision", default=None)


class KernelRefusedError(RuntimeError):
    """A kernel was demanded and cannot serve the call; the message says why."""


@dataclass(frozen=True, kw_only=True)
class PackedRow:
    """One layer's attention over a packed row without a cache.

    q [T, H, D]; k, v [T, G, D]; index_q [T, J, E]; index_k [T, E]; index_w [T, J], which holds the scale E^-0.5.
    `cu_seqlens`: [N + 1] int32 on the same device, 0 to T, strictly rising. `longest`: the longest sample, on the host.
    `top_k`: keys a query reads; None is the dense warm-up. `with_kl`: whether the KL is wanted.
    `segments`: given where the queries are a part of the row (`sequence_shard`), [N, 4] int32 (start, end, first, last):
    queries [start, end) are the last of keys [first, last). Then q, index_q and index_w have T rows, k, v and index_k those of
    the whole row; `cu_seqlens` does not count, and `longest` is the most keys that a query may see.

    Kernels:
        "select": serve(row) -> selected [T, min(top_k, longest)] int32, row indices, ascending, padded with -1.
        "sparse": serve(row, selected) -> `SampleAttention`, differentiable as `model.dsa_cpu.sparse_attention` is.
        "warmup": serve(row) -> `SampleAttention`, as `sparse_attention(top_k=None)`.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    index_q: Tensor
    index_k: Tensor
    index_w: Tensor
    cu_seqlens: Tensor
    longest: int
    top_k: int | None
    with_kl: bool = True
    segments: Tensor | None = None

    @property
    def device(self) -> torch.device:
        return self.q.device


@dataclass(frozen=True, kw_only=True)
class DecodeBatch:
    """One layer's attention of one new token for each of B sequences, without gradients.

    q [B, H, D]; index_q [B, J, E]; index_w [B, J]; and a list of B tensors each: k, v [S_b, G, D], index_k [S_b, E], which
    hold the new token too. Kernel "decode": serve(batch) -> `SampleAttention`: out [B, H, D], no KL, selected
    [B, min(top_k, max S)] int32, counted from the start of its own sequence, ascending, padded with -1.
    """

    q: Tensor
    k: Sequence[Tensor]
    v: Sequence[Tensor]
    index_q: Tensor
    index_k: Sequence[Tensor]
    index_w: Tensor
    top_k: int

    @property
    def device(self) -> torch.device:
        return self.q.device


@contextmanager
def using(path: Path, *, index_precision: Precision | None = None) -> Iterator[None]:
    """Inside, kernels are taken as `path` says, whatever the environment says; and selection scores in `index_precision`."""
    tokens = _FORCED.set(_one_of(_PATHS, path, "using()")), _PRECISION.set(index_precision)
    try:
        yield
    finally:
        _FORCED.reset(tokens[0])
        _PRECISION.reset(tokens[1])


def wanted_path() -> Path:
    """The path asked for: that of the innermost `using`, else LONGREEL_KERNELS, else "auto".

    Raises: ValueError when the environment variable holds something else.
    """
    forced = _FORCED.get()
    return forced or _one_of(_PATHS, os.environ.get("LONGREEL_KERNELS") or "auto", "LONGREEL_KERNELS")


def index_precision() -> Precision:
    """What selection scores in: that of the innermost `using` that names one, else LONGREEL_INDEX_PRECISION, else "exact"."""
    name = "LONGREEL_INDEX_PRECISION"
    return _PRECISION.get() or _one_of(("exact", "fp8"), os.environ.get(name) or "exact", name)


def interpreted() -> bool:
    """Whether Triton runs its kernels as Python on the CPU."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on")


def kernel(name: Name, call: PackedRow | DecodeBatch) -> Any | None:
    """The module that serves `call`, or None for the plain path.

    Raises: KernelRefusedError on path "triton" when it cannot serve.
    """
    path = wanted_path()
    if path == "plain" or (path == "auto" and call.device.type != "cuda"):
        return None
    reason, module = _machine_reason(call.device.type, interpreted()), None
    if reason is None:
        module = importlib.import_module(_MODULES[name])
        reason = module.reason_not(call)
    if reason is None:
        return module
    if path == "triton":
        raise KernelRefusedError(f"the kernel {name!r} was asked for and cannot serve this call: {reason}")
    return None


def attend_row(row: PackedRow) -> SampleAttention | None:
    """The whole row through kernels, or None where the plain path has to. `selected` counts from the start of the row."""
    with _launching_on(row.device):
        if row.top_k is None:
            warmup = kernel("warmup", row)
            return None if warmup is None else cast(SampleAttention, warmup.serve(row))
        select = kernel("select", row)
        sparse = None if select is None else kernel("sparse", row)
        if select is None or sparse is None:
            return None
        return cast(SampleAttention, sparse.serve(row, select.serve(row)))


def decode(batch: DecodeBatch) -> SampleAttention | None:
    """One step of every sequence through the kernel, or None where the plain path has to."""
    with _launching_on(batch.device):
        module = kernel("decode", batch)
        return None if module is None else cast(SampleAttention, module.serve(batch))


def _launching_on(device: torch.device) -> AbstractContextManager[object]:
    """Triton launches on the current device, wherever the tensors are."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _one_of(choices: tuple[str, ...], given: str, source: str) -> Any:
    if given not in choices:
        raise ValueError(f"{source} must be {', '.join(map(repr, choices[:-1]))} or {choices[-1]!r}, got {given!r}")
    return given


@lru_cache
def _machine_reason(device: str, on_interpreter: bool) -> str | None:
    """Why no kernel at all can run on this device."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    if on_interpreter:
        return None
    if device != "cuda":
        return f"the tensors are on the {device}, kernels need a CUDA device (or TRITON_INTERPRET=1, for tests)"
    capability = torch.cuda.get_device_capability()
    if capability[0] not in (9, 10):
        return f"kernels are laid out for compute capability 9 and 10 (227 KiB of shared memory), this is {capability}"
    return None
