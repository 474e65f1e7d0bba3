"""The pipeline runs where job servers can set their signal handlers, tells how far it is, and ends with its last words."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from kill_curation import PROCESSES, finish, kill_worker_when, start, workers

from manifests.errors import LongreelError
from manifests.recipe import Recipe
from pipelines import running


def test_the_pipeline_has_the_main_thread_and_is_watched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, recipe: Recipe
) -> None:
    ran: list[threading.Thread] = []
    told = threading.Event()

    def run(*_: object) -> None:
        ran.append(threading.current_thread())
        assert told.wait(10)

    monkeypatch.setattr(running, "_run", run)
    running.run_pipeline([], tmp_path, recipe, (), told.set)
    assert ran == [threading.main_thread()]


def test_a_failed_pipeline_says_its_last_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, recipe: Recipe) -> None:
    def run(*_: object) -> None:
        raise RuntimeError("Traceback of a worker\n  file, line\nOSError: disk full\n")

    monkeypatch.setattr(running, "_run", run)
    with pytest.raises(LongreelError, match=r"curation failed: OSError: disk full; what is finished is kept"):
        running.run_pipeline([], tmp_path, recipe, (), lambda: None)


def test_a_killed_worker_ends_the_run_and_the_next_goes_on(tmp_path: Path, examples: Path) -> None:
    """Beam's runner alone would wait for it without an end; and an interrupt may be ignored, as in a background job."""
    out, inputs = tmp_path / "out", [examples / "gui", examples / "traces"]

    def reading() -> bool:
        return bool(list((out / "_work" / "items").glob("??/[!.]*")))

    process = start(out, *inputs, options=PROCESSES)
    said = kill_worker_when(process, reading, lambda _: workers(process, "beam_worker")[0])
    assert "beam_worker killed, ended with" in said
    assert "what is finished is kept, run it again" in said
    assert not (out / "steps").exists()
    _, reused, count = finish(out, *inputs)
    assert 1 <= reused <= count
    assert not (out / "_work" / "workers").exists()


def test_an_interrupt_ends_it_soon(tmp_path: Path, examples: Path) -> None:
    # Enough inputs that the first one is not also nearly the last: a run that is done cannot be interrupted.
    process = start(tmp_path / "out", examples / "gui", examples / "traces")
    deadline = time.monotonic() + 120
    while not list((tmp_path / "out" / "_work" / "items").glob("??/[!.]*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    try:
        process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail("curation went on for 30 s after an interrupt")
    assert process.returncode != 0
    assert not (tmp_path / "out" / "steps").exists()
