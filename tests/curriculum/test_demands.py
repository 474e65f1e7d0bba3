"""A recipe that cannot be met fails before anything is written, and the message names the field to change."""

from __future__ import annotations

from pathlib import Path

import pytest
from counted_corpus import Counted, varied, write_corpus

from curriculum import plan
from curriculum.overrides import apply
from curriculum.recipes import keye_vl_2, laptop
from manifests.errors import LongreelError, UsageError
from manifests.tasks import TASKS, unknown_task


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("stage1.mixture.video.weight=-1", r"mixture\.video: weight=-1\.0 must be a finite number above 0"),
        ("stage1.mixture.video.weight=nan", r"weight"),
        ("stage1.mixture.video.task=vidoe", r"mixture\.vidoe: unknown task 'vidoe'; did you mean 'video'\?"),
        ("stage1.mixture.video.task=video.captoin", r"unknown task 'video\.captoin'; did you mean 'video\.caption'\?"),
        ("stage2.visual_budget=-5", r"stage2: visual_budget=-5 must be between 0 and context=2048"),
        ("stage2.tokens=-1", r"stage2: tokens=-1 must be above 0"),
        ("stage3.context=0", r"stage3: context=0 must be above 0"),
        ("stage3.long_share=1.5", r"stage3: long_share=1\.5 must be in \[0, 1\]"),
        ("stage3.text_share=-0.1", r"stage3: text_share=-0\.1 must be in \[0, 1\]"),
        ("stage3.source_share_max=0", r"stage3: source_share_max=0 would take every sample away"),
        ("stage3.temperature=0", r"stage3: temperature=0\.0 must be above 0"),
        ("stage3.ranks=3", r"stage3: ranks=3 must divide sequences_per_step=1"),
        ("stage0.epochs_max=0", r"stage0: epochs_max=0\.0 must be above 0"),
    ],
)
def test_fields_that_make_no_sense_are_named_when_the_recipe_is_made(change: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        apply(laptop(), [change])


def test_a_weight_that_cannot_be_met_is_named_before_anything_is_written(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", varied())
    before = corpus.digest()
    with pytest.raises(
        LongreelError, match=r"stage2\.mixture\.[a-z]+\.weight cannot be met: it wants .* stage2\.shortfall_max=0\.05"
    ):
        plan(corpus.folder, apply(laptop(), ["stage2.shortfall_max=0.05", "stage2.tokens=2_000_000"]))
    assert corpus.digest() == before
    assert plan(corpus.folder, apply(laptop(), ["stage2.shortfall_max=1", "stage2.tokens=2_000_000"])).counts["stages"]


def test_a_context_smaller_than_a_sample_is_named(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", [*varied(), Counted(task="code.file", total=9_000)])
    with pytest.raises(
        UsageError, match=r"stage3\.context=8192 is smaller than 1 samples, the longest [0-9a-f]{32} \(code\.file, 9,000 tok"
    ):
        plan(corpus.folder, laptop())
    result = plan(corpus.folder, apply(laptop(), ["stage3.leave_out_longer=true"]))
    assert result.counts["stages"][3]["shortfall"]["left_out"]["longer than the context"] == 1


def test_every_task_of_the_recipes_is_known() -> None:
    for recipe in (laptop(), keye_vl_2()):
        assert all(unknown_task(entry.task) is None for stage in recipe.stages for entry in stage.mixture)
    assert unknown_task("*") is unknown_task("reason.video") is unknown_task("image") is None
    assert all(unknown_task(task) is None for task in TASKS)
