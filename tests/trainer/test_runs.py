"""Runs read back: finished, unfinished, torn, old; compared at the same tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from manifests.errors import CorruptCorpusError, UsageError
from trainer.metrics import TrainResult
from trainer.runs import at_same_tokens, read_run


def a_run(folder: Path, steps: list[dict[str, Any]], tail: str = "") -> Path:
    """A folder with these lines, each with the keys that every version wrote."""
    folder.mkdir(parents=True)
    common = {"phase": "dense", "seconds": 2.0, "data_wait_s": 0.5, "tokens": 100}
    lines = [json.dumps({**common, "stage": 0, "step": number, **step}) for number, step in enumerate(steps, 1)]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n" + tail)
    return folder


def test_a_finished_run_is_what_its_summary_says(whole_run: tuple[Path, TrainResult]) -> None:
    run = read_run(whole_run[0])
    assert run.recipe == "pocket"
    assert [stage.finished for stage in run.stages] == [True] * 4
    for stage, row in zip(run.stages, whole_run[1].stages, strict=True):
        for name in ("steps", "tokens", "first_loss", "last_loss", "heldout_before", "heldout_after", "indexer_recall"):
            assert getattr(stage, name) == pytest.approx(row[name])
    assert run.tokens == sum(row["tokens"] for row in whole_run[1].stages)
    assert {"image.caption", "text.plain", "video.caption"} == set(run.split("task"))
    losses = [line["losses"]["task"]["text.plain"][0] for line in run.steps if "text.plain" in line["losses"]["task"]]
    assert [value for _, value in run.curve("task:text.plain")] == losses


def test_an_unfinished_run_is_read_as_far_as_it_went(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "r", [{"loss": 4.0}, {"loss": 2.0}], tail='{"stage": 0, "st')
    (folder / "stage0").mkdir()
    (folder / "stage1").mkdir()
    (folder / "stage1" / "begun.json").write_text("{}")
    run = read_run(folder)
    assert [(stage.stage, stage.finished, stage.steps) for stage in run.stages] == [(0, False, 2), (1, False, 0)]
    assert (run.stages[0].first_loss, run.stages[0].mfu, run.stages[0].waited) == (3.0, None, 0.25)
    assert run.curve("loss") == [(100.0, 4.0), (200.0, 2.0)]
    assert run.split("task") == {}


def test_skipped_steps_and_losses_that_are_no_number_count_for_no_mean(tmp_path: Path) -> None:
    steps: list[dict[str, Any]] = [{"loss": 1.0}, {"loss": 50.0, "skipped": "spike"}, {"loss": None}, {"loss": 3.0}]
    run = read_run(a_run(tmp_path / "r", steps))
    assert run.stages[0].first_loss == 2.0
    assert (run.stages[0].steps, run.stages[0].skipped) == (4, 1)
    assert run.curve("loss") == [(100.0, 1.0), (400.0, 3.0)]


def test_runs_are_compared_at_the_same_tokens(tmp_path: Path) -> None:
    small = read_run(a_run(tmp_path / "a", [{"loss": 8.0}, {"loss": 6.0}, {"loss": 4.0}, {"loss": 2.0}]))
    large = read_run(
        a_run(tmp_path / "b", [{"loss": 9.0, "tokens": 200}, {"loss": 5.0, "tokens": 200}, {"loss": 1.0, "tokens": 200}])
    )
    assert at_same_tokens([small, large], points=2) == [(200, [7.0, 9.0]), (400, [3.0, 5.0])]
    assert at_same_tokens([small, large], points=4)[0] == (100, [8.0, None])


def test_what_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no folder: name the RUN"):
        read_run(tmp_path / "nowhere")
    a_run(tmp_path / "work" / "run", [{"loss": 1.0}])
    with pytest.raises(UsageError, match=r"is no run: it has no metrics.jsonl; did you mean .*/work/run\?"):
        read_run(tmp_path / "work")
    broken = a_run(tmp_path / "b", [{"loss": 1.0}])
    (broken / "metrics.jsonl").write_text('{"stage": 0}\n' + (broken / "metrics.jsonl").read_text())
    with pytest.raises(CorruptCorpusError, match=r"metrics\.jsonl, line 1 is no step \(KeyError: 'step'\)"):
        read_run(broken)
    (broken / "metrics.jsonl").write_text("")
    (broken / "evaluations.json").write_text("[")
    with pytest.raises(CorruptCorpusError, match=r"evaluations\.json cannot be read"):
        read_run(broken)
