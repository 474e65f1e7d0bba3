"""A row that ranks share: who has which tokens, what they read, and that the parts add up to what one rank computes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributed import ProcessGroup

from model.sequence_shard import SequenceShard

NO_GROUP = cast(ProcessGroup, None)


@settings(max_examples=60, deadline=None)
@given(ranks=st.integers(2, 5), lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_every_token_is_once_somewhere_and_sees_its_own_sample_up_to_itself(ranks: int, lengths: list[int]) -> None:
    tokens = sum(lengths)
    ends = torch.tensor(lengths).cumsum(0).tolist()
    samples = tuple((end - length, end) for end, length in zip(ends, lengths, strict=True))
    if tokens < 2 * ranks:
        with pytest.raises(ValueError, match=f"a row of {tokens} tokens cannot be shared by {ranks} ranks"):
            SequenceShard(tokens, rank=0, size=ranks, group=NO_GROUP)
        return
    seen: dict[int, tuple[int, int]] = {}
    for rank in range(ranks):
        shard = SequenceShard(tokens, rank=rank, size=ranks, group=NO_GROUP)
        rows = shard.rows_L.tolist()
        assert abs(len(rows) - tokens / ranks) < 2
        covered = []
        for start, end, first, last in shard.segments(samples):
            covered += list(range(start, end))
            for row, sees in zip(rows[start:end], range(last - (end - start) + 1, last + 1), strict=True):
                assert row not in seen
                seen[row] = (first, sees)
        assert covered == list(range(len(rows)))
    for start, end in samples:
        for row in range(start, end):
            assert seen.pop(row) == (start, row + 1)
    assert not seen


def test_causal_work_is_even() -> None:
    """Visible pairs of one long sample, the most against the mean."""
    pairs = []
    for rank in range(8):
        shard = SequenceShard(4096, rank=rank, size=8, group=NO_GROUP)
        pairs.append(int((shard.rows_L + 1).sum()))
    assert max(pairs) / (sum(pairs) / 8) < 1.001


def test_every_picture_needs_an_owner() -> None:
    shard = SequenceShard(64, rank=1, size=3, group=NO_GROUP, owners=[1, 0, 1])
    assert [shard.pictures(), shard.pictures(0), shard.pictures(2)] == [[0, 2], [1], []]
    grid = torch.tensor([(1, 2, 2)] * 4)
    with pytest.raises(ValueError, match="a row of 4 pictures, of which 3 have an owner among 3 ranks"):
        shard.gather_pictures(torch.zeros(2, 8), grid, 2)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Differences that three processes measured: by mode, between the sum of their parts and one rank's whole."""
    out = tmp_path_factory.mktemp("shared") / "differences.json"
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3", "shared_row.py", str(out)],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(here.parents[1]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(out.read_text()))


@pytest.mark.parametrize("mode", ["dense", "warmup", "sparse"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_parts_add_up_to_the_whole(shared: dict[str, Any], mode: str, checkpointing: bool) -> None:
    """Losses, statistics and every parameter's gradient, relative to the largest value of each."""
    differences = shared[f"{mode} {checkpointing}"]
    assert {"token_losses_sum", "load_balancing_loss", "load", "entropy"} <= set(differences)
    assert ("indexer_loss" in differences) == (mode != "dense")
    wrong = {name: value for name, value in differences.items() if value > 1e-5}
    assert not wrong


def test_recall_is_the_rows(shared: dict[str, Any]) -> None:
    here, one = shared["recall"]
    assert here == pytest.approx(one, rel=1e-6)
    assert 0 < one[0] < 1


def test_a_rank_is_given_only_its_own_pictures(shared: dict[str, Any]) -> None:
    """Five pictures of 16, 4, 8, 16 and 4 patches on three ranks."""
    assert shared["pixels"] == [16, 16, 8 + 4 + 4]


@pytest.mark.parametrize("rank", range(3))
def test_divided_experts_compute_what_all_of_them_do(shared: dict[str, Any], rank: int) -> None:
    """On each rank's own row, forward and backward, with and without recomputation."""
    differences = shared["experts"][rank]
    wrong = {name: value for name, value in differences.items() if value > 1e-5}
    assert not wrong
    assert any(".experts.gate_up_proj" in name for name in differences)
