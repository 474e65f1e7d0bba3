"""Without a GPU the GPU benchmark says so and measures nothing; its checks run on the interpreter and can fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import dsa_gpu_floors as floors
import pytest
import torch
from dsa_gpu_checks import _differing
from dsa_gpu_inputs import NOISE, Geometry, distinct_of_neighbours, packed_row

from model.indexer import index_scores, top_k_indices

ROOT = Path(__file__).resolve().parents[3]


def test_without_a_gpu_nothing_is_measured():
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["CUDA_VISIBLE_DEVICES"] = ""
    script = str(ROOT / "benchmarks" / "dsa_gpu.py")
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert done.stdout.startswith("not measured: no CUDA device here.")


def test_a_check_sees_a_wrong_key_and_forgives_rounding():
    scores = torch.tensor([[3.0, 1.0, 2.0, 2.0 - 1e-6, 0.5]])
    best = top_k_indices(scores, 2)
    assert _differing(best.int(), scores, 2, exact=True) is None
    assert _differing(torch.tensor([[0, 3]]), scores, 2, exact=True) == "2 keys differ"
    assert _differing(torch.tensor([[0, 3]]), scores, 2, exact=False) is None
    assert _differing(torch.tensor([[0, 4]]), scores, 2, exact=False) == "1 keys differ whose scores do not"
    assert _differing(torch.tensor([[0, -1]]), scores, 2, exact=False) == "sets of another size"


def test_floors_count_what_the_docs_say():
    g, tokens = Geometry(), 131072
    assert floors.full_forward(tokens, g).operations == pytest.approx(1.41e14, rel=0.01)
    assert floors.selection(tokens, g).operations == pytest.approx(1.76e13, rel=0.01)
    assert floors.sparse_forward(tokens, g).operations == pytest.approx(4.36e12, rel=0.01)
    assert floors.full_decode([tokens], g).moved == 2 * tokens * 4 * 128 * 2
    assert floors.pairs(5, 2) == 1 + 2 + 2 + 2 + 2
    assert floors.device_named("NVIDIA H100 80GB HBM3").rate == 989e12
    assert floors.device_named("something else") is None


def test_planted_scores_have_the_locality_they_promise():
    geometry, found = Geometry(heads=1, groups=1, dim=16, top_k=64), {}
    for scores in NOISE:
        row = packed_row([4096], geometry, scores=scores, seed=1, device=torch.device("cpu"), dtype=torch.float32, top_k=64)
        last = slice(4096 - 128, 4096)
        chosen = top_k_indices(index_scores(row.index_q[last], row.index_k, row.index_w[last]), 64)
        found[scores] = distinct_of_neighbours(chosen, places=8)
    assert 3 < found["planted"] < 5.5
    assert found["worst"] > 12
