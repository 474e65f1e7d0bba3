"""A reader that hangs, crashes or is killed costs one item; the others are read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from manifests.recipe import Recipe
from pipelines.finished import finished_path, read_finished
from pipelines.inputs import find_inputs
from pipelines.isolation import Readers, import_path
from pipelines.items import Item
from pipelines.reading import Reading


def reading(item: Item, work: Path, key: str) -> Reading:
    return Reading(item=item, work=str(work), key=key)


@pytest.fixture
def item(tmp_path: Path) -> Item:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text(
        "A text that is long enough to be kept by the filter for short texts, with words to spare."
    )
    return find_inputs([tmp_path / "in"]).items[0]


def test_a_hanging_reader_is_given_up_and_replaced(item: Item, tmp_path: Path, recipe: Recipe) -> None:
    readers = Readers(recipe)
    readers.read(reading(item, tmp_path, "first"))
    (reader,) = readers.idle
    readers.limit_s = 0.5
    os.kill(reader.process.pid, signal.SIGSTOP)
    readers.read(reading(item, tmp_path, "late"))
    late = read_finished(finished_path(tmp_path, "late"))
    assert late.quarantine is not None
    assert (late.quarantine["stage"], late.quarantine["reason"]) == ("limit", "time_limit")
    readers.limit_s = 60
    readers.read(reading(item, tmp_path, "again"))
    assert finished_path(tmp_path, "again").read_bytes() == finished_path(tmp_path, "first").read_bytes()
    readers.close()


def test_a_reader_that_grows_too_large_costs_its_item(
    item: Item, tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow = (
        "import sys, time\n"
        "sys.stdin.readline(); print('ready', flush=True)\n"
        "sys.stdin.readline(); held = b'x' * (300 * 2**20); time.sleep(60)"
    )
    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **options: real([sys.executable, "-c", grow], **options))
    limited = replace(recipe, curate=replace(recipe.curate, item_memory_max=256 * 2**20))
    begun = time.monotonic()
    Readers(limited).read(reading(item, tmp_path, "large"))
    assert time.monotonic() - begun < 30
    large = read_finished(finished_path(tmp_path, "large"))
    assert large.quarantine is not None
    assert (large.quarantine["stage"], large.quarantine["reason"]) == ("limit", "memory_limit")
    assert "268,435,456" in large.quarantine["detail"]


def test_a_reader_that_dies_once_is_not_the_item_s_fault(item: Item, tmp_path: Path, recipe: Recipe) -> None:
    readers = Readers(recipe)
    readers.read(reading(item, tmp_path, "first"))
    readers.idle[0].process.kill()
    readers.idle[0].process.wait()
    readers.read(reading(item, tmp_path, "second"))
    assert read_finished(finished_path(tmp_path, "second")).status == "used"
    readers.close()


def test_an_item_that_kills_every_reader_is_quarantined(
    item: Item, tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash = (
        "import sys, os, signal\n"
        "sys.stdin.readline(); print('ready', flush=True)\n"
        "sys.stdin.readline(); os.kill(os.getpid(), signal.SIGSEGV)"
    )
    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **options: real([sys.executable, "-c", crash], **options))
    Readers(recipe).read(reading(item, tmp_path, "crashed"))
    crashed = read_finished(finished_path(tmp_path, "crashed"))
    assert crashed.quarantine is not None
    assert crashed.quarantine["reason"] == "reader_crash"
    assert "SIGSEGV" in crashed.quarantine["detail"]


def test_threads_get_readers_of_their_own(item: Item, tmp_path: Path, recipe: Recipe) -> None:
    readers = Readers(replace(recipe, curate=replace(recipe.curate, item_time_limit_s=60.0)))
    threads = [threading.Thread(target=readers.read, args=(reading(item, tmp_path, str(number)),)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert finished_path(tmp_path, "0").read_bytes() == finished_path(tmp_path, "1").read_bytes()
    readers.close()


def test_a_reader_ends_with_its_parent() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", "import os, subprocess, sys, time\n"
         "p = subprocess.Popen([sys.executable, '-m', 'pipelines.reader_process', str(os.getpid())], stdin=subprocess.PIPE)\n"
         "print(p.pid, flush=True); time.sleep(60)"],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": import_path()},
    )  # fmt: skip
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    time.sleep(0.5)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while (
        time.monotonic() < deadline and Path(f"/proc/{child}/cmdline").exists() and Path(f"/proc/{child}/cmdline").read_bytes()
    ):
        time.sleep(0.1)
    assert time.monotonic() < deadline


def test_a_reader_that_is_killed_while_it_starts_is_replaced(item: Item, tmp_path: Path, recipe: Recipe) -> None:
    readers = Readers(replace(recipe, curate=replace(recipe.curate, item_time_limit_s=61.0)))
    readers.start(1)
    readers.idle[0].process.kill()
    readers.read(reading(item, tmp_path, "started"))
    assert read_finished(finished_path(tmp_path, "started")).status == "used"
    readers.close()


def test_what_is_read_ahead_is_waited_for_and_read_once(
    item: Item, tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers = Readers(replace(recipe, curate=replace(recipe.curate, item_time_limit_s=63.0)))
    read, real = [], Readers._read

    def counted(self: Readers, asked: Reading) -> None:
        read.append(asked.key)
        real(self, asked)

    monkeypatch.setattr(Readers, "_read", counted)
    readers.read_ahead([reading(item, tmp_path, "ahead")])
    deadline = time.monotonic() + 10
    while not read and time.monotonic() < deadline:
        time.sleep(0.001)
    assert not finished_path(tmp_path, "ahead").exists()
    readers.read(reading(item, tmp_path, "ahead"))
    assert read == ["ahead"]
    assert read_finished(finished_path(tmp_path, "ahead")).status == "used"
    # What was read ahead in vain is read by whoever needs it.
    monkeypatch.setattr(Readers, "_read", lambda self, asked: time.sleep(0.2))
    readers.read_ahead([reading(item, tmp_path, "vain")])
    while not Readers._reading:
        time.sleep(0.001)
    monkeypatch.setattr(Readers, "_read", counted)
    readers.read(reading(item, tmp_path, "vain"))
    assert read == ["ahead", "vain"]
    readers.close()


def test_readers_that_start_together_are_one_that_forked(item: Item, tmp_path: Path, recipe: Recipe) -> None:
    readers = Readers(replace(recipe, curate=replace(recipe.curate, item_time_limit_s=62.0)))
    readers.start(3)
    threads = [threading.Thread(target=readers.read, args=(reading(item, tmp_path, str(number)),)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({finished_path(tmp_path, str(number)).read_bytes() for number in range(3)}) == 1
    parents = {
        reader.process.pid: int(Path(f"/proc/{reader.process.pid}/stat").read_text().split()[3]) for reader in readers.idle
    }
    (loaded,) = [child for child, parent in parents.items() if parent == os.getpid()]
    assert sorted(parents.values()) == sorted([os.getpid(), loaded, loaded])
    # Who forked the others may go; each of them ends when nobody can ask it any more.
    os.kill(loaded, signal.SIGKILL)
    for number in range(3):
        readers.read(reading(item, tmp_path, f"after-{number}"))
        assert read_finished(finished_path(tmp_path, f"after-{number}")).status == "used"
    forked = [reader for reader in readers.idle if reader.process.pid in parents and reader.process.pid != loaded]
    assert forked
    for reader in forked:
        assert reader.process.stdin is not None
        reader.process.stdin.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and any(running(reader.process.pid) for reader in forked):
        time.sleep(0.05)
    assert time.monotonic() < deadline
    readers.close()


def running(process: int) -> bool:
    """Whether there is such a process that has not ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
