"""Fixtures of the waist's tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_corpus import build_corpus

from manifests.corpus import Corpus


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """A fresh corpus for each test."""
    return build_corpus(tmp_path / "corpus")
