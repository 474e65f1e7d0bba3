"""However a step is spread over ranks, its losses, its gradient's norm and what it learns are those of one rank."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from many_ranks import RATE, STEPS, checkpoints_of, key, measure
from safetensors.torch import load_file
from tiny_corpus import TinyCorpus

from manifests.errors import UsageError
from manifests.fingerprint import canonical_json
from model import presets
from trainer.checkpoints import Checkpoints
from trainer.launch import Launch
from trainer.optimiser_state import StoredState
from trainer.parallel import require_plan
from trainer.ranks import Ranks

ALONE = Ranks(rank=0, world=1, device=torch.device("cpu"))
PHASES = ["projector", "dense", "warmup", "sparse"]
# Each with the phases it is measured in. Three sequences a step: two ranks have two passes each, one of them only in step.
TWO_RANKS: list[tuple[list[str], dict[str, Any]]] = [
    (["projector", "sparse"], {"zero": 0}),
    (["dense", "sparse"], {"zero": 1}),
    (["sparse"], {"zero": 2}),
    (PHASES, {"zero": 3}),
    (PHASES, {"zero": 2, "sequence": 2, "checkpointing": True}),
    (["sparse"], {"zero": 3, "sequence": 2}),
    (["projector", "dense", "sparse"], {"zero": 1, "expert": 2}),
    (["sparse"], {"zero": 2, "expert": 2, "sequence": 2, "checkpointing": True}),
    (["sparse"], {"zero": 2, "sequence": 2, "precision": "bf16"}),
]
ONE_RANK: list[tuple[list[str], dict[str, Any]]] = [
    (PHASES, {"zero": 1}),
    *((["sparse"], {"zero": zero}) for zero in (0, 2, 3)),
    (["sparse"], {"zero": 1, "precision": "bf16"}),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs below leave their models, in ``models`` and ``one``."""
    return tmp_path_factory.mktemp("many_ranks")


@pytest.fixture(scope="module")
def one_rank(tiny_corpus: TinyCorpus, folder: Path) -> dict[str, Any]:
    return measure(tiny_corpus.folder, tiny_corpus.recipe, ONE_RANK, folder / "one")


@pytest.fixture(scope="module")
def two_ranks(tiny_corpus: TinyCorpus, folder: Path) -> dict[str, Any]:
    (folder / "recipe.json").write_text(canonical_json(tiny_corpus.recipe))
    here = Path(__file__).parent
    script = [str(here / "many_ranks.py"), str(tiny_corpus.folder), str(folder / "recipe.json"), str(folder / "out.json")]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            "2",
            *script,
            json.dumps(TWO_RANKS),
        ],
        env={**os.environ, "PYTHONPATH": str(here.parents[1]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads((folder / "out.json").read_text()))


def equal(expected: list[list[float | None]], actual: list[list[float | None]], tolerance: float) -> bool:
    """Whether every figure of every step is, None only where None is expected."""
    return len(actual) == len(expected) and all(
        mine == yours or (mine is not None and yours is not None and yours == pytest.approx(mine, rel=tolerance))
        for mine_of_step, yours_of_step in zip(expected, actual, strict=True)
        for mine, yours in zip(mine_of_step, yours_of_step, strict=True)
    )


@pytest.mark.parametrize("way", [way for _, way in ONE_RANK[1:-1]], ids=str)
def test_on_one_rank_every_zero_stage_is_the_same(one_rank: dict[str, Any], way: dict[str, Any]) -> None:
    assert equal(one_rank[key("sparse", {"zero": 1})], one_rank[key("sparse", way)], 1e-4)


@pytest.mark.parametrize(
    ("phase", "way"), [(p, way) for names, way in TWO_RANKS if "precision" not in way for p in names], ids=str
)
def test_two_ranks_are_one(one_rank: dict[str, Any], two_ranks: dict[str, Any], phase: str, way: dict[str, Any]) -> None:
    """Loss, KL, balancing loss and gradient norm of three steps: of ZeRO 0 to 3, and of ranks that share sequences or
    experts."""
    expected = one_rank[key(phase, {"zero": 1})]
    assert len(expected) == 3
    assert equal(expected, two_ranks[key(phase, way)], 1e-4)


@pytest.mark.parametrize("way", [way for names, way in TWO_RANKS if "sparse" in names and "precision" not in way], ids=str)
def test_the_model_is_exported_whole(
    one_rank: dict[str, Any], two_ranks: dict[str, Any], folder: Path, way: dict[str, Any]
) -> None:
    """Every tensor under its published name, and with the values of one rank but for rounding, which Adam's first steps blow up
    where a gradient is nearly zero: a thousandth of the distance that a weight has moved, on average."""
    whole = load_file(folder / "one" / key("sparse", {"zero": 1}) / "model.safetensors")
    spread = load_file(folder / "models" / key("sparse", way) / "model.safetensors")
    assert {name: tensor.shape for name, tensor in spread.items()} == {name: tensor.shape for name, tensor in whole.items()}
    for name, tensor in whole.items():
        assert float((spread[name] - tensor).abs().mean()) < 1e-3 * STEPS * RATE, name


@pytest.mark.parametrize("way", [way for names, way in TWO_RANKS if "sparse" in names and "sequence" not in way], ids=str)
def test_a_checkpoint_of_two_ranks_is_read_on_one(
    one_rank: dict[str, Any], two_ranks: dict[str, Any], folder: Path, way: dict[str, Any]
) -> None:
    """Its weights are the exported model's, to the byte, and its moments those of one rank but for rounding."""
    stored, figures = [], (key("sparse", {"zero": 1}), key("sparse", way))
    for export in (folder / "one" / figures[0], folder / "models" / figures[1]):
        found, damaged = Checkpoints(checkpoints_of(export), ALONE).newest()
        assert found is not None, damaged
        assert found.position.updates == STEPS
        stored.append(StoredState(found.files))
    for name, tensor in load_file(folder / "models" / figures[1] / "model.safetensors").items():
        weight = torch.zeros(tensor.numel())
        stored[1].fill(name, "weight", 0, weight)
        assert torch.equal(weight, tensor.flatten()), name
        for moment in ("exp_avg", "exp_avg_sq"):
            one, two = torch.zeros(tensor.numel()), torch.zeros(tensor.numel())
            stored[0].fill(name, moment, 0, one)
            stored[1].fill(name, moment, 0, two)
            assert float((one - two).abs().mean()) <= 1e-3 * float(one.abs().mean()), (name, moment)


@pytest.mark.parametrize("way", [way for _, way in TWO_RANKS if "precision" in way], ids=str)
def test_two_ranks_are_one_in_bf16(one_rank: dict[str, Any], two_ranks: dict[str, Any], way: dict[str, Any]) -> None:
    """Rounding differs with the order of sums: losses to 1%, the first gradient's norm too."""
    expected, actual = one_rank[key("sparse", {"zero": 1, "precision": "bf16"})], two_ranks[key("sparse", way)]
    assert equal([step[:3] for step in expected], [step[:3] for step in actual], 1e-2)
    assert actual[0][3] == pytest.approx(expected[0][3], rel=1e-2)


@pytest.mark.parametrize(
    ("launch", "ranks", "zero", "precision", "message"),
    [
        (Launch(sequence_parallel=3), 8, 1, "fp32", "--sequence-parallel 3 does not divide the 8 ranks of this run"),
        (Launch(expert_parallel=16), 16, 1, "fp32", "--expert-parallel 16 does not divide the 8 experts of a layer"),
        (Launch(expert_parallel=2), 2, 3, "fp32", "--expert-parallel 2 goes with ZeRO 1 or 2, not 3"),
        (Launch(), 1, 0, "bf16", "ZeRO 0 keeps no fp32 copy of bf16 weights"),
    ],
)
def test_what_does_not_go_together_is_refused(launch: Launch, ranks: int, zero: int, precision: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        require_plan(launch, ranks=ranks, zero_stage=zero, precision=precision, config=presets.tiny())
