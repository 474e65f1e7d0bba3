"""What the kernels take of a Hopper GPU, found without one: each is compiled for sm_90 by the compiler that comes with Triton.

Every kernel module lists the variants worth knowing as `builds()`. `python -m model.kernels.build` compiles all of them
and prints registers, spilled bytes and shared memory; a variant that does not fit is an error. Says nothing about speed.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Shared memory that one block can have on compute capability 9.0, and registers that one thread can.
SHARED_LIMIT = 227 * 1024
REGISTER_LIMIT = 255
MODULES = ("index_selection", "decoding", "sparse_attention")


@dataclass(frozen=True, kw_only=True)
class Build:
    """One variant of one kernel. `types`: Triton's name of each run-time argument's type ("*bf16", "i32", "fp32"), in
    order; `constants`: the values of the `tl.constexpr` arguments. Pointers and multiples are taken as aligned to 16 where
    `aligned` names them (None: every pointer), as a launch with torch tensors finds them."""

    name: str
    kernel: Any
    types: Mapping[str, str]
    constants: Mapping[str, Any] = field(default_factory=dict)
    warps: int = 4
    stages: int = 3
    aligned: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Resources:
    """Of one compiled variant: registers a thread, bytes a thread spills to local memory, bytes of shared memory a block."""

    registers: int
    spilled: int
    shared: int


def compiled(build: Build) -> Resources:
    """Compiles a variant for sm_90 and reads what it takes from the machine code."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = build.kernel.arg_names
    signature = {name: build.types.get(name, "constexpr") for name in names}
    constants = {(names.index(name),): value for name, value in build.constants.items()}
    aligned = build.aligned if build.aligned is not None else tuple(n for n, kind in build.types.items() if kind[0] == "*")
    attributes = {(names.index(name),): [["tt.divisibility", 16]] for name in aligned}
    source = ASTSource(fn=build.kernel, signature=signature, constexprs=constants, attrs=attributes)
    done = triton.compile(
        source, target=GPUTarget("cuda", 90, 32), options={"num_warps": build.warps, "num_stages": build.stages}
    )
    usage = _usage(done.asm["cubin"], Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump")
    return Resources(usage["REG"], usage["STACK"] + usage["LOCAL"], done.metadata.shared)


def _usage(cubin: bytes, cuobjdump: Path) -> dict[str, int]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        told = subprocess.run([cuobjdump, "-res-usage", path], capture_output=True, text=True, check=True)
    return {name: int(value) for name, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", told.stdout + told.stderr)}


def main() -> int:
    if os.environ.get("TRITON_INTERPRET"):
        print("TRITON_INTERPRET is set: the interpreter compiles nothing. Unset it.")
        return 2
    wrong = 0
    print(f"{'kernel':48} {'warps':>5} {'stages':>6} {'registers':>9} {'spilled B':>9} {'shared B':>9}")
    for module in MODULES:
        if importlib.util.find_spec(f"model.kernels.{module}") is None:
            continue
        for build in importlib.import_module(f"model.kernels.{module}").builds():
            took = compiled(build)
            fits = took.shared <= SHARED_LIMIT and took.registers <= REGISTER_LIMIT
            wrong += not fits
            print(
                f"{build.name:48} {build.warps:5} {build.stages:6} {took.registers:9} {took.spilled:9} {took.shared:9}"
                + ("" if fits else "  does not fit"),
                flush=True,
            )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
