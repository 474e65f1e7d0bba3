"""What tests of the loader read of a tiny corpus, and how they damage one. Apart from it, because this loads torch."""

from __future__ import annotations

from pathlib import Path

from tiny_corpus import TinyCorpus

from manifests.catalog import Catalog
from trainer.loader import StageSequences


def sequences(corpus: TinyCorpus, *, stage: int = 1, split: str = "train") -> StageSequences:
    """The packed sequences of one of its stages."""
    return StageSequences(Catalog(corpus.folder), corpus.recipe, stage=stage, split=split)


def place_of(reader: StageSequences, picture: str) -> tuple[str, int, int, str]:
    """Shard, offset, length and SHA-256 of a picture."""
    place = reader.media.find(picture)
    assert place is not None
    return place


def change_byte(path: Path, offset: int) -> None:
    """Flips a bit of a file."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)
