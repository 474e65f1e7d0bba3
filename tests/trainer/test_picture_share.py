"""Ranks that share a sequence share its pictures too: each is read by one of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import change_byte, place_of, sequences
from tiny_corpus import TinyCorpus

from manifests.catalog import Catalog
from trainer.launch import Launch
from trainer.loader import Loader, StageSequences
from trainer.picture_share import owners_of
from trainer.replaced import ReplacedFile


@pytest.mark.parametrize("workers", [0, 1])
def test_ranks_that_share_a_sequence_read_their_own_pictures(tiny_corpus: TinyCorpus, workers: int) -> None:
    """Texts are the same everywhere, pictures are divided, and each is decoded by one rank."""
    shown = 0
    with Loader(Catalog(tiny_corpus.folder), tiny_corpus.recipe, launch=Launch(workers=workers)) as loader:
        reader = loader.sequences(stage=1, split="train")
        parts = []
        for rank in range(3):
            with loader.steps(reader, per_step=1, first=0, last=len(reader), sharing=(rank, 3)) as steps:
                parts.append([step.batches[0][0] for step in steps])
    for position, ranks in enumerate(zip(*parts, strict=True)):
        whole = sequences(tiny_corpus).batch(position)
        for part in ranks:
            assert torch.equal(part.input_ids, whole.input_ids)
            assert torch.equal(part.labels, whole.labels)
            assert (part.targets, part.visual_tokens) == (whole.targets, whole.visual_tokens)
            assert part.share is not None
            assert part.share.owners == ranks[0].share.owners
        if whole.pixel_values is None:
            continue
        sizes = whole.image_grid_thw.prod(1).tolist()
        left = [iter(part.pixel_values.split([sizes[n] for n in range(len(sizes)) if part.share.has(n)])) for part in ranks]
        together = torch.cat([next(left[owner]) for owner in ranks[0].share.owners])
        assert torch.equal(together, whole.pixel_values)
        assert all(next(rest, None) is None for rest in left)
        loads = [len(part.pixel_values) for part in ranks]
        assert max(loads) - min(loads) <= max(sizes)
        shown += len(sizes) > 1
    assert shown


def test_a_shared_picture_is_decoded_once(tiny_corpus: TinyCorpus, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = sequences(tiny_corpus)
    grids = [reader.batch(position).image_grid_thw for position in range(len(reader))]
    most = max(range(len(reader)), key=lambda position: 0 if grids[position] is None else len(grids[position]))
    decoded: list[str] = []
    read = reader.reader.pictures.read
    monkeypatch.setattr(reader.reader.pictures, "read", lambda visual: decoded.append(visual.media_id) or read(visual))
    reader.batch(most)
    once = sorted(decoded)
    assert len(once) > 1
    decoded.clear()
    for rank in range(2):
        reader.batch(most, (rank, 2))
    assert sorted(decoded) == once


def test_a_stand_in_is_known_to_every_rank_that_shares_the_sequence(own_corpus: TinyCorpus, tmp_path: Path) -> None:
    """Whose picture it is, its sample teaches nothing anywhere; one of the ranks records it."""
    picture = own_corpus.samples["train"][0].visuals[0].media_id
    shard, offset, _, _ = place_of(sequences(own_corpus), picture)
    change_byte(own_corpus.folder / shard, offset + 40)
    file = ReplacedFile(tmp_path / "replaced.jsonl")
    reader = StageSequences(
        Catalog(own_corpus.folder), own_corpus.recipe, stage=1, split="train", launch=Launch(on_bad_media="replace"),
        replaced=file,
    )  # fmt: skip
    whole = reader.batch(0)
    parts = [reader.batch(0, (rank, 2)) for rank in range(2)]
    assert len(file.lines()) == 1
    assert whole.pixel_values is not None
    for part in parts:
        assert torch.equal(part.labels, whole.labels)
        assert part.targets == whole.targets
    assert sum(len(part.pixel_values) for part in parts) == len(whole.pixel_values)


@settings(max_examples=40)
@given(ranks=st.integers(1, 6), patches=st.lists(st.integers(1, 300), max_size=20))
def test_pictures_are_dealt_out_evenly(ranks: int, patches: list[int]) -> None:
    owners = owners_of(patches, ranks)
    loads = [sum(size for size, owner in zip(patches, owners, strict=True) if owner == rank) for rank in range(ranks)]
    assert sum(loads) == sum(patches)
    assert max(loads) - min(loads) <= max(patches, default=0)
