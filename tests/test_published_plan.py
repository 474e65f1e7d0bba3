"""The published recipe, 256K contexts and all, plans real files untrained, and every packed sequence renders to its cost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from recount_plan import recount

from curriculum import plan
from curriculum.recipes import keye_vl_2
from manifests.catalog import Catalog
from manifests.tasks import unknown_task

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples" / "corpus"
CHOSEN = (
    "videos/bunny-trailer", "videos/carphone-pristine", "images/astronaut", "images/coffee", "images/rocket", "documents/net",
    "documents/click-testing.md", "documents/debmake-manual-en.pdf", "gui/click-checkboxes", "SOURCES",
)  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("published")
    for path in sorted(EXAMPLES.rglob("*")):
        if path.is_file() and path.relative_to(EXAMPLES).as_posix().startswith(CHOSEN):
            target = base / "raw" / path.relative_to(EXAMPLES)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    command = [sys.executable, str(ROOT / "longreel.py"), "curate", str(base / "raw"), "--out", str(base / "corpus")]
    subprocess.run(
        [*command, "--recipe", "keye_vl_2", "--set", "curate.heldout_share=0"], check=True, capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=400,
    )  # fmt: skip
    return base / "corpus"


def test_every_sequence_renders_to_what_its_manifest_says(corpus: Path) -> None:
    result = plan(corpus, keye_vl_2())
    assert [stage["context"] for stage in result.counts["stages"]] == [8_192, 32_768, 65_536, 262_144]
    assert all(stage["sequences"] > 0 for stage in result.counts["stages"])
    assert recount(corpus, "keye_vl_2") == []


def test_a_cost_that_is_off_by_one_token_is_found(corpus: Path) -> None:
    """The recount would notice: it does not read what it compares with."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from manifests import schemas

    path = next((corpus / "sequences" / "recipe=keye_vl_2" / "stage=3").glob("*.parquet"))
    whole = path.read_bytes()
    rows = pq.ParquetFile(path).read().to_pylist()
    rows[0]["tokens"] += 1
    try:
        pq.write_table(pa.Table.from_pylist(rows, schema=schemas.SEQUENCES), path)
        assert [problem.split(":")[0] for problem in recount(corpus, "keye_vl_2")] == ["stage 3, train, sequence 0"]
    finally:
        path.write_bytes(whole)


def test_a_long_video_feeds_every_stage_in_its_own_form(corpus: Path) -> None:
    """55 s of film: 15 s segments in stage 1, the window in stages 2 and 3; every task that curation made has a name."""
    catalog = Catalog(corpus)
    clips = dict(
        catalog.sql("""
            SELECT g.stage, list(DISTINCT s.duration_bucket ORDER BY s.duration_bucket)
            FROM segments g JOIN samples s USING (sample_id) WHERE s.modality = 'video' GROUP BY ALL
        """).fetchall()
    )
    assert clips[1] == ["15s"]
    assert set(clips[2]) == {"15min", "15s"}
    assert set(clips[3]) >= {"15min"}
    tasks = [task for (task,) in catalog.sql("SELECT DISTINCT task FROM samples").fetchall()]
    assert [task for task in tasks if unknown_task(task) is not None] == []
