"""Curation with a model in it: the same bytes however many work, nothing asked twice after a kill, no item lost to a server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from caption_server import CaptionServer, caption_server
from kill_curation import kill_when
from written_tables import rows

from manifests.check import check
from manifests.curate_spec import CaptionSpec
from manifests.errors import UsageError
from manifests.recipe import Recipe
from pipelines import CurateResult, curate
from pipelines.isolation import import_path

IN_MEMORY = ("--direct_running_mode=in_memory", "--direct_num_workers=1")
PICTURES = ("coffee", "rocket", "grass")

RUN = """
import sys
from dataclasses import replace
from pathlib import Path
from curriculum.recipes import laptop
from manifests.curate_spec import CaptionSpec
from pipelines import curate
recipe = laptop()
spec = CaptionSpec(endpoint=sys.argv[3], model="seer", concurrency=3, timeout_s=5.0)
result = curate([Path(sys.argv[2])], Path(sys.argv[1]), replace(recipe, curate=replace(recipe.curate, captions=spec)))
print(result.digest)
"""


@pytest.fixture
def server() -> Iterator[CaptionServer]:
    with caption_server() as running:
        yield running


@pytest.fixture(scope="module")
def undescribed(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real pictures and two videos without captions, a text, and the same picture under two names."""
    folder = tmp_path_factory.mktemp("undescribed") / "input"
    folder.mkdir()
    for name in PICTURES:
        shutil.copy(examples / "images" / f"{name}.jpg", folder)
    shutil.copy(examples / "images" / "coffee.jpg", folder / "again.jpg")
    for name in ("bikes.mp4", "carphone-pristine.mp4"):
        shutil.copy(examples / "videos" / name, folder)
    shutil.copy(examples / "documents" / "ocrmypdf-introduction.md", folder)
    return folder


def captioning(recipe: Recipe, server: CaptionServer, **fields: Any) -> Recipe:
    values = {"endpoint": server.url, "model": "seer", "concurrency": 3, "timeout_s": 5.0, **fields}
    return replace(recipe, curate=replace(recipe.curate, captions=CaptionSpec(**values)))


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A curation of the pictures and videos by one worker, what its server saw, and how many items had been read before it."""

    out: Path
    result: CurateResult
    server: CaptionServer
    read_before: int


@pytest.fixture(scope="module")
def reference(undescribed: Path, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    out = tmp_path_factory.mktemp("reference") / "out"
    read: list[int] = []

    def look(before: int, body: dict[str, Any]) -> str:
        read.append(sum(len(list((out / "_work" / name).glob("??/[!.]*"))) for name in ("items", "pending")))
        return ""

    with caption_server() as server:
        server.delay_s, server.fault = 0.02, look
        result = curate([undescribed], out, captioning(recipe, server), beam_options=IN_MEMORY)
    return Reference(out=out, result=result, server=server, read_before=read[0])


def test_every_question_is_asked_once_by_no_more_than_allowed_at_once(reference: Reference) -> None:
    assert set(reference.server.asked.values()) == {1}
    assert 1 < reference.server.in_flight_max <= 3
    asked = reference.result.counts["model_work"]["caption"]
    assert (asked["failed"], asked["again"]) == (0, 0)
    # The picture under two names is one request of two items.
    assert asked["requests"] == len(reference.server.asked) + 1
    assert asked["completion_tokens"] == 5 * asked["requests"]
    assert all(finding.holds for finding in check(reference.out))
    tasks = {row["task"] for row in rows(reference.out, "samples")}
    assert {"image.caption", "video.caption", "video.dense"} <= tasks
    assert not {path.name for path in (reference.out / "_work").iterdir()} & {"pending", "answers", "asking", "slots"}


def test_models_are_asked_while_items_are_still_read(reference: Reference) -> None:
    assert reference.read_before < reference.result.counts["inputs"]


def test_two_workers_give_the_same_bytes(
    undescribed: Path, recipe: Recipe, reference: Reference, server: CaptionServer, tmp_path: Path
) -> None:
    two = curate([undescribed], tmp_path / "two", captioning(recipe, server, concurrency=2))
    assert set(server.asked.values()) == {1}
    assert server.in_flight_max <= 2
    assert two.counts == reference.result.counts
    for pattern in ("*.parquet", "*.tar"):
        names = {path.relative_to(reference.out) for path in reference.out.rglob(pattern)}
        assert names == {path.relative_to(tmp_path / "two") for path in (tmp_path / "two").rglob(pattern)}
        for name in names:
            assert (reference.out / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_killed_while_it_asks_it_asks_nothing_twice_and_loses_nothing(
    undescribed: Path, recipe: Recipe, reference: Reference, server: CaptionServer, tmp_path: Path
) -> None:
    server.delay_s = 0.3
    command = [sys.executable, "-c", RUN, str(tmp_path / "killed"), str(undescribed), server.url]
    environment = {**os.environ, "PYTHONPATH": import_path()}

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def kept() -> int:
        return len(list((tmp_path / "killed" / "_work" / "answers").glob("??/[!.]*")))

    assert kill_when(start(), lambda: kept() >= 4)
    assert sum(server.asked.values()) < len(reference.server.asked)
    said, errors = start().communicate()
    assert said.strip() == reference.result.digest, errors
    assert server.asked.keys() == reference.server.asked.keys()
    # Only what was being asked when the workers died, whose answers nobody could keep, was asked again.
    assert sum(server.asked.values()) - len(server.asked) <= 3


def test_an_endpoint_that_fails_quarantines_and_the_next_run_asks_only_that(
    undescribed: Path, recipe: Recipe, reference: Reference, server: CaptionServer, tmp_path: Path
) -> None:
    flawed = captioning(recipe, server, retries=0)
    flawed = replace(flawed, curate=replace(flawed.curate, loss_limit=1.0))
    lost: list[str] = []

    def fault(before: int, body: dict[str, Any]) -> str:
        picture = "this picture" in body["messages"][0]["content"][-1]["text"]
        key = json.dumps(body, sort_keys=True)
        if picture and len(lost) < 2 and key not in lost:
            lost.append(key)
        return "503" if key in lost else ""

    server.fault = fault
    out = tmp_path / "out"
    first = curate([undescribed], out, flawed, beam_options=IN_MEMORY)
    quarantine = rows(out, "quarantine")
    assert {row["reason"] for row in quarantine} == {"model_failed"}
    assert {row["stage"] for row in quarantine} == {"model"}
    assert first.counts["inputs"] == first.counts["used"] + first.counts["filtered"] + first.counts["quarantined"]
    assert first.counts["model_work"]["caption"]["again"] == len(quarantine)
    assert all(finding.holds for finding in check(out))
    before = sum(server.asked.values())
    server.fault = lambda before, body: ""
    second = curate([undescribed], out, flawed, beam_options=IN_MEMORY)
    assert sum(server.asked.values()) - before == 2
    assert second.counts["quarantined"] == 0
    assert curate([undescribed], out, flawed).unchanged
    assert {**second.counts, "reused": 0} == reference.result.counts


def test_a_key_that_is_not_set_is_said_before_anything_is_read(
    undescribed: Path, recipe: Recipe, server: CaptionServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SEER_KEY", raising=False)
    with pytest.raises(UsageError, match="SEER_KEY, which is not set"):
        curate([undescribed], tmp_path / "out", captioning(recipe, server, api_key_env="SEER_KEY"), beam_options=IN_MEMORY)
    assert not server.asked
