"""Fixtures of the trainer's tests: a tiny planned corpus and one whole run over it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tiny_corpus import TinyCorpus, tiny_recipe, write_tokenizer

from trainer import train
from trainer.ranks import rest_while_waiting

if TYPE_CHECKING:
    from trainer.metrics import TrainResult

rest_while_waiting()


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a byte-level tokenizer."""
    return write_tokenizer(tmp_path_factory.mktemp("tokenizers") / "bytes")


@pytest.fixture(scope="session")
def tiny_corpus(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> TinyCorpus:
    """A corpus of 15 training and 6 held-out samples, planned for four stages. Read only."""
    corpus = TinyCorpus(tmp_path_factory.mktemp("corpora") / "tiny", tiny_recipe(tokenizer_folder))
    corpus.add_samples("train", 15)
    corpus.add_samples("heldout", 6)
    corpus.write()
    return corpus


@pytest.fixture
def own_corpus(tokenizer_folder: Path, tmp_path: Path) -> TinyCorpus:
    """A corpus a test may damage."""
    corpus = TinyCorpus(tmp_path / "corpus", tiny_recipe(tokenizer_folder))
    corpus.add_samples("train", 6)
    corpus.add_samples("heldout", 3)
    corpus.write()
    return corpus


@pytest.fixture(scope="session")
def whole_run(tiny_corpus: TinyCorpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainResult]:
    """All four stages, uninterrupted. Read only."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    return out, train(tiny_corpus.folder, tiny_corpus.recipe, stages=[0, 1, 2, 3], out=out)
