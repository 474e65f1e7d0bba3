"""The front door as a stranger uses it: exit codes, one-line errors, help that fits 80 columns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COMMANDS = [
    "curate",
    "synthesize",
    "plan",
    "query",
    "sql",
    "check",
    "report",
    "diff",
    "train",
    "runs",
    "evaluate",
    "run",
    "recipes",
]


def longreel(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "longreel.py"), *map(str, arguments)]
    env = {**os.environ, "COLUMNS": "80", **environment}
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=240)


def only_line(result: subprocess.CompletedProcess[str]) -> str:
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    return lines[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_within_80_columns(command: str) -> None:
    result = longreel(command, "--help")
    assert result.returncode == 0
    codes = "0 same; 1 different; 2 trouble." if command == "diff" else "0 done; 1 failed; 2 wrong usage; 3 done"
    assert f"Exit codes: {codes}" in " ".join(result.stdout.split())
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = longreel("curate", tmp_path / "empty", "--out", tmp_path / "corpus")
    assert result.returncode != 0
    assert str(tmp_path / "empty") in only_line(result)


def test_an_unreadable_path_is_refused(tmp_path: Path) -> None:
    result = longreel("curate", tmp_path / "nowhere", "--out", tmp_path / "corpus")
    assert result.returncode == 2
    assert str(tmp_path / "nowhere") in only_line(result)


def test_an_unknown_recipe_names_the_nearest(tmp_path: Path) -> None:
    result = longreel("curate", tmp_path, "--out", tmp_path / "corpus", "--recipe", "keye_vl2")
    assert result.returncode == 2
    assert "'keye_vl2'" in only_line(result)
    assert "keye_vl_2" in only_line(result)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("stage3.contxt=4096", ["contxt", "context"]),
        ("stage3.context=many", ["context", "many"]),
        ("stage1.tokens=-5", ["tokens", "-5"]),
        ("nonsense", ["nonsense"]),
    ],
)
def test_a_bad_field_is_named(tmp_path: Path, change: str, words: list[str]) -> None:
    result = longreel("recipes", "laptop", "--set", change)
    assert result.returncode == 2
    assert all(word in only_line(result) for word in words)


def test_a_field_can_be_changed() -> None:
    result = longreel("recipes", "laptop", "--set", "stage3.context=4096", "--set", "stage3.visual_budget=2K")
    assert json.loads(result.stdout)["stages"][3]["context"] == 4096
    assert json.loads(result.stdout)["stages"][3]["visual_budget"] == 2048


def test_an_unknown_beam_option_is_refused(tmp_path: Path) -> None:
    result = longreel("curate", ROOT / "examples" / "corpus", "--out", tmp_path / "c", "--direct_num_wokers=2")
    assert result.returncode == 2
    assert "--direct_num_wokers" in only_line(result)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("command", [["query", "SELECT 1"], ["sql"], ["check"], ["plan"], ["synthesize"], ["report"]])
def test_no_corpus_is_one_line(tmp_path: Path, command: list[str]) -> None:
    result = longreel(command[0], tmp_path / "x", *command[1:])
    assert result.returncode == 2
    assert "is no corpus; make one with `longreel curate" in only_line(result)


def test_a_traceback_only_with_debug(tmp_path: Path) -> None:
    assert "Traceback" not in longreel("check", tmp_path).stderr
    assert "Traceback" in longreel("check", tmp_path, "--debug").stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--named"], 0),
        (["--tables"], 0),
        (["--tables", "samples"], 0),
        (["--named", "buckets"], 0),
        (["--named", "longest", "--param", "limit=2", "--json"], 0),
        (["SELECT 'a' || chr(27) || '[31m' AS x, '1' AS y FROM samples"], 0),
        ([], 2),
        (["--named", "--tables"], 2),
        (["--named", "bukets"], 2),
        (["--named", "longest", "--param", "limit"], 2),
        (["SELECT 1", "--param", "limit=2"], 2),
        (["SELECT CAST(sample_id AS INTEGER) FROM samples"], 2),
        (["SELECT CAST(chr(27) || chr(10) || sample_id AS INTEGER) FROM samples"], 2),
    ],
)
def test_a_corpus_is_asked(words: list[str], code: int) -> None:
    frozen = ROOT / "tests" / "manifests" / "schema_versions" / "corpus-1"
    result = longreel("query", frozen, *words)
    assert result.returncode == code, result.stderr
    assert "\x1b" not in result.stdout + result.stderr
    if code:
        only_line(result)
        assert "a defect" not in result.stderr
    elif "--json" in words:
        assert len(json.loads(result.stdout)) == 2
    else:
        assert result.stdout
        assert max(map(len, result.stdout.splitlines())) <= 80


def test_a_recipe_is_estimated_without_a_corpus() -> None:
    result = longreel("train", "--recipe", "keye_vl_2", "--dry-run", "--gpus", "64")
    assert result.returncode == 0, result.stderr
    printed = (result.stdout + result.stderr).splitlines()
    assert max(map(len, printed)) <= 80
    assert "no CORPUS: assumed" in result.stderr
    phases = json.loads(longreel("train", "--recipe", "keye_vl_2", "--dry-run", "--gpus", "64", "--json").stdout)["phases"]
    for phase in phases:
        memory = f"{phase['memory_total'] / 2**30:,.1f}"
        assert any(line.split()[:1] == [str(phase["stage"])] and memory in line.split() for line in printed), phase


def test_a_plan_that_cannot_fit_is_refused_with_its_parts() -> None:
    words = ["--recipe", "keye_vl_2", "--dry-run", "--gpus", "64", "--stage", "3"]
    result = longreel("train", *words, "--sequence-parallel", "1")
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert max(map(len, lines)) <= 80
    (first,) = [number for number, line in enumerate(lines) if "does not fit with" in line]
    assert lines[first + 2].split()[0] == "activations"
    assert lines[-1].startswith("  it fits with --zero ")
    assert "--sequence-parallel " in lines[-1]
    options = lines[-1].split("with ")[1].split()
    assert longreel("train", *words, *options).returncode == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--dry-run"], "name a CORPUS, or a --recipe"), (["--recipe", "laptop"], "name a planned CORPUS"),
     (["--recipe", "keye_vl_2", "--dry-run", "--gpu", "h800"], "no GPU 'h800'")],
)  # fmt: skip
def test_a_dry_run_says_what_it_lacks(words: list[str], message: str) -> None:
    result = longreel("train", *words)
    assert result.returncode == 2
    assert message in only_line(result)
