"""What trains when, and how fast it learns."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from tiny_corpus import TinyCorpus

from manifests.errors import UsageError
from manifests.stage_spec import PartRates, PhaseSpec
from trainer.build import build_model
from trainer.evaluate import evaluation_attention, evenly_spaced, phases_until
from trainer.stages import learning_rate, phases_of, trained_parameters, trained_parts


def test_phases_share_all_steps_and_none_is_empty(tiny_corpus: TinyCorpus) -> None:
    spec = tiny_corpus.recipe.stages[2]
    for steps in range(2, 40):
        phases = phases_of(spec, steps)
        assert [phase.first for phase in phases] == [0, phases[0].last]
        assert phases[-1].last == steps
        assert all(phase.last > phase.first for phase in phases)
    assert phases_of(spec, 10)[0].last == 4


def test_fewer_steps_than_phases_says_what_to_change(tiny_corpus: TinyCorpus) -> None:
    with pytest.raises(UsageError, match=r"stage 2 has 1 step for its 2 phases: .*stage2\.sequences_per_step"):
        phases_of(tiny_corpus.recipe.stages[2], 1)


def test_learning_rate_rises_linearly_then_falls_to_a_tenth() -> None:
    rates = [learning_rate(step, 100, peak=1e-3, warmup_share=0.1) for step in range(100)]
    assert rates[:10] == pytest.approx([1e-4 * (step + 1) for step in range(10)])
    assert rates[9] == max(rates)
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[9:]))
    assert rates[-1] == pytest.approx(1e-4)
    assert learning_rate(0, 1, peak=1e-3, warmup_share=0.0) == pytest.approx(1e-4)


def test_an_indexer_that_does_not_run_is_not_trained() -> None:
    dense = PhaseSpec(name="d", attention="dense", trains="everything")
    sparse = dataclasses.replace(dense, attention="sparse")
    assert set(trained_parts(sparse)) - set(trained_parts(dense)) == {"indexer"}
    assert trained_parts(PhaseSpec(name="w", attention="warmup", trains="indexer")) == ("indexer",)
    assert trained_parts(PhaseSpec(name="p", attention="dense", trains="projector")) == ("projector",)


def test_trained_parameters_counts_each_once(tiny_corpus: TinyCorpus) -> None:
    model = build_model(tiny_corpus.recipe, empty=True)
    counts = [trained_parameters(model, phases_of(stage, 10)) for stage in tiny_corpus.recipe.stages]
    parts = {part: sum(p.numel() for p in named.values()) for part, named in model.parts().items()}
    assert counts == [parts["projector"], sum(parts.values()) - parts["indexer"], sum(parts.values()), sum(parts.values())]


def test_held_out_attention_becomes_sparse_with_the_first_sparse_phase(tiny_corpus: TinyCorpus) -> None:
    modes = [evaluation_attention(phases_until(tiny_corpus.recipe.stages, number)) for number in (-1, 0, 1, 2, 3)]
    assert modes == ["dense", "dense", "dense", "sparse", "sparse"]


def test_held_out_sequences_are_spread_over_the_order() -> None:
    assert evenly_spaced(100, 4) == [0, 25, 50, 75]
    assert evenly_spaced(3, 16) == [0, 1, 2]
    assert evenly_spaced(0, 16) == []


def test_rates_of_parts_are_for_parts_that_train() -> None:
    rates = PartRates(vision=1e-4)
    assert PhaseSpec(name="d", attention="dense", trains="everything", learning_rates=rates).learning_rates.given == {
        "vision": 1e-4
    }
    with pytest.raises(ValueError, match=r"phase p: learning_rates names \['vision'\], but only the projector trains"):
        PhaseSpec(name="p", attention="dense", trains="projector", learning_rates=rates)
    with pytest.raises(ValueError, match=r"learning_rates\.decoder=0 must be above 0"):
        PartRates(decoder=0)
