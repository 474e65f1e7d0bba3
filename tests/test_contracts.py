"""The house keeps its walls: one-way imports, and a front door that loads nothing it does not use."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_import_contracts_hold() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-2000:]


@pytest.mark.parametrize("package", ["manifests", "pipelines", "synth_cot", "curriculum", "model", "trainer", "longreel"])
def test_importing_a_package_starts_nothing_heavy(package: str) -> None:
    heavy = ["apache_beam", "deepspeed", "av", "scenedetect", "reasoning_gym", "matplotlib", "transformers"]
    heavy += [] if package == "model" else ["torch"]
    script = f"import {package}, sys, json; print(json.dumps([m for m in {heavy} if m in sys.modules]))"
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(result.stdout) == []
