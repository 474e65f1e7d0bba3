"""A whole run: what each stage changes, what it writes, and how it refuses."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_corpus import TinyCorpus, read_metrics, tiny_recipe

from manifests.catalog import Catalog
from manifests.errors import UsageError
from manifests.recipe import Recipe
from model.vlm import part_of
from trainer import train
from trainer.build import build_model, load_model
from trainer.loader import StageSequences
from trainer.metrics import MetricsFile, TrainResult


def changed_parts(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    """The parts whose tensors differ in at least one byte."""
    assert before.keys() == after.keys()
    return {part_of(name) for name in before if bytes_of(before[name]) != bytes_of(after[name])}


def bytes_of(tensor: torch.Tensor) -> bytes:
    return tensor.reshape(-1).contiguous().view(torch.uint8).numpy().tobytes()


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_freeze_rules(tiny_corpus: TinyCorpus, whole_run: tuple[Path, TrainResult], tmp_path: Path) -> None:
    """Exported model against exported model, tensor by tensor."""
    out, _ = whole_run
    build_model(tiny_corpus.recipe).save_pretrained(tmp_path / "start")
    start = weights(tmp_path / "start")
    stages = [weights(out / f"stage{number}" / "model") for number in range(4)]
    warmed = weights(out / "stage2" / "phase0" / "model")
    everything = {"vision", "projector", "embeddings", "decoder", "lm_head"}
    assert changed_parts(start, stages[0]) == {"projector"}
    assert changed_parts(stages[0], stages[1]) == everything
    assert changed_parts(stages[1], warmed) == {"indexer"}
    assert changed_parts(warmed, stages[2]) == everything | {"indexer"}
    for part, before, after in (("projector", start, stages[0]), ("indexer", stages[1], warmed)):
        untouched = {name for name in start if part_of(name) == part and bytes_of(before[name]) == bytes_of(after[name])}
        assert not untouched


@pytest.mark.parametrize(("stage", "phase", "start"), [(1, 0, "stage0/model"), (2, 1, "stage2/phase0/model")])
def test_a_stage_and_a_phase_start_from_the_model_before_them(
    tiny_corpus: TinyCorpus, whole_run: tuple[Path, TrainResult], stage: int, phase: int, start: str
) -> None:
    """The first step's loss is that of the model which the stage or phase before left, on the sequences that are due."""
    spec = tiny_corpus.recipe.stages[stage].phases[phase]
    lines = [line for line in read_metrics(whole_run[0]) if line["stage"] == stage]
    first = next(line for line in lines if line["phase"] == spec.name)
    model = load_model(whole_run[0] / start, tiny_corpus.recipe.train)
    reader = StageSequences(Catalog(tiny_corpus.folder), tiny_corpus.recipe, stage=stage, split="train")
    batches = [reader.batch(position) for position in range(*first["sequences"])]
    losses = torch.zeros(())
    for b in batches:
        output = model(
            b.input_ids, cu_seqlens=b.cu_seqlens, pixel_values=b.pixel_values, image_grid_thw=b.image_grid_thw,
            attention=spec.attention, labels=b.labels,
        )  # fmt: skip
        losses += output.token_losses_sum.detach()
    assert first["loss"] == pytest.approx(float(losses) / sum(b.targets for b in batches), rel=1e-6)
    assert lines.index(first) == first["step"] - 1


def test_metrics_hold_each_step_once_and_the_summary_agrees(whole_run: tuple[Path, TrainResult]) -> None:
    out, result = whole_run
    lines = read_metrics(out)
    rows = json.loads((out / "summary.json").read_text())
    assert rows == {"recipe": "pocket", "stages": result.stages}
    for row in result.stages:
        mine = [line for line in lines if line["stage"] == row["stage"]]
        assert [line["step"] for line in mine] == list(range(1, row["steps"] + 1))
        assert sum(line["tokens"] for line in mine) == row["tokens"]
        assert all(math.isfinite(line["loss"]) and line["grad_norm"] >= 0 for line in mine)
        assert row["first_loss"] == pytest.approx(sum(line["loss"] for line in mine[:5]) / len(mine[:5]))
    assert {line["phase"] for line in lines if line["indexer_loss"] is not None} == {"warmup", "sparse"}


def test_held_out_is_measured_once_between_stages_and_falls(whole_run: tuple[Path, TrainResult]) -> None:
    _, result = whole_run
    rows = result.stages
    assert [row["heldout_before"] for row in rows[1:]] == [row["heldout_after"] for row in rows[:-1]]
    assert [row["heldout_attention"] for row in rows] == ["dense", "dense", "sparse", "sparse"]
    assert rows[-1]["heldout_after"] < rows[0]["heldout_before"] - 1.0
    assert all(0 < row["indexer_recall"] <= 1 for row in rows)


def test_nothing_is_redone(tiny_corpus: TinyCorpus, whole_run: tuple[Path, TrainResult]) -> None:
    out, result = whole_run
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    again = train(tiny_corpus.folder, tiny_corpus.recipe, stages=[0, 1, 2, 3], out=out)
    assert again.unchanged
    assert again.stages == result.stages
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}


def refuses(corpus: TinyCorpus, message: str, **arguments: Any) -> None:
    given: dict[str, Any] = {"stages": [0], "recipe": corpus.recipe, **arguments}
    with pytest.raises(UsageError, match=message):
        train(corpus.folder, given.pop("recipe"), **given)


def test_refusals_say_what_to_do(tiny_corpus: TinyCorpus, whole_run: tuple[Path, TrainResult], tmp_path: Path) -> None:
    other: Recipe = dataclasses.replace(tiny_corpus.recipe, name="other")
    refuses(
        tiny_corpus, "no plan for recipe 'other'; it has plans for pocket: run `longreel plan", recipe=other, out=tmp_path / "a"
    )
    refuses(
        tiny_corpus, "stage 2 starts from the model of stage 1, .* --stage 1 --out .* first", stages=[2], out=tmp_path / "b"
    )
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "thesis.txt").write_text("mine")
    refuses(tiny_corpus, r"is not empty and no run \(it holds thesis.txt\): give another --out", out=tmp_path / "c")
    (tmp_path / "d" / "stage0").mkdir(parents=True)
    (tmp_path / "d" / "stage0" / "begun.json").write_text('{"identity": "x"}')
    refuses(
        tiny_corpus,
        r"stage0 is unfinished: go on with `longreel train .*tiny --recipe pocket --stage 0 --out .*d --resume`, or give",
        out=tmp_path / "d",
    )
    refuses(tiny_corpus, "stage0 was begun from another plan", out=tmp_path / "d", resume=True)
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()


def test_a_run_of_another_plan_is_not_continued(
    tokenizer_folder: Path, whole_run: tuple[Path, TrainResult], tmp_path: Path
) -> None:
    replanned = TinyCorpus(tmp_path / "corpus", tiny_recipe(tokenizer_folder))
    replanned.add_samples("train", 9)
    replanned.add_samples("heldout", 3)
    replanned.plan_fingerprint = "another"
    replanned.write()
    refuses(replanned, "stage0 was trained from another plan than the corpus has now", out=whole_run[0])


def test_metrics_after_the_restored_step_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"stage": s, "step": k}) + "\n" for s in (0, 1) for k in (1, 2, 3)) + '{"stage": 1, "st')
    MetricsFile(path).cut(1, 2)
    assert [(line["stage"], line["step"]) for line in read_metrics(tmp_path)] == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2)]
