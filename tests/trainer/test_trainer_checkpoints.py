"""Checkpoints are whole or not there, in the foreground and behind it; a damaged one is passed over, a failed write is said."""

from __future__ import annotations

import errno
import resource
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import trainer.checkpoints
from trainer.checkpoints import Checkpoints, CheckpointWriteError, Position, write_model
from trainer.ranks import Ranks

ALONE = Ranks(rank=0, world=1, device=torch.device("cpu"))
FULL = OSError(errno.ENOSPC, "No space left on device")


def position(steps: int) -> Position:
    return Position(stage=1, phase=0, steps=steps, world=1, updates=steps - 1)


def save(checkpoints: Checkpoints, steps: int) -> None:
    checkpoints.save(position(steps), {"a.weight|0|weight": torch.full([4], float(steps))}, {"recent": [0.1, steps]})


def newest(checkpoints: Checkpoints) -> int | None:
    """The step of the newest whole one, whose numbers are that step's."""
    found, _ = checkpoints.newest()
    if found is None:
        return None
    assert load_file(found.files[0])["a.weight|0|weight"].tolist() == [float(found.position.steps)] * 4
    assert found.position == position(found.position.steps)
    assert found.rules == {"recent": [0.1, found.position.steps]}
    return found.position.steps


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Fills and frees the disk."""
    genuine = trainer.checkpoints.save_file
    state = {"full": False}

    def write(tensors: Any, path: Path) -> None:
        if state["full"]:
            path.write_bytes(b"half")
            raise FULL
        genuine(tensors, path)

    monkeypatch.setattr(trainer.checkpoints, "save_file", write)
    return lambda on: state.update(full=on)


@pytest.mark.parametrize("in_background", [False, True])
def test_the_newest_two_are_kept(tmp_path: Path, in_background: bool) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints", ALONE, in_background=in_background)
    assert checkpoints.newest() == (None, [])
    for steps in (2, 4, 10):
        save(checkpoints, steps)
    checkpoints.settle()
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == ["step-00000004", "step-00000010"]
    assert sorted(path.name for path in (checkpoints.folder / "step-00000010").iterdir()) == [
        "checkpoint.json", "rank-00000.safetensors",
    ]  # fmt: skip
    assert newest(checkpoints) == 10


def test_what_a_killed_write_left_is_no_checkpoint_and_goes_with_the_next(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, ALONE)
    save(checkpoints, 2)
    left = tmp_path / ".unfinished-step-00000004"
    left.mkdir()
    (left / "rank-00000.safetensors").write_bytes(b"half")
    assert newest(checkpoints) == 2
    save(checkpoints, 6)
    assert newest(checkpoints) == 6
    assert not left.exists()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "rank-00000.safetensors").write_bytes(b"other"), "rank-00000.safetensors is not what was"),
        (lambda folder: (folder / "rank-00000.safetensors").unlink(), "rank-00000.safetensors is missing"),
        (lambda folder: (folder / "checkpoint.json").write_text("{"), "its record cannot be read"),
        (lambda folder: (folder / "checkpoint.json").write_text("[]"), "its record cannot be read"),
    ],
)
def test_a_damaged_one_is_named_and_passed_over(tmp_path: Path, damage: Callable[[Path], object], words: str) -> None:
    checkpoints = Checkpoints(tmp_path, ALONE)
    save(checkpoints, 2)
    save(checkpoints, 4)
    damage(tmp_path / "step-00000004")
    found, damaged = checkpoints.newest()
    assert found is not None
    assert found.position == position(2)
    assert len(damaged) == 1
    assert "step-00000004" in damaged[0]
    assert words in damaged[0]


@pytest.mark.parametrize("in_background", [False, True])
def test_one_failed_write_is_said_and_the_older_stands_two_end_the_run(
    tmp_path: Path, full: Callable[[bool], None], capsys: pytest.CaptureFixture[str], in_background: bool
) -> None:
    checkpoints = Checkpoints(tmp_path, ALONE, in_background=in_background)
    save(checkpoints, 2)
    checkpoints.settle()
    full(True)
    save(checkpoints, 4)
    checkpoints.settle()
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "step-00000004 could not be written ([Errno 28] No space left on device): step-00000002 stands" in said
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000002"]
    full(False)
    save(checkpoints, 6)
    checkpoints.settle()
    full(True)
    save(checkpoints, 8)
    message = (
        r"step-00000010 could not be written \(.*No space left.*\), nor the one before it: make room, then go on from step-0"
    )
    with pytest.raises(CheckpointWriteError, match=message):
        (save(checkpoints, 10), checkpoints.settle())
    assert newest(checkpoints) == 6


def test_without_an_older_one_a_failed_write_ends_the_run(tmp_path: Path, full: Callable[[bool], None]) -> None:
    full(True)
    with pytest.raises(CheckpointWriteError, match="no older checkpoint of the stage stands"):
        save(Checkpoints(tmp_path, ALONE), 2)


def test_a_limit_of_the_system_is_met_like_a_full_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The limit on the size of a file is the one way to make a genuine write fail that needs no file system of its own."""
    checkpoints = Checkpoints(tmp_path, ALONE)
    save(checkpoints, 2)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        checkpoints.save(position(4), {"a.weight|0|weight": torch.zeros(10_000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "File too large" in capsys.readouterr().err
    assert newest(checkpoints) == 2


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointWriteError, match=r"file/checkpoints/step-00000002 could not be written \(.*Not a directory"):
        save(Checkpoints(tmp_path / "file" / "checkpoints", ALONE), 2)


def test_training_goes_on_while_a_checkpoint_is_written_from_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine, may_write = trainer.checkpoints.save_file, threading.Event()

    def write(tensors: Any, path: Path) -> None:
        assert may_write.wait(timeout=20)
        genuine(tensors, path)

    monkeypatch.setattr(trainer.checkpoints, "save_file", write)
    checkpoints = Checkpoints(tmp_path, ALONE, in_background=True)
    weight = torch.full([4], 2.0)
    checkpoints.save(position(2), {"a.weight|0|weight": weight}, {"recent": [0.1, 2]})
    weight.add_(5)
    assert checkpoints.newest() == (None, [])
    assert checkpoints.standing() is None
    may_write.set()
    checkpoints.settle()
    assert newest(checkpoints) == 2
    assert checkpoints.standing() == 2


def test_a_defect_is_not_taken_for_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(tensors: Any, path: Path) -> None:
        raise TypeError("a defect")

    checkpoints = Checkpoints(tmp_path, ALONE)
    save(checkpoints, 2)
    monkeypatch.setattr(trainer.checkpoints, "save_file", write)
    with pytest.raises(TypeError, match="a defect"):
        save(checkpoints, 4)


class Together:
    """Sums over threads that stand for the ranks of a run, as `Ranks.total` makes them over processes."""

    def __init__(self, world: int) -> None:
        self.barrier, self.given = threading.Barrier(world, timeout=20), [[0.0]] * world

    def total(self, rank: int, values: list[float]) -> list[float]:
        self.given[rank] = values
        self.barrier.wait()
        sums = [sum(each) for each in zip(*self.given, strict=True)]
        self.barrier.wait()
        return sums


@pytest.mark.parametrize("in_background", [False, True])
@pytest.mark.parametrize("loser", [0, 1])
def test_ranks_agree_on_what_one_of_them_could_not_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_background: bool, loser: int
) -> None:
    """Steps 4 and 8 to 10 fail on one of two ranks: both drop step 4, both end at the second of 8 and 10, step 6 stands."""
    together, genuine = Together(2), trainer.checkpoints.save_file

    def write(tensors: Any, path: Path) -> None:
        if path.name == f"rank-{loser:05d}.safetensors" and any(f"{step:08d}" in str(path) for step in (4, 8, 10)):
            raise FULL
        genuine(tensors, path)

    class OneOfTwo(Ranks):
        def total(self, values: Any) -> list[float]:
            return together.total(self.rank, list(values))

    monkeypatch.setattr(trainer.checkpoints, "save_file", write)
    ends: dict[int, str] = {}

    def run(rank: int) -> None:
        checkpoints = Checkpoints(tmp_path, OneOfTwo(rank=rank, world=2, device=ALONE.device), in_background=in_background)
        try:
            for steps in (2, 4, 6, 8, 10):
                save(checkpoints, steps)
            checkpoints.settle()
        except CheckpointWriteError as error:
            ends[rank] = str(error)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {path.name for path in tmp_path.iterdir()} == {"step-00000002", "step-00000006"}
    assert "step-00000010 could not be written ([Errno 28] No space left" in ends[loser]
    assert "nor the one before it: make room, then go on from step-00000006" in ends[1 - loser]
    assert len(list((tmp_path / "step-00000006").glob("rank-*.safetensors"))) == 2


def test_a_model_folder_appears_whole(tmp_path: Path) -> None:
    def fails(folder: Path) -> None:
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"half")
        raise FULL

    with pytest.raises(CheckpointWriteError, match=r"model could not be written \(.*No space left.*go on from the newest"):
        write_model(tmp_path / "model", fails, ALONE)
    assert list(tmp_path.iterdir()) == []
