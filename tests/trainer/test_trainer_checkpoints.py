"""Checkpoints are whole or not there; a damaged one is passed over."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from manifests.errors import UsageError
from trainer.checkpoints import Checkpoints, Position, write_model
from trainer.ranks import Ranks

ALONE = Ranks(rank=0, world=1, device=torch.device("cpu"))


def position(steps: int, world: int = 1) -> Position:
    return Position(stage=1, phase=0, steps=steps, world=world)


def save(checkpoints: Checkpoints, steps: int) -> None:
    def write(folder: Path, tag: str) -> None:
        (folder / tag).mkdir()
        (folder / tag / "state.pt").write_bytes(b"state of step %d" % steps)

    checkpoints.save(position(steps), write)


def test_the_newest_two_are_kept_and_latest_names_the_newest(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints", ALONE)
    assert checkpoints.newest() == (None, None, [])
    for steps in (2, 4, 10):
        save(checkpoints, steps)
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == ["latest", "step-00000004", "step-00000010"]
    assert (checkpoints.folder / "latest").read_text() == "step-00000010"
    assert checkpoints.newest() == (position(10), "step-00000010", [])


def test_a_write_that_dies_leaves_the_last_one_in_place(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, ALONE)
    save(checkpoints, 2)

    def dies(folder: Path, tag: str) -> None:
        (folder / tag).mkdir()
        (folder / tag / "state.pt").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(position(4), dies)
    assert checkpoints.newest()[0] == position(2)
    save(checkpoints, 4)
    assert checkpoints.newest()[0] == position(4)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "state.pt").write_bytes(b"other"), "state.pt is not what was written"),
        (lambda folder: (folder / "state.pt").unlink(), "state.pt is missing"),
        (lambda folder: (folder / "checkpoint.json").write_text("{"), "its record cannot be read"),
    ],
)
def test_a_damaged_one_is_named_and_passed_over(tmp_path: Path, damage: object, words: str) -> None:
    checkpoints = Checkpoints(tmp_path, ALONE)
    save(checkpoints, 2)
    save(checkpoints, 4)
    assert callable(damage)
    damage(tmp_path / "step-00000004")
    found, name, damaged = checkpoints.newest()
    assert (found, name) == (position(2), "step-00000002")
    assert len(damaged) == 1
    assert "step-00000004" in damaged[0]
    assert words in damaged[0]


def test_another_number_of_processes_is_refused(tmp_path: Path) -> None:
    save(Checkpoints(tmp_path, ALONE), 2)
    with pytest.raises(UsageError, match="written by 1 processes and this run has 2: resume with 1"):
        Checkpoints(tmp_path, Ranks(rank=0, world=2, device=torch.device("cpu"))).newest()


def test_a_model_folder_appears_whole(tmp_path: Path) -> None:
    def dies(folder: Path) -> None:
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_model(tmp_path / "model", dies, ALONE)
    assert not (tmp_path / "model").exists()
