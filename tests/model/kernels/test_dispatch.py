"""Which path serves: never a kernel unasked on a CPU, and a demand that cannot be met says why."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from model.kernels import dispatch


def _row(**changes):
    made = {
        "q": torch.zeros(3, 2, 16), "k": torch.zeros(3, 1, 16), "v": torch.zeros(3, 1, 16),
        "index_q": torch.zeros(3, 2, 16), "index_k": torch.zeros(3, 16), "index_w": torch.zeros(3, 2),
        "cu_seqlens": torch.tensor([0, 3], dtype=torch.int32), "longest": 3, "top_k": 2,
    }  # fmt: skip
    return dispatch.PackedRow(**{**made, **changes})


def test_on_a_cpu_the_plain_path_serves_unless_a_kernel_is_demanded(monkeypatch):
    monkeypatch.delenv("LONGREEL_KERNELS", raising=False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert dispatch.wanted_path() == "auto"
    assert dispatch.attend_row(_row()) is None
    monkeypatch.setenv("LONGREEL_KERNELS", "triton")
    with pytest.raises(dispatch.KernelRefusedError, match=r"'select' was asked for .*: .*(Triton is not installed|on the cpu)"):
        dispatch.attend_row(_row())
    with dispatch.using("plain"):
        assert dispatch.attend_row(_row()) is None
        assert dispatch.attend_row(_row(top_k=None)) is None
    with pytest.raises(dispatch.KernelRefusedError, match="'warmup' was asked for"):
        dispatch.attend_row(_row(top_k=None))


def test_an_unknown_path_is_named(monkeypatch):
    monkeypatch.setenv("LONGREEL_KERNELS", "cuda")
    with pytest.raises(ValueError, match="LONGREEL_KERNELS must be 'auto', 'plain' or 'triton', got 'cuda'"):
        dispatch.wanted_path()
    with pytest.raises(ValueError, match=r"using\(\) must be"), dispatch.using("fast"):
        pass


def test_importing_the_model_loads_no_triton():
    code = "import sys, model.vlm, model.kernels.dispatch; print('triton' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
