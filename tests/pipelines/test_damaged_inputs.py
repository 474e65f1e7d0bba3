"""Damage of every kind, beside good files: no crash, no hang, everything accounted for, nothing good lost.

``python tests/pipelines/damaged_inputs.py examples/corpus --count 1000`` does the same with more.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from damaged_inputs import KINDS, examine

GOOD = ("images/coffee.jpg", "images/coffee.caption.json", "gui/login-user.png", "gui/login-user.gui.json")
GOOD += ("videos/bikes.mp4", "videos/bikes.captions.json", "documents/tagged-report.pdf", "documents/ocrmypdf-introduction.md")


def test_one_input_of_every_kind_of_damage(examples: Path, tmp_path: Path) -> None:
    for name in GOOD:
        (tmp_path / "good" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(examples / name, tmp_path / "good" / name)
    found = examine(tmp_path / "good", tmp_path, len(KINDS))
    assert found.unaccounted == 0
    assert found.lost == []
    assert found.counts["inputs"] == sum(found.counts[end] for end in ("used", "filtered", "quarantined"))
    assert found.counts["quarantined"] >= len(KINDS) // 2
    assert not any(reason.endswith(("/time_limit", "/reader_crash", "/error")) for reason in found.reasons)
    assert found.peak_bytes < 8 * 2**30
