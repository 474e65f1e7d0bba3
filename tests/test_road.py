"""The whole road on real files, shortened: `longreel run` on a part of the example corpus, then what a stranger would try.

One run serves all tests of this file: about a minute and a half on two cores.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples" / "corpus"
MARGIN = 1.0
"""Nats by which the held-out loss must fall over the shortened road; the README names it."""
SHORT = ["stage0.tokens=8000", "stage1.tokens=60000", "stage2.tokens=40000", "stage3.tokens=40000", "train.heldout_sequences=6"]


def longreel(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "longreel.py"), *map(str, arguments)]
    env = {**os.environ, "COLUMNS": "80", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=540)


@dataclass(frozen=True, kw_only=True)
class Road:
    """A finished run."""

    arguments: list[str | Path]
    folder: Path
    result: subprocess.CompletedProcess[str]

    @property
    def corpus(self) -> Path:
        return self.folder / "corpus"

    def rows(self, sql: str) -> list[dict]:
        result = longreel("query", self.corpus, sql, "--json")
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Road:
    base = tmp_path_factory.mktemp("road")
    raw = base / "raw"
    chosen = [path for path in sorted(EXAMPLES.rglob("*")) if path.is_file() and wanted(path.relative_to(EXAMPLES))]
    for path in chosen:
        target = raw / path.relative_to(EXAMPLES)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    folder = base / "out"
    arguments: list[str | Path] = ["run", raw, "--out", folder, *(word for change in SHORT for word in ("--set", change))]
    return Road(arguments=arguments, folder=folder, result=longreel(*arguments))


def wanted(path: Path) -> bool:
    """A fifth of the corpus that has every kind of input and all the broken files."""
    top, name = path.parts[0], path.name
    if top in ("broken", "images") or name.startswith("SOURCES"):
        return True
    if top == "videos":
        return name.startswith(("bikes", "carphone", "bunny-stretch", "mahjongg-pairs"))
    if top == "traces":
        return path.parts[1] in ("login-user", "click-tab-2")
    if top == "gui":
        return name.startswith(("click", "choose", "enter"))
    return name.startswith(
        ("click", "debian-history", "ocrmypdf-intro", "attrs", "wikipedia", "tagged", "a11y", "files", "net")
    )


def test_the_road_ends_well(road: Road) -> None:
    assert road.result.returncode == 0, road.result.stderr[-2000:]
    assert "Traceback" not in road.result.stderr
    report = road.folder / "report.html"
    assert f"report  {report}" in road.result.stdout
    for column in ("stage", "fill", "tokens", "held-out", "recall"):
        assert column in road.result.stdout


def test_heldout_loss_falls_by_the_margin(road: Road) -> None:
    stages = json.loads((road.folder / "run" / "summary.json").read_text())["stages"]
    assert [stage["stage"] for stage in stages] == [0, 1, 2, 3]
    assert stages[3]["heldout_after"] < stages[0]["heldout_before"] - MARGIN
    assert all(0.0 < stage["indexer_recall"] <= 1.0 for stage in stages)
    assert all(0.0 < stage["fill"] <= 1.0 for stage in stages)
    for before, after in pairwise(stages):
        assert after["heldout_before"] == before["heldout_after"]


def test_check_proves_the_corpus_and_finds_a_flipped_byte(road: Road) -> None:
    good = longreel("check", road.corpus)
    assert good.returncode == 0, good.stdout
    assert good.stdout.count("ok  ") == 7
    row = road.rows('SELECT shard, "offset", length, media_id FROM media ORDER BY media_id LIMIT 1')[0]
    shard = road.corpus / row["shard"]
    data = bytearray(shard.read_bytes())
    data[row["offset"] + row["length"] // 2] ^= 1
    shard.write_bytes(data)
    try:
        bad = longreel("check", road.corpus)
    finally:
        data[row["offset"] + row["length"] // 2] ^= 1
        shard.write_bytes(data)
    assert bad.returncode == 1
    assert re.search(rf"{row['shard']}: picture {row['media_id']}: .* sample [0-9a-f]{{32}} from \S+", bad.stdout)


def test_broken_files_are_quarantined_and_nothing_is_lost(road: Road) -> None:
    lost = {Path(row["source"]).name: row for row in road.rows("SELECT source, stage, reason, detail FROM quarantine")}
    assert {"truncated.mp4", "encrypted.pdf", "empty.mp4", "picture.mp4", "notes.pdf", "boxes-outside.png"} <= set(lost)
    assert all(row["stage"] and row["reason"] and row["detail"] for row in lost.values())
    status = {row["status"]: row["n"] for row in road.rows("SELECT status, count(*) AS n FROM sources GROUP BY ALL")}
    curated = road.rows(
        "SELECT count(*) AS n FROM sources WHERE source_id NOT IN (SELECT source_id FROM sources WHERE modality = 'text')"
    )
    assert curated
    line = re.search(r"(\d+) inputs = (\d+) used \+ (\d+) filtered \+ (\d+) quarantined", road.result.stderr)
    assert line is not None
    inputs, used, filtered, quarantined = map(int, line.groups())
    assert inputs == used + filtered + quarantined
    assert quarantined == status["quarantined"] == len(lost)


def test_the_near_duplicate_is_filtered(road: Road) -> None:
    rows = road.rows("SELECT source, status FROM sources WHERE source LIKE '%carphone%'")
    assert sorted(row["status"] for row in rows) == ["filtered", "used"]
    dropped = road.rows("SELECT source, reason FROM dropped WHERE source LIKE '%carphone%'")
    assert dropped
    assert dropped[0]["reason"] == "near_duplicate"


def test_every_bucket_name_and_split_is_a_known_one(road: Road) -> None:
    rows = road.rows("SELECT DISTINCT context_bucket, duration_bucket, split FROM samples")
    assert {row["context_bucket"] for row in rows} <= {"32k", "64k", "256k"}
    assert {row["duration_bucket"] for row in rows} <= {"15s", "15min", "2h", None}
    assert {row["split"] for row in rows} == {"train", "heldout"}


def test_a_token_leads_to_its_second(road: Road) -> None:
    rows = road.rows(
        """
        SELECT s.source, l.start_s, l.end_s FROM segments g JOIN lineage l USING (sample_id) JOIN sources s USING (source_id)
        WHERE l.frame IS NOT NULL AND g.split = 'train' ORDER BY ALL LIMIT 5
        """
    )
    assert rows
    assert all(row["source"].startswith(("videos/", "made/events/")) and row["start_s"] is not None for row in rows)


def test_a_source_leads_to_every_sequence_that_uses_it(road: Road) -> None:
    by_lineage = road.rows(
        "SELECT DISTINCT l.source_id, g.sequence_id FROM lineage l JOIN segments g USING (sample_id) "
        "WHERE l.source_id IS NOT NULL ORDER BY ALL"
    )
    by_sample = road.rows(
        "SELECT DISTINCT unnest(s.source_ids) AS source_id, g.sequence_id FROM samples s JOIN segments g USING (sample_id) "
        "ORDER BY ALL"
    )
    assert by_lineage
    assert by_lineage == by_sample


def test_again_redoes_nothing_and_says_so(road: Road) -> None:
    paths = [path for path in sorted(road.folder.rglob("*")) if path.is_file() and path.name != "lock"]
    before = {path: path.stat().st_mtime_ns for path in paths}
    again = longreel(*road.arguments)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("unchanged, nothing to do") == 4
    assert "nothing redone" in again.stderr
    after = {path: path.stat().st_mtime_ns for path in before}
    assert before == after


class Page(HTMLParser):
    """Collects what a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "data", "action", "poster")]


def test_the_report_needs_no_network(road: Road) -> None:
    page = Page()
    page.feed((road.folder / "report.html").read_text())
    assert page.fetched
    assert all(value.startswith(("data:", "#")) for value in page.fetched)


def test_a_changed_plan_keeps_the_earlier_run(road: Road, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    shutil.copytree(road.folder, folder)
    arguments = [folder if word == road.folder else word for word in road.arguments]
    changed = longreel(*arguments, *(word for n in range(1, 4) for word in ("--set", f"stage{n}.tokens=9000")))
    assert changed.returncode == 0, changed.stderr
    assert f"kept in {folder / 'run-1'}" in changed.stderr
    kept, new = (json.loads((folder / name / "summary.json").read_text())["stages"] for name in ("run-1", "run"))
    assert kept == json.loads((road.folder / "run" / "summary.json").read_text())["stages"]
    assert new[1]["tokens"] <= 9000 < kept[1]["tokens"]
