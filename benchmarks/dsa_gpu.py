"""DeepSeek Sparse Attention on a GPU beside full attention: checks every kernel, then measures. One command, under 8 minutes.

Decided here:
- First every kernel is checked against the plain path on inputs drawn anew (`dsa_gpu_checks`; the seed is printed). A
  check that fails ends the run.
- Peer: torch's scaled_dot_product_attention on the same tensors, by flash and by cuDNN; the better of the two of each line.
- How a call is timed: `dsa_gpu_clock`. Experts and the vision tower, which torch's own routines compute: `dsa_gpu_layers`.
- "of floor": the least the device could take for what the answer needs (`dsa_gpu_floors`) over the time. Only for devices
  whose peaks are known.
- Indexer scores with planted locality and independent ones (`dsa_gpu_inputs`); both are printed with the number of distinct
  keys that 16 neighbouring queries select.
- What does not fit in the time or the memory is printed as not measured.

Run: `python benchmarks/dsa_gpu.py [--lengths 8192 ...]`. Without a GPU: says so, exit code 3. `--check` only checks; with
TRITON_INTERPRET=1 it does so on the CPU at toy sizes. Exit code 1: a check failed.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import dsa_gpu_floors as floors
import torch
from dsa_gpu_checks import ON_GPU, ON_INTERPRETER, TOLERANCE, run_checks
from dsa_gpu_clock import Clock, Table, Timed, by_backends
from dsa_gpu_floors import Work
from dsa_gpu_inputs import DecodeBatch, Geometry, decode_batch, distinct_of_neighbours, packed_row
from dsa_gpu_layers import experts, layer_checks, vision
from torch import Tensor
from torch.nn import functional

from model.config import MoEConfig, VisionConfig
from model.kernels import dispatch
from model.kernels.dispatch import PackedRow

NO_GPU = 3
GEOMETRY = Geometry()
DECODE = (1, 8, 64)


def heads_first(row: PackedRow) -> tuple[Tensor, Tensor, Tensor]:
    """[1, H, T, D] views for torch's attention."""
    q, k, v = (x.detach().transpose(0, 1).unsqueeze(0).requires_grad_(x.requires_grad) for x in (row.q, row.k, row.v))
    return q, k, v


def full(clock: Clock, tokens: int, *, backward: bool) -> dict[str, Timed]:
    """torch's causal attention of one sample."""

    def make(seed: int) -> tuple[Tensor, ...]:
        row = make_row(tokens, "worst", seed, learns=backward, device=clock.device)
        return (*heads_first(row), torch.randn_like(row.q).transpose(0, 1).unsqueeze(0))

    def call(given: tuple[Tensor, ...]) -> object:
        q, k, v, grad = given
        out = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return torch.autograd.grad(out, (q, k, v), grad) if backward else out

    return by_backends(clock, make, call)


def make_row(tokens: int, scores: str, seed: int, *, device: torch.device, sparse: bool = True, **options: bool) -> PackedRow:
    top_k = GEOMETRY.top_k if sparse else None
    return packed_row([tokens], GEOMETRY, scores=scores, seed=seed, device=device, dtype=torch.bfloat16, top_k=top_k, **options)


def select(row: PackedRow) -> Tensor:
    return dispatch.kernel("select", row).serve(row)


def attend(row: PackedRow) -> Tensor:
    done = dispatch.attend_row(row)
    assert done is not None
    return done.out


def learn(row: PackedRow) -> object:
    """Forward, KL and all gradients, those of the indexer too."""
    done = dispatch.attend_row(row)
    assert done is not None
    assert done.kl is not None
    tensors = (row.q, row.k, row.v, row.index_q, row.index_k, row.index_w)
    if row.top_k is None:
        return torch.autograd.grad(done.kl, tensors[3:])
    return torch.autograd.grad((done.out, done.kl), tensors, (torch.ones_like(done.out), torch.ones_like(done.kl)))


def distinct(row: PackedRow) -> str:
    """What 16 neighbouring queries select together, as a multiple of k."""
    try:
        return f"{distinct_of_neighbours(select(row)):.2f} k"
    except torch.OutOfMemoryError:
        return "an unknown number of"


def prefill(clock: Clock, table: Table, tokens: int) -> None:
    g = GEOMETRY
    print(f"-- one layer, forward, {tokens:,} tokens")
    table.full("full attention", full(clock, tokens, backward=False), floors.full_forward(tokens, g))
    for scores in ("planted", "worst"):
        make = partial(make_row, tokens, scores, device=clock.device)
        print(f"   scores: {scores}; 16 neighbours select {distinct(make(0))} distinct keys")
        table.line("  indexer and selection", clock.time(make, select), floors.selection(tokens, g))

        def select_8(row: PackedRow) -> Tensor:
            with dispatch.using("triton", index_precision="fp8"):
                return select(row)

        table.line("  the same, 8-bit scores", clock.time(make, select_8), floors.selection(tokens, g))
        total = floors.selection(tokens, g) + floors.sparse_forward(tokens, g)
        table.line("  all of it", clock.time(make, attend), total)


def training(clock: Clock, table: Table, tokens: int) -> None:
    g = GEOMETRY
    print(f"-- one layer, forward + backward, {tokens:,} tokens")
    work = floors.full_forward(tokens, g) + floors.full_backward(tokens, g)
    table.full("full attention", full(clock, tokens, backward=True), work)
    for scores in ("planted", "worst"):
        make = partial(make_row, tokens, scores, device=clock.device, with_kl=True, learns=True)
        work = floors.selection(tokens, g) + floors.sparse_training(tokens, g)
        table.line(f"  sparse with KL, {scores} scores", clock.time(make, learn), work)


def warmup(clock: Clock, table: Table, tokens: int) -> None:
    g = GEOMETRY
    print(f"-- dense warm-up, {tokens:,} tokens")
    for backward, label in ((False, "forward"), (True, "forward + backward")):
        work = floors.full_forward(tokens, g) + (floors.full_backward(tokens, g) if backward else Work(0, 0))
        table.full(f"full attention, {label}", full(clock, tokens, backward=backward), work)
        make = partial(make_row, tokens, "planted", device=clock.device, sparse=False, with_kl=True, learns=backward)
        timed = clock.time(make, learn if backward else attend)
        table.line(f"  warm-up with KL, {label}", timed, floors.warmup_forward(tokens, g, with_gradient=backward))


def decoding(clock: Clock, table: Table, tokens: int) -> None:
    g = GEOMETRY
    for size in DECODE:
        print(f"-- decode, {size} sequences of {tokens:,} keys")
        lengths = [tokens] * size

        def make(seed: int, lengths: list[int] = lengths) -> DecodeBatch:
            return decode_batch(lengths, g, seed=seed, device=clock.device, dtype=torch.bfloat16)

        def make_full(seed: int, size: int = size) -> tuple[Tensor, Tensor, Tensor]:
            """The query heads of a group as queries of one key head: then torch reads the keys of a group once."""
            generator = torch.Generator(clock.device).manual_seed(seed)
            shapes = ((size, g.groups, rows, g.dim) for rows in (g.heads // g.groups, tokens, tokens))
            return tuple(
                torch.randn(*shape, generator=generator, device=clock.device, dtype=torch.bfloat16) for shape in shapes
            )

        times = by_backends(clock, make_full, lambda given: functional.scaled_dot_product_attention(*given))
        table.full("full attention", times, floors.full_decode(lengths, g))
        table.line("  indexer, selection, attention", clock.time(make, dispatch.decode), floors.sparse_decode(lengths, g))


def checked(device: torch.device, seed: int) -> bool:
    """Prints each check; whether all hold."""
    sizes, good = ON_GPU if device.type == "cuda" else ON_INTERPRETER, True
    print(f"checks on the {device.type}, seed {seed}")
    layers = layer_checks(seed, device, sizes.dtype, TOLERANCE[sizes.dtype])
    for name, wrong in itertools.chain(run_checks(sizes, seed=seed, device=device), layers):
        print(f"  {name:42} {'same' if wrong is None else wrong}", flush=True)
        good &= wrong is None
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[8192, 32768, 131072, 262144])
    parser.add_argument("--training-lengths", type=int, nargs="+", default=[32768, 131072])
    parser.add_argument("--check", action="store_true", help="check the kernels and measure nothing")
    parser.add_argument("--budget", type=float, default=440.0, help="seconds after which nothing new is measured")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    gpu, interpreted = torch.cuda.is_available(), dispatch.interpreted()
    if not gpu and not (arguments.check and interpreted):
        print("not measured: no CUDA device here. (TRITON_INTERPRET=1 and --check: the checks alone, on the CPU.)")
        return NO_GPU
    clock = Clock(torch.device("cuda"), arguments.budget) if gpu and not interpreted else None
    if not checked(clock.device if clock else torch.device("cpu"), arguments.seed):
        return 1
    if clock is None or arguments.check:
        return 0
    name = torch.cuda.get_device_name()
    print(f"{name}, torch {torch.__version__}, CUDA {torch.version.cuda}, {time.strftime('%d %B %Y', time.gmtime())}")
    g = GEOMETRY
    print(
        f"{g.heads} heads, {g.groups} groups, {g.dim} dims, indexer {g.index_heads} x {g.index_dim}, k = {g.top_k}, bf16; "
        "faster by: beside the best of the lines above it that are not set in"
    )
    table = Table(floors.device_named(name))
    with dispatch.using("triton"):
        for tokens in arguments.lengths:
            prefill(clock, table, tokens)
        for tokens in arguments.training_lengths:
            training(clock, table, tokens)
        warmup(clock, table, 32768)
        decoding(clock, table, 131072)
        experts(clock, table, 32768, MoEConfig())
        vision(clock, table, VisionConfig())
    return 0


if __name__ == "__main__":
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    sys.exit(main())
