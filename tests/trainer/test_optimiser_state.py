"""An optimiser's state goes from any division to any other, and to the same one bit for bit."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_corpus import TinyCorpus

from manifests.catalog import Catalog
from manifests.errors import CorruptCorpusError
from trainer.build import build_model
from trainer.engine import PhaseEngine
from trainer.loader import StageSequences, StepBatches
from trainer.optimiser_state import StoredState
from trainer.ranks import start_ranks


def engine_of(corpus: TinyCorpus, zero: int, precision: str = "fp32") -> PhaseEngine:
    train = dataclasses.replace(corpus.recipe.train, zero_stage=zero, precision=precision)
    recipe = dataclasses.replace(corpus.recipe, train=train)
    return PhaseEngine(build_model(recipe), recipe.stages[2].phases[1], train, passes=1, ranks=start_ranks())


def step_of(corpus: TinyCorpus) -> StepBatches:
    reader = StageSequences(Catalog(corpus.folder), corpus.recipe, stage=2, split="train")
    return StepBatches(step=0, batches=((reader.batch(0), 1.0),), waited_s=0.0)


def values(engine: PhaseEngine) -> dict[str, torch.Tensor]:
    return {key: tensor.clone() for key, tensor in engine.state.snapshot().items()}


@pytest.mark.parametrize(("before", "after"), [(0, 1), (1, 3), (2, 0), (3, 2), (1, 1), (3, 3), (0, 0)])
def test_any_zero_stage_goes_on_from_any_other(tiny_corpus: TinyCorpus, tmp_path: Path, before: int, after: int) -> None:
    batches = step_of(tiny_corpus)
    first = engine_of(tiny_corpus, before)
    first.step(batches, 1e-3)
    save_file(values(first), tmp_path / "rank-00000.safetensors")
    second = engine_of(tiny_corpus, after)
    second.restore([tmp_path / "rank-00000.safetensors"], first.updates)
    assert values(first).keys() == values(second).keys()
    for key, value in values(first).items():
        assert torch.equal(value, values(second)[key]), key
    figures = [engine.step(batches, 1e-3) for engine in (first, second)]
    close = (lambda value: value) if before == after else (lambda value: pytest.approx(value, rel=1e-5))
    assert (figures[0].loss, figures[0].grad_norm) == (close(figures[1].loss), close(figures[1].grad_norm))
    for key, value in values(first).items():
        other = values(second)[key]
        assert torch.equal(value, other) if before == after else torch.allclose(value, other, atol=1e-6), key
    first.close()
    second.close()


def test_low_precision_weights_come_from_the_restored_ones(tiny_corpus: TinyCorpus, tmp_path: Path) -> None:
    batches = step_of(tiny_corpus)
    losses = []
    first = engine_of(tiny_corpus, 1, "bf16")
    first.step(batches, 1e-2)
    save_file(values(first), tmp_path / "rank-00000.safetensors")
    for engine in (first, engine_of(tiny_corpus, 1, "bf16"), engine_of(tiny_corpus, 2, "bf16")):
        if engine is not first:
            engine.restore([tmp_path / "rank-00000.safetensors"], first.updates)
        losses.append(engine.step(batches, 1e-2).loss)
        engine.close()
    assert losses[0] == losses[1] == losses[2]


def spans(folder: Path, *bounds: int) -> list[Path]:
    """The numbers 0 to 99 as the weight of one parameter, cut at the bounds, a file a piece."""
    whole, files = torch.arange(100.0), []
    for first, end in zip((0, *bounds), (*bounds, 100), strict=True):
        files.append(folder / f"rank-{first:05d}.safetensors")
        save_file({f"a.weight|{first}|weight": whole[first:end].clone()}, files[-1])
    return files


def test_a_range_is_joined_from_the_files_it_lies_in(tmp_path: Path) -> None:
    stored = StoredState(reversed(spans(tmp_path, 30, 31, 64)))
    for first, end in ((0, 100), (10, 20), (29, 65), (30, 31), (99, 100)):
        target = torch.zeros(end - first)
        stored.fill("a.weight", "weight", first, target)
        assert torch.equal(target, torch.arange(first, end).float())


def test_a_missing_range_is_named(tmp_path: Path) -> None:
    files = spans(tmp_path, 30, 64)
    with pytest.raises(CorruptCorpusError, match=r"has weight of a\.weight only up to element 30 of 70"):
        StoredState([files[0], files[2]]).fill("a.weight", "weight", 0, torch.zeros(70))
