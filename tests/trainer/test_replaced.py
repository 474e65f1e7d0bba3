"""The record of stand-ins loses no line."""

from __future__ import annotations

from pathlib import Path

from trainer.packed_arrays import Replaced
from trainer.replaced import ReplacedFile


def test_what_a_killed_process_left_of_a_line_does_not_take_the_next_with_it(tmp_path: Path) -> None:
    path = tmp_path / "replaced.jsonl"
    ReplacedFile(path).add("stage 1, train", 0, [Replaced(sample_id="a", media_id="b", reason="no picture")])
    whole = path.read_text()
    path.write_text(whole + whole[:20])
    again = ReplacedFile(path)
    again.add("stage 1, train", 0, [Replaced(sample_id="a", media_id="b", reason="no picture")])
    again.add("stage 1, train", 1, [Replaced(sample_id="c", media_id="d", reason="no picture")])
    again.add("stage 1, train", 2, [Replaced(sample_id="e", media_id="f", reason="no picture")])
    assert [line["position"] for line in ReplacedFile(path).lines()] == [0, 1, 2]
