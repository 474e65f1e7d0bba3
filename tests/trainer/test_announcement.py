"""What a stage says at its start is what it then trains."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_corpus import TinyCorpus, read_metrics

from manifests.catalog import Catalog
from trainer.announcement import announcement, duration, measured_rate
from trainer.build import build_model
from trainer.figures import planned_figures
from trainer.layout import Layout
from trainer.metrics import TrainResult
from trainer.model_shape import model_config
from trainer.stage_manifest import read_stages
from trainer.stages import phases_of


def said(corpus: TinyCorpus, stage: int, lines: list[dict]) -> dict[str, list[str]]:
    """The columns of a stage's table by their label."""
    catalog = Catalog(corpus.folder)
    manifest = read_stages(catalog, "pocket")[stage]
    text = announcement(
        corpus.recipe,
        model_config(corpus.recipe),
        manifest,
        phases_of(manifest.spec, manifest.steps),
        counted=planned_figures(catalog, corpus.recipe)[stage],
        layout=Layout(1),
        lines=lines,
    )
    rows = [line.split("  ") for line in text.splitlines()]
    return {cells[0]: cells[1:] for row in rows if (cells := [cell.strip() for cell in row if cell.strip()])}


def test_the_table_counts_what_trains_and_what_it_costs(tiny_corpus: TinyCorpus, whole_run: tuple[Path, TrainResult]) -> None:
    before = [line for line in read_metrics(whole_run[0]) if line["stage"] < 2]
    table = said(tiny_corpus, 2, before)
    assert table["stage 2 verified"] == ["warmup", "sparse"]
    parts = {part: sum(p.numel() for p in held.values()) for part, held in build_model(tiny_corpus.recipe).parts().items()}
    for part, size in parts.items():
        assert table[part] == [f"{size:,}", "1.0e-03" if part == "indexer" else "-", "1.0e-03"], part
    every = sum(parts.values())
    assert table["trained parameters"] == [f"of {every:,}", f"{parts['indexer']:,}", f"{every:,}"]
    assert table["attention"] == ["warmup", "sparse"]
    row = whole_run[1].stages[2]
    assert [table["steps"][0], table["tokens"][0]] == [f"{row['steps']:,}", f"{row['tokens']:,}"]
    assert all(cell.endswith("GiB") for cell in table["memory for tensors, at most"])
    flops = [float(cell) for cell in table["operations"]]
    assert flops[0] == pytest.approx(flops[1] + flops[2], rel=0.1)
    measured = sum(line["flops"] for line in read_metrics(whole_run[0]) if line["stage"] == 2)
    assert flops[0] == pytest.approx(measured, rel=0.5)
    assert "s" in table["expected time"][0]
    assert said(tiny_corpus, 0, [])["expected time"] == ["not measured yet"]


def test_the_rate_is_that_of_the_latest_steps() -> None:
    lines = [{"flops": 1e9, "seconds": 100.0}] * 5 + [{"flops": 4e9, "seconds": 2.0}] * 20 + [{"flops": None, "seconds": 1.0}]
    assert measured_rate(lines) == pytest.approx(2e9)
    assert measured_rate([]) is None
    assert [duration(s) for s in (5, 600, 7200, 400_000)] == ["5 s", "10 min", "2.0 h", "4.6 days"]
