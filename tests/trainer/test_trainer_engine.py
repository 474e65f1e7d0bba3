"""DeepSpeed's steps are those of plain torch, and of any number of processes."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tiny_corpus import TinyCorpus

from manifests.catalog import Catalog
from manifests.stage_spec import PartRates
from model.vlm import VisionLanguageModel, part_of
from trainer.build import build_model
from trainer.engine import PhaseEngine
from trainer.loader import StageSequences, StepBatches
from trainer.model_shape import model_config
from trainer.ranks import start_ranks


@pytest.mark.parametrize("phase", [0, 1])
def test_a_step_is_the_formula_and_adamw(tiny_corpus: TinyCorpus, phase: int) -> None:
    """One step of either phase of stage 2 against the written-out loss and torch's own optimiser."""
    recipe, spec = tiny_corpus.recipe, tiny_corpus.recipe.stages[2].phases[phase]
    reader = StageSequences(Catalog(tiny_corpus.folder), recipe, stage=2, split="train")
    batches = [reader.batch(position) for position in range(2)]
    ranks = start_ranks()

    plain = build_model(recipe)
    plain.train_only(*(("indexer",) if phase == 0 else ("vision", "projector", "embeddings", "decoder", "indexer", "lm_head")))
    trained = [p for p in plain.parameters() if p.requires_grad]
    tokens, targets = sum(b.tokens for b in batches), sum(b.targets for b in batches)
    loss = torch.zeros(())
    for b in batches:
        out = plain(
            b.input_ids, cu_seqlens=b.cu_seqlens, pixel_values=b.pixel_values, image_grid_thw=b.image_grid_thw,
            attention=spec.attention, labels=b.labels,
        )  # fmt: skip
        assert out.indexer_loss is not None
        loss = loss + spec.indexer_lambda * out.indexer_loss * b.tokens / tokens
        if phase == 1:
            assert out.token_losses_sum is not None
            loss = loss + out.token_losses_sum / targets + spec.balance_lambda * out.load_balancing_loss * b.tokens / tokens
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(trained, recipe.train.gradient_clip)
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": recipe.train.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    torch.optim.AdamW(groups, lr=5e-4, betas=(0.9, 0.95)).step()

    ours = build_model(recipe)
    engine = PhaseEngine(ours, spec, recipe.train, passes=2, ranks=ranks)
    figures = engine.step(StepBatches(step=0, batches=tuple((b, 1.0) for b in batches), waited_s=0.0), 5e-4)
    engine.close()
    assert figures.grad_norm == pytest.approx(float(norm), rel=1e-4)
    assert (figures.tokens, figures.visual_tokens) == (tokens, sum(b.visual_tokens for b in batches))
    for (name, expected), actual in zip(plain.named_parameters(), ours.parameters(), strict=True):
        difference = (expected - actual).abs().max()
        assert difference < 2e-5, name


def test_an_engine_that_is_closed_leaves_torch_as_it_was(tiny_corpus: TinyCorpus) -> None:
    """Under ZeRO 3 DeepSpeed replaces torch's linear function, and what the model keeps for backward with it."""
    recipe, before = tiny_corpus.recipe, torch.nn.functional.linear
    train = dataclasses.replace(recipe.train, zero_stage=3)
    engine = PhaseEngine(build_model(recipe), recipe.stages[1].phases[0], train, passes=1, ranks=start_ranks())
    assert torch.nn.functional.linear is not before
    engine.close()
    assert torch.nn.functional.linear is before


def test_a_part_learns_at_its_own_rate(tiny_corpus: TinyCorpus) -> None:
    """The vision tower at a tenth moves a tenth as far; everything else moves as without, but for rounding of the norm."""
    recipe = tiny_corpus.recipe
    phase = recipe.stages[1].phases[0]
    slow = dataclasses.replace(phase, learning_rates=PartRates(vision=phase.learning_rate / 10))
    reader = StageSequences(Catalog(tiny_corpus.folder), recipe, stage=1, split="train")
    batches = StepBatches(step=0, batches=((reader.batch(0), 1.0),), waited_s=0.0)
    start = build_model(recipe).state_dict()
    ends = []
    for spec in (phase, slow):
        model = build_model(recipe)
        engine = PhaseEngine(model, spec, recipe.train, passes=1, ranks=start_ranks())
        engine.step(batches, 1e-3)
        engine.close()
        ends.append(model.state_dict())
    for name, value in start.items():
        if part_of(name) == "vision":
            torch.testing.assert_close(ends[1][name] - value, (ends[0][name] - value) / 10, atol=1e-7, rtol=1e-2)
        else:
            torch.testing.assert_close(ends[0][name], ends[1][name], atol=2e-6, rtol=0.0)


def test_routers_are_balanced_by_bias_where_the_preset_asks_for_it(tiny_corpus: TinyCorpus) -> None:
    """Each bias moves by the rate towards the mean load of the step; in a phase that freezes the decoder it stays."""
    recipe = tiny_corpus.recipe
    reader = StageSequences(Catalog(tiny_corpus.folder), recipe, stage=1, split="train")
    batches = StepBatches(step=0, batches=tuple((reader.batch(k), 1.0) for k in range(2)), waited_s=0.0)
    config = model_config(recipe)
    moe = dataclasses.replace(config.decoder.moe, balance="bias")
    config = dataclasses.replace(config, decoder=dataclasses.replace(config.decoder, moe=moe))
    for stage, moves in ((1, True), (0, False)):
        model = VisionLanguageModel(config, seed=1)
        loads = []
        model.register_forward_hook(lambda module, given, output: loads.append(output.router.load.clone()))  # noqa: B023
        engine = PhaseEngine(model, recipe.stages[stage].phases[0], recipe.train, passes=2, ranks=start_ranks())
        engine.step(batches, 1e-3)
        engine.close()
        load_NE = torch.stack(loads).sum(0).float()
        expected_NE = 1e-3 * torch.sign(load_NE.mean(1, keepdim=True) - load_NE)
        found_NE = torch.stack([layer.mlp.gate.selection_bias for layer in model.model.layers])
        assert torch.equal(found_NE, expected_NE if moves else torch.zeros_like(found_NE))
        assert expected_NE.any()


def test_one_rank_without_zero_steps_as_with_it(tiny_corpus: TinyCorpus) -> None:
    """A step with pictures, then one without, in which moments and weights of the tower still decay; clipped both times."""
    recipe, phase = tiny_corpus.recipe, tiny_corpus.recipe.stages[1].phases[0]
    reader = StageSequences(Catalog(tiny_corpus.folder), recipe, stage=1, split="train")
    kinds = {reader.batch(position).pixel_values is None: reader.batch(position) for position in range(len(reader))}
    steps = [StepBatches(step=number, batches=((kinds[text], 1.0),), waited_s=0.0) for number, text in enumerate((False, True))]
    start, ends = build_model(recipe).state_dict(), []
    for zero_stage in (0, 1):
        model = build_model(recipe)
        train = dataclasses.replace(recipe.train, zero_stage=zero_stage, gradient_clip=0.01)
        engine = PhaseEngine(model, phase, train, passes=1, ranks=start_ranks())
        norms = [engine.step(step, 1e-3).grad_norm for step in steps]
        engine.close()
        assert min(norms) > train.gradient_clip
        ends.append((norms, model.state_dict()))
    assert ends[0][0] == pytest.approx(ends[1][0], rel=1e-5)
    for name, value in ends[0][1].items():
        torch.testing.assert_close(value, ends[1][1][name], atol=2e-6, rtol=0.0)
    assert any(not torch.equal(value, start[name]) for name, value in ends[0][1].items() if part_of(name) == "vision")


def test_a_projector_may_meet_a_sequence_without_pictures(tiny_corpus: TinyCorpus) -> None:
    """Its gradient is zero there, and no error."""
    recipe = tiny_corpus.recipe
    reader = StageSequences(Catalog(tiny_corpus.folder), recipe, stage=1, split="train")
    text = next(batch for batch in map(reader.batch, range(len(reader))) if batch.pixel_values is None)
    train = dataclasses.replace(recipe.train, zero_stage=0)
    engine = PhaseEngine(build_model(recipe), recipe.stages[0].phases[0], train, passes=1, ranks=start_ranks())
    figures = engine.step(StepBatches(step=0, batches=((text, 1.0),), waited_s=0.0), 1e-3)
    engine.close()
    assert figures.grad_norm == 0.0
