"""Every kernel compiles for sm_90, with the compiler that comes with Triton, and fits: no GPU is needed for that."""

from __future__ import annotations

import os
import subprocess
import sys


def test_every_kernel_compiles_and_fits_a_hopper_gpu():
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "model.kernels.build"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for kernel in (
        "_keep bf16",
        "_keep fp8e4nv",
        "_best",
        "attention, selected",
        "attention backward, selected",
        "sum of parts, dk and dv",
    ):
        assert kernel in done.stdout
