"""Long files run first, so that at the end no worker waits for one that has a minute of work left. And no property is timed:
its first example may load a library on a machine that does other things."""

from __future__ import annotations

import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

LONG = (
    "tests/test_road.py",
    "tests/trainer/",
    "tests/test_published_plan.py",
    "tests/pipelines/test_curation",
    "tests/synth_cot/",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts by the first of `LONG` that a test's file begins with; the order within a file stays."""

    def place(item: pytest.Item) -> int:
        return next((at for at, name in enumerate(LONG) if item.nodeid.startswith(name)), len(LONG))

    items.sort(key=place)
