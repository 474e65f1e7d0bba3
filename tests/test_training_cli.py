"""What a terminal shows of training: the live view, plain lines, `longreel runs`."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

import longreel
import longreel_live
from longreel_live import TrainingView
from manifests.errors import UsageError
from trainer.step_line import StepLine
from trainer.watching import PhaseView

VIEW = PhaseView(
    stage=2, name="verified", phase="sparse", attention="sparse", trains="everything", first=27, last=110, steps=110,
    peak_source="measured",
)  # fmt: skip


def line(step: int, loss: float, **changes: Any) -> StepLine:
    known: dict[str, Any] = {
        "stage": 2, "phase": "sparse", "step": step, "loss": loss, "indexer_loss": 0.3137, "balance_loss": 1.2,
        "grad_norm": 0.84, "lr": 5e-5, "tokens": 8165, "visual_tokens": 0, "seconds": 10.0, "data_wait_s": 1.0,
        "forward_s": 3.0, "backward_s": 5.0, "optimiser_s": 0.5, "data_wait_mean_s": 1.0, "tokens_per_s": 816.5,
        "flops": 1e12, "mfu": 0.213, "memory_bytes": 3 * 2**30, "sequences": (36, 37),
        "losses": {"task": {"text.plain": (loss, 10)}}, "indexer_kl": [0.3], "indexer_recall": 0.478,
        "expert_load": [1.8], "experts_unused": [1], "router_entropy": [2.0], "samples": "0f", "skipped": None,
    }  # fmt: skip
    return StepLine(**(known | changes))


def test_the_live_view_fits_80_columns_and_shows_every_figure() -> None:
    view = TrainingView()
    view.phase(VIEW, [9.0, 8.0])
    for step in range(28, 38):
        view.step(line(step, 80.0 / step))
    view.step(line(39, 90.0, skipped="spike"))
    view.step(line(38, 2.0, indexer_recall=None))
    view.checkpoint(2, 20)
    console = Console(width=80, file=io.StringIO(), color_system=None)
    console.print(view.rendered())
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    rows = shown.splitlines()
    assert all(len(row) <= 80 for row in rows)
    assert len(rows) == 6
    assert rows[0].startswith("stage 2 verified  step 38 of 110  sparse: 11 of 83")
    for figure in (
        "2.000", "▁", "█", "KL 0.3137, recall 47.8%", "busiest 1.8 x", "816 tok/s", "MFU 21.3% of the measured peak", "3.0 GiB",
        "wait 10% forward 30% backward 50% optimiser 5%", "12 min left", "stage 2, step 20, 1 skipped",
    ):  # fmt: skip
        assert figure in shown, figure


def test_plain_lines_come_now_and_then_and_at_the_end_of_a_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(longreel_live, "say", said.append)
    now = [100.0]
    monkeypatch.setattr(longreel_live.time, "monotonic", lambda: now[0])
    view = TrainingView()
    view.live = False
    view.phase(VIEW, [])
    for step in range(28, 34):
        now[0] += 4.0
        view.step(line(step, 5.0))
    view.step(line(110, 4.0))
    view("stage 2/sparse", 3, 83)
    assert [row.split("step ")[1].split(" ")[0] for row in said] == ["30", "33", "110"]
    assert said[-1] == "  stage 2/sparse: step 110 of 110  loss 4.000  KL 0.314  816 tok/s  MFU 21.3%  0 s left in stage"
    quiet = TrainingView(quiet=True)
    quiet.phase(VIEW, [])
    now[0] += 60.0
    quiet.step(line(110, 4.0))
    quiet("held-out", 1, 2)
    assert len(said) == 3


def write_run(folder: Path, losses: list[float]) -> Path:
    folder.mkdir()
    steps = [line(step, loss, stage=0, phase="align") for step, loss in enumerate(losses, 1)]
    steps.append(line(len(losses) + 1, 99.0, stage=0, phase="align", tokens=0, skipped="the loss is a spike"))
    (folder / "metrics.jsonl").write_text("".join(step.text() + "\n" for step in steps))
    (folder / "evaluations.json").write_text(json.dumps({"start": {"loss": 9.0}, "0": {"loss": losses[-1], "recall": 0.5}}))
    return folder


def test_runs_shows_and_compares(tmp_path: Path) -> None:
    a, b = write_run(tmp_path / "a", [9.0, 8.0, 7.0, 6.0]), write_run(tmp_path / "b", [9.0, 7.5, 6.0, 4.5])
    runner = CliRunner()
    alone = runner.invoke(longreel.app, ["runs", str(a), "--by", "task"])
    assert alone.exit_code == 0, alone.output
    assert "* not finished" in alone.output
    assert "text.plain" in alone.output
    assert "stage 0, step 5 changed nothing: the loss is a spike" in alone.output
    both = runner.invoke(longreel.app, ["runs", str(a), str(b), "--points", "2", "--json"])
    value = json.loads(both.output)
    assert [point["values"] for point in value["compared"]["points"]] == [[8.5, 8.25], [6.5, 5.25]]
    assert value["runs"][1]["stages"][0]["heldout_after"] == 4.5
    shown = runner.invoke(longreel.app, ["runs", str(a), str(b), "--points", "2"])
    assert "5.25 (-1.25)" in shown.output


def test_runs_says_what_it_does_not_know(tmp_path: Path) -> None:
    run = str(write_run(tmp_path / "a", [9.0]))
    for words, message in (
        (["--by", "colour"], "--by 'colour' is no axis: task, modality, context, duration"),
        (["--figure", "taste"], "no step has a figure 'taste'; the last step has .*mfu.*task:text.plain"),
        (["--stage", "3"], "has no stage 3: it has 0"),
    ):
        with pytest.raises(UsageError, match=message):
            CliRunner().invoke(longreel.app, ["runs", run, *words], catch_exceptions=False)
