"""``replaced.jsonl``: every picture that a run trained a stand-in for, each once.

Decided here: a line says what is true of a place in the plan (stage, position, sample, picture), not when it happened; a step
that is trained again after a resume adds no second line. Lines of all ranks are appended whole.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from manifests import files
from trainer.packed_arrays import Replaced


class ReplacedFile:
    """The file of one rank's process; it appears with its first line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # What a killed process left of a line must not take the next one with it.
        self._torn = path.is_file() and not path.read_bytes().endswith(b"\n")
        self._known = {(line["where"], line["position"], line["sample_id"], line["media_id"]) for line in self.lines()}
        self._said = False

    def lines(self) -> list[dict[str, Any]]:
        """Every whole line."""
        return files.read_json_lines(self.path)

    def add(self, where: str, position: int, replaced: Sequence[Replaced]) -> None:
        """Records the stand-ins of a sequence."""
        fresh = []
        for each in replaced:
            key = (where, position, each.sample_id, each.media_id)
            if key not in self._known:
                self._known.add(key)
                line = {"where": where, "position": position, "sample_id": each.sample_id, "media_id": each.media_id}
                fresh.append(json.dumps(line | {"reason": each.reason}) + "\n")
        if not fresh:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, ("\n" * self._torn + "".join(fresh)).encode())
            self._torn = False
        finally:
            os.close(descriptor)
        if not self._said:
            self._said = True
            print(f"bad media is replaced: see {self.path} (first: {replaced[0].reason})", file=sys.stderr, flush=True)
