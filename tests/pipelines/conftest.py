"""What the tests of `pipelines` share: the example corpus, a small part of it, and readers of what curation wrote."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from curriculum.recipes import laptop
from manifests.recipe import Recipe
from pipelines.extraction import Answered, Outcome, extract
from pipelines.inputs import find_inputs
from pipelines.items import Item
from pipelines.model_work import Waiting, provider_of

EXAMPLES = Path(__file__).parents[2] / "examples" / "corpus"
# A few real files of every modality, with what is broken about some of them; seconds to curate.
SMALL = (
    "videos/bikes.mp4",
    "videos/bikes.captions.json",
    "videos/carphone-pristine.mp4",
    "videos/carphone-pristine.captions.json",
    "videos/carphone-distorted.mp4",
    "videos/carphone-distorted.captions.json",
    "videos/mahjongg-pairs.mp4",
    "videos/mahjongg-pairs.captions.json",
    "documents/tagged-report.pdf",
    "documents/ocrmypdf-introduction.md",
    "documents/ocrmypdf-introduction-mirror.md",
    "documents/code/attrs-funcs.py",
    "images/coffee.jpg",
    "images/coffee.caption.json",
    "gui/login-user.png",
    "gui/login-user.gui.json",
    "traces/login-user",
    "broken",
    "SOURCES.json",
)


@pytest.fixture(scope="session")
def examples() -> Path:
    return EXAMPLES


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    return laptop()


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of `SMALL`."""
    folder = tmp_path_factory.mktemp("small") / "input"
    for name in SMALL:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (EXAMPLES / name).is_dir():
            shutil.copytree(EXAMPLES / name, target)
        else:
            shutil.copy(EXAMPLES / name, target)
    return folder


def answered(item: Item, recipe: Recipe) -> Outcome:
    """An item read to its end: as often as it asks, its requests are put to their providers."""
    result, turn, answers = extract(item, recipe), 0, {}
    while isinstance(result, Waiting):
        turn += 1
        for request in result.requests:
            pictures = list(result.store.pictures(request.media_ids))
            (answers[request.request_id],) = provider_of(request.kind, recipe).answer([request], [pictures])
        state = json.loads(json.dumps(result.state))
        result = extract(item, recipe, Answered(turn=turn, state=state, store=result.store, answers=answers))
    return result


@pytest.fixture
def read(tmp_path: Path, recipe: Recipe) -> Callable[..., Outcome]:
    """Extracts one file, given as bytes or as a path, with sidecars by suffix; what it asks of models is answered."""

    def run(name: str, data: bytes | Path, sidecars: dict[str, bytes] | None = None, with_recipe: Recipe = recipe) -> Outcome:
        folder = tmp_path / "one"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        path = folder / name
        path.write_bytes(data.read_bytes() if isinstance(data, Path) else data)
        for suffix, content in (sidecars or {}).items():
            (folder / (path.stem + suffix)).write_bytes(content)
        found = find_inputs([folder])
        (item,) = [item for item in found.items if item.source == name]
        return answered(item, with_recipe)

    return run
