"""What the trainer reads is what curation counted, in one global order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tiny_corpus import TinyCorpus, tiny_recipe

from manifests.catalog import Catalog
from manifests.errors import CorruptCorpusError, CostMismatchError
from manifests.files import write_rows
from manifests.rendering import render
from manifests.schemas import SAMPLES
from trainer.collate import collate
from trainer.loader import StageSequences, StepLoader, decode, rank_positions, step_positions


def sequences(corpus: TinyCorpus, *, stage: int = 1, split: str = "train") -> StageSequences:
    return StageSequences(Catalog(corpus.folder), corpus.recipe, stage=stage, split=split)


@pytest.fixture
def own_corpus(tokenizer_folder: Path, tmp_path: Path) -> TinyCorpus:
    """A corpus a test may damage."""
    corpus = TinyCorpus(tmp_path / "corpus", tiny_recipe(tokenizer_folder))
    corpus.add_samples("train", 6)
    corpus.add_samples("heldout", 3)
    corpus.write()
    return corpus


def test_batches_hold_exactly_the_counted_tokens(tiny_corpus: TinyCorpus) -> None:
    query = "SELECT tokens, visual_tokens FROM sequences WHERE stage = 1 AND split = 'train' ORDER BY position"
    counted = Catalog(tiny_corpus.folder).connection.execute(query).fetchall()
    loaded = [sequences(tiny_corpus).batch(position) for position in range(len(counted))]
    assert [(batch.tokens, batch.visual_tokens) for batch in loaded] == counted
    pad = tiny_corpus.tokenizer.special("<|image_pad|>")
    for batch in loaded:
        assert int((batch.input_ids == pad).sum()) == batch.visual_tokens
        if batch.pixel_values is not None and batch.image_grid_thw is not None:
            assert len(batch.pixel_values) == int(batch.image_grid_thw.prod(1).sum()) == 4 * batch.visual_tokens


def test_labels_never_cross_samples(tiny_corpus: TinyCorpus) -> None:
    samples = [
        render(s.messages, tiny_corpus.tokenizer, tiny_corpus.recipe.visual) for s in tiny_corpus.samples["train"][2:9:3]
    ]
    batch = collate(samples, [], patch=14, merge=2)
    starts = batch.cu_seqlens[:-1].long()
    assert len(starts) == 3
    assert (batch.labels[starts] == -100).all()
    assert batch.targets == int((batch.labels[1:] >= 0).sum()) == sum(int((s.labels >= 0).sum()) - 1 for s in samples)


def rewrite_samples(corpus: TinyCorpus, change: dict[str, Any]) -> str:
    """Changes the row of the first training sample; returns its id."""
    path = next((corpus.folder / "samples").rglob("*.parquet"))
    rows = pq.read_table(path).to_pylist()
    rows[0].update(change)
    write_rows(path, rows, SAMPLES)
    return str(rows[0]["sample_id"])


@pytest.mark.parametrize("column", ["total_tokens", "visual_tokens"])
def test_a_wrong_count_stops_with_the_sample(own_corpus: TinyCorpus, column: str) -> None:
    sample_id = rewrite_samples(own_corpus, {column: 7})
    with pytest.raises(CostMismatchError, match=f"sample {sample_id} renders to .* counts .*7.* curate again"):
        sequences(own_corpus).batch(0)


def test_a_changed_byte_in_a_shard_stops_with_sample_and_picture(own_corpus: TinyCorpus) -> None:
    reader = sequences(own_corpus)
    picture = own_corpus.samples["train"][0].visuals[0].media_id
    shard, offset, _, _ = reader.places[picture]
    data = bytearray((own_corpus.folder / shard).read_bytes())
    data[offset + 40] ^= 1
    (own_corpus.folder / shard).write_bytes(data)
    sample_id = own_corpus.samples["train"][0].sample_id
    with pytest.raises(CorruptCorpusError, match=f"sample {sample_id}, picture {picture}: media shard .* not what was written"):
        reader.batch(0)


def test_pictures_are_resized_to_what_was_counted(own_corpus: TinyCorpus) -> None:
    data = next(item.data for item in own_corpus.pictures.values() if item.extension == "png")
    first, second = (decode(data, height=56, width=84) for _ in range(2))
    assert first.shape == (56, 84, 3)
    assert np.array_equal(first, second)


@pytest.mark.parametrize("world", [1, 2, 3, 4, 7])
def test_the_global_order_does_not_depend_on_world_size(world: int) -> None:
    for step in range(4):
        positions = step_positions(step, sequences=13, per_step=4)
        shares = [rank_positions(positions, rank=rank, world=world) for rank in range(world)]
        assert len({len(share) for share in shares}) == 1
        dealt = [share[turn] for turn in range(len(shares[0])) for share in shares]
        assert [position for position in dealt if position is not None] == list(positions)
    assert [list(step_positions(step, sequences=13, per_step=4)) for step in range(4)][-1] == [12]


def test_the_loader_goes_on_where_it_is_told(tiny_corpus: TinyCorpus) -> None:
    def ids(first: int) -> list[torch.Tensor]:
        loader = StepLoader(sequences(tiny_corpus), per_step=2, first=first, last=6, rank=0, world=1)
        with loader:
            return [batch.input_ids for step in loader for batch, weight in step.batches if weight]

    whole, rest = ids(0), ids(4)
    assert len(whole) == len(sequences(tiny_corpus))
    assert all(torch.equal(a, b) for a, b in zip(whole[8:], rest, strict=True))


def test_an_error_while_reading_ahead_reaches_the_trainer(own_corpus: TinyCorpus) -> None:
    rewrite_samples(own_corpus, {"total_tokens": 7})
    with (
        StepLoader(sequences(own_corpus), per_step=1, first=0, last=2, rank=0, world=1) as loader,
        pytest.raises(CostMismatchError),
    ):
        list(loader)


def test_leaving_the_loader_early_stops_its_thread(tiny_corpus: TinyCorpus) -> None:
    loader = StepLoader(sequences(tiny_corpus), per_step=1, first=0, last=13, rank=0, world=1, ahead=1)
    with loader:
        next(iter(loader))
    assert not loader._thread.is_alive()
