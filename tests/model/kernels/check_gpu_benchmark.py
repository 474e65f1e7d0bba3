"""The GPU benchmark's measurements at toy sizes, once each: what a GPU would be asked runs, and every line is printed."""

from __future__ import annotations

import dsa_gpu
import dsa_gpu_floors as floors
import pytest
import torch
from dsa_gpu_clock import Table, Timed
from dsa_gpu_inputs import Geometry
from dsa_gpu_layers import experts, layer_checks, vision

from model.config import MoEConfig, VisionConfig
from model.kernels import dispatch

TOY = Geometry(heads=4, groups=2, dim=16, index_heads=2, index_dim=16, top_k=8)


class Rehearsal:
    """A clock that makes a call once, on the CPU, and says it took a second."""

    device = torch.device("cpu")

    def time(self, make, call, *, peer=False):
        try:
            call(make(0))
        except RuntimeError as error:
            if not peer:
                raise
            return Timed(0.0, 0, str(error).splitlines()[0])
        return Timed(1.0, 0)


@pytest.fixture
def table(monkeypatch):
    monkeypatch.setattr(dsa_gpu, "GEOMETRY", TOY)
    return Table(floors.Device(1e12, 1e12))


def measured(printed: str) -> list[str]:
    return [line for line in printed.splitlines() if line.rstrip().endswith(" 0") and "1000.000" in line]


@pytest.mark.parametrize(("part", "lines"), [("prefill", 6), ("training", 2), ("warmup", 2), ("decoding", 3)])
def test_every_line_of_sparse_attention_is_measured(table, capsys, part, lines):
    with dispatch.using("triton"):
        getattr(dsa_gpu, part)(Rehearsal(), table, 48)
    printed = capsys.readouterr().out
    assert len([line for line in measured(printed) if line.startswith("  ")]) == lines, printed
    assert "full attention" in printed


def test_experts_and_pictures_are_measured(table, capsys):
    experts(Rehearsal(), table, 64, MoEConfig(experts=8, experts_per_token=2, expert_size=16), hidden=32)
    vision(Rehearsal(), table, VisionConfig(hidden_size=32, heads=2), {"mixed": [4, 4, 9]})
    printed = capsys.readouterr().out
    assert [line.split("  ")[0] for line in measured(printed) if "one product" in line] == [
        "forward, one product an expert",
        "forward + backward, one product an expert",
    ]
    assert len([line for line in measured(printed) if line.startswith("  grouped")]) == 2
    assert "  packed" in printed
    assert "not measured: this torch has no packed attention for these tensors" in printed


def test_a_wrong_product_is_seen(monkeypatch):
    from model.kernels.grouped import one_product_a_group

    def check() -> dict[str, str | None]:
        return dict(layer_checks(3, torch.device("cpu"), torch.float32, 1e-4))

    assert check() == {"experts, gradients": None}
    monkeypatch.setattr("model.moe.grouped_product", lambda a, b, ends: one_product_a_group(a, b, ends) * 1.01)
    assert "differs" in check()["experts, gradients"]
