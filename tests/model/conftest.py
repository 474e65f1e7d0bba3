"""Fixtures of the model's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from small_model import random_model, small_config

from model import VisionLanguageModel


@pytest.fixture(autouse=True)
def _steady_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def model() -> VisionLanguageModel:
    return random_model(small_config())
