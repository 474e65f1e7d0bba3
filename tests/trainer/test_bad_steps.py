"""A bad step changes nothing, is listed with its samples, and is the same one after a resume."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_corpus import TinyCorpus, read_metrics

from manifests.catalog import Catalog
from manifests.recipe import TrainSpec
from manifests.stage_spec import PhaseSpec
from trainer import train
from trainer.bad_steps import StepRule, TooManySkippedError
from trainer.build import build_model
from trainer.engine import NO_GRADIENT, Objective, PhaseEngine, StepFigures
from trainer.loader import StageSequences, StepBatches
from trainer.ranks import start_ranks
from trainer.tally import StepSight

EVERYTHING = PhaseSpec(name="d", attention="dense", trains="everything")
NOTHING_SEEN = StepSight(
    losses={}, indexer_kl=[], expert_load=[], experts_unused=[], router_entropy=[], flops=0.0, data_wait_s=0.0
)


def figures(loss: float, skipped: str | None, indexer: float | None = None) -> StepFigures:
    return StepFigures(
        loss=loss, indexer_loss=indexer, balance_loss=1.0, grad_norm=1.0, tokens=1, visual_tokens=0, forward_s=0.0,
        backward_s=0.0, optimiser_s=0.0, sight=NOTHING_SEEN, skipped=skipped,
    )  # fmt: skip


def skips(losses: list[float], **fields: Any) -> list[int]:
    """Which of the losses a rule leaves out."""
    rule, left_out = StepRule(TrainSpec(skipped_max=1000, **fields), EVERYTHING), []
    for step, loss in enumerate(losses):
        reason = rule.judge(loss, 0.0, 1.0)
        rule.note(figures(loss, reason))
        if reason is not None:
            left_out.append(step)
    return left_out


def test_a_spike_is_far_above_the_median_once_enough_is_known() -> None:
    steady = [3.0 + 0.1 * math.sin(step) for step in range(60)]  # median 3.00, median deviation 0.072: limit 4.07
    assert skips(steady) == []
    assert skips([*steady, 4.0, 3.0, 4.2, 2.9, 0.1]) == [62]
    assert skips([*steady[:20], 9.0, *steady[20:]]) == []  # 20 known of the 32 that it takes
    assert skips([*steady, 9.0, 9.0], spike_mads=0.0) == []
    assert skips([*steady, float("nan"), float("inf"), 3.0], spike_mads=0.0) == [60, 61]


def test_a_skipped_loss_does_not_move_the_median() -> None:
    assert skips([3.0 + 0.1 * math.sin(step) for step in range(60)] + [9.0] * 80) == list(range(60, 140))


def test_a_warm_up_watches_the_indexer() -> None:
    rule = StepRule(TrainSpec(spike_window=8), PhaseSpec(name="w", attention="warmup", trains="indexer"))
    for step in range(8):
        rule.note(figures(9.0, None, indexer=0.5 + 0.01 * step))
    assert rule.judge(90.0, 0.5, 1.0) is None
    reason = rule.judge(9.0, 5.0, 1.0)
    assert reason is not None
    assert "the indexer loss 5 is above 0.8315: the median 0.535 of the last 8 steps + 10 x 0.0297" in reason
    assert rule.judge(9.0, float("nan"), 1.0) == "the indexer's loss is nan"


def test_the_rule_goes_on_from_its_state_as_if_nothing_had_been() -> None:
    losses = [3.0 + 0.1 * math.sin(step) for step in range(50)] + [9.0, 3.0, float("nan")]
    rules = [StepRule(TrainSpec(), EVERYTHING) for _ in range(2)]
    for loss in losses:
        rules[0].note(figures(loss, rules[0].judge(loss, 0.0, 1.0)))
    rules[1].restore(json.loads(json.dumps(rules[0].state())))
    for loss in (3.1, 4.0, 4.4, 9.0):
        assert rules[0].judge(loss, 0.0, 1.0) == rules[1].judge(loss, 0.0, 1.0)
    assert rules[0].state() == rules[1].state()


def test_too_many_in_a_window_end_the_run_and_name_the_file() -> None:
    rule = StepRule(TrainSpec(spike_window=10, skipped_max=3), EVERYTHING)
    for skipped in (None, "bad", "bad", *[None] * 8, "bad", "bad"):
        rule.note(figures(1.0, skipped))
        rule.require_sound("stage 1, step 5", Path("run/skipped.jsonl"))
    rule.note(figures(1.0, "bad"))
    message = r"stage 1, step 5: 3 of the last 10 steps were skipped; run/skipped\.jsonl lists them with their samples"
    with pytest.raises(TooManySkippedError, match=message):
        rule.require_sound("stage 1, step 5", Path("run/skipped.jsonl"))


def test_a_phase_that_changed_nothing_is_no_phase() -> None:
    with pytest.raises(TooManySkippedError, match=r"stage 0/align: every step was skipped; run/skipped\.jsonl lists them"):
        StepRule.require_learnt("stage 0/align", 0, Path("run/skipped.jsonl"))


@pytest.mark.parametrize("zero", [0, 1, 2, 3])
def test_a_skipped_step_leaves_no_trace_in_weights_moments_and_gradients(
    tiny_corpus: TinyCorpus, monkeypatch: pytest.MonkeyPatch, zero: int
) -> None:
    """Good, spike, bad gradient, good: the same as good, good. Two passes a step, so that gradients of an earlier pass wait."""
    train_spec = dataclasses.replace(tiny_corpus.recipe.train, zero_stage=zero)
    reader = StageSequences(Catalog(tiny_corpus.folder), tiny_corpus.recipe, stage=1, split="train")
    steps = [
        StepBatches(step=step, batches=tuple((reader.batch(2 * step + k), 1.0) for k in range(2)), waited_s=0.0)
        for step in range(2)
    ]
    ends = []
    genuine = Objective.forward
    for disturbed in (False, True):
        engine = PhaseEngine(
            build_model(tiny_corpus.recipe), tiny_corpus.recipe.stages[1].phases[0], train_spec, passes=2, ranks=start_ranks()
        )
        engine.step(steps[0], 1e-3)
        if disturbed:
            skipped = engine.step(steps[1], 1e-3, lambda *losses: "the loss is a spike")
            assert skipped.skipped == "the loss is a spike"
            with monkeypatch.context() as patched:
                patched.setattr(Objective, "forward", lambda self, *given: genuine(self, *given) * float("nan"))
                assert engine.step(steps[1], 1e-3).skipped == NO_GRADIENT
        last = engine.step(steps[1], 1e-3)
        ends.append((last.loss, last.grad_norm, engine.updates, {k: v.clone() for k, v in engine.state.snapshot().items()}))
        engine.close()
    assert ends[0][:3] == ends[1][:3]
    for key, value in ends[0][3].items():
        assert torch.equal(value, ends[1][3][key]), key


def test_a_run_lists_its_bad_step_and_resumes_as_if_uninterrupted(
    tiny_corpus: TinyCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pass over the third sequence, in step 2 of stage 0, has no number for a loss; the run stops in step 5 and goes on."""
    genuine, bad = Objective.forward, tiny_corpus_samples(tiny_corpus, position=2)

    def forward(self: Objective, batch: Any, *given: Any) -> torch.Tensor:
        loss = genuine(self, batch, *given)
        if [fact.sample_id for fact in batch.facts] == bad:
            self.sums[0] = float("nan")
            return loss * float("nan")
        return loss

    monkeypatch.setattr(Objective, "forward", forward)

    def stop(label: str, done: float, total: float | None, detail: str = "") -> None:
        if (label, done) == ("stage 0/align", 5):
            raise KeyboardInterrupt

    train(tiny_corpus.folder, tiny_corpus.recipe, stages=[0], out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tiny_corpus.folder, tiny_corpus.recipe, stages=[0], out=tmp_path / "broken", progress=stop)
    train(tiny_corpus.folder, tiny_corpus.recipe, stages=[0], out=tmp_path / "broken", resume=True)
    whole, broken = (read_metrics(tmp_path / run) for run in ("whole", "broken"))
    assert [(line["step"], line["loss"], line["skipped"]) for line in whole] == [
        (line["step"], line["loss"], line["skipped"]) for line in broken
    ]
    assert [line["skipped"] for line in whole][:3] == [None, "the loss is nan", None]
    assert whole[1]["loss"] is None
    files = [(tmp_path / run / "skipped.jsonl").read_text() for run in ("whole", "broken")]
    assert files[0] == files[1]
    (line,) = map(json.loads, files[0].splitlines())
    expected = bad + tiny_corpus_samples(tiny_corpus, position=3)
    assert (line["stage"], line["step"], line["reason"], line["samples"]) == (0, 2, "the loss is nan", expected)


def tiny_corpus_samples(corpus: TinyCorpus, *, position: int) -> list[str]:
    """The sample ids of a sequence of stage 0."""
    reader = StageSequences(Catalog(corpus.folder), corpus.recipe, stage=0, split="train")
    return [fact.sample_id for fact in reader.facts(position)]
