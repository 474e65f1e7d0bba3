"""A needle test from case to case: asked, scored, kept, summed up by depth and length.

    OUT/needle.jsonl    a line a case and way of attention, as soon as it is answered: killed, it goes on
    OUT/needle.json     what was asked of which model, and the sums

A case counts as found when the right answer is the likeliest (equals share the credit), and as written when the verifier
accepts what the model wrote. Shares come with their 95 % interval (Wilson), because a few cases a cell prove little.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from manifests import files
from manifests.errors import UsageError
from manifests.fingerprint import value_id
from manifests.progress import Progress, silent
from manifests.stage_spec import Attention
from synth_cot.verifiers import get
from trainer.needle import Haystack, NeedleCase, NeedleSpec, build
from trainer.needle_pool import NeedlePool
from trainer.needle_reading import Reader, Reading


@dataclass(frozen=True, kw_only=True)
class NeedleLine:
    """The outcome of one case under one way of attention.

    Attributes:
        found: 1 when the right answer is the likeliest, a share when others are as likely, else 0.
        written_right: whether the verifier accepts what was written.
        margin: log-likelihood of the right answer over the best other, in nats.
        tokens: of the prompt. before: share of the haystack before the needle. repeated: see `trainer.needle.Haystack`.
    """

    case: str
    kind: str
    length: int
    depth: float
    attention: str
    found: float
    written_right: bool
    written: str
    right: str
    margin: float
    tokens: int
    before: float
    repeated: bool


@dataclass(frozen=True, kw_only=True)
class NeedleCell:
    """Sums over the cases of one kind, attention, length and depth (None: over all of them)."""

    kind: str
    attention: str
    length: int | None
    depth: float | None
    cases: int
    found: float
    low: float
    high: float
    written_right: float


def run_needles(
    reader: Reader,
    pool: NeedlePool,
    spec: NeedleSpec,
    *,
    attentions: Sequence[Attention],
    identity: str,
    out: Path,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Asks every case that is not answered yet.

    Args:
        identity: of the model and the corpus: answers of another are not mixed in.
        out: folder of the answers.

    Returns:
        what ``needle.json`` holds.

    Raises:
        UsageError: `out` holds answers of another model, corpus or question.
    """
    asked = value_id([asdict(spec), identity])
    known = _known(out, asked)
    cases = spec.cases()
    done = 0
    for case in cases:
        progress("needle", done, len(cases), f"{case.kind} {case.length} tokens, depth {case.depth:.0%}")
        missing = [attention for attention in attentions if (case.name, attention) not in known]
        if missing:
            haystack = build(case, spec, pool)
            for attention in missing:
                line = scored(case, haystack, attention, reader.read(haystack, attention))
                _append(out, line)
                known[case.name, attention] = line
        done += 1
    progress("needle", done, len(cases))
    lines = [known[case.name, attention] for case in cases for attention in attentions]
    summary = {
        "asked": asked,
        "spec": asdict(spec),
        "attentions": list(attentions),
        "chance": 1 / spec.answers,
        "repeated": sum(line.repeated for line in lines),
        "totals": [asdict(cell) for cell in cells(lines, by_place=False)],
        "cells": [asdict(cell) for cell in cells(lines, by_place=True)],
    }
    files.write_json(out / "needle.json", summary)
    return summary


def scored(case: NeedleCase, haystack: Haystack, attention: str, reading: Reading) -> NeedleLine:
    """The outcome of a reading."""
    right = reading.likelihoods[haystack.right]
    others = [value for place, value in enumerate(reading.likelihoods) if place != haystack.right]
    best = max(others)
    ties = 1 + sum(value == right for value in others)
    truth = haystack.answers[haystack.right]
    return NeedleLine(
        case=case.name,
        kind=case.kind,
        length=case.length,
        depth=case.depth,
        attention=attention,
        found=1 / ties if right >= best else 0.0,
        written_right=get(haystack.verifier).score(reading.written, truth).right,
        written=reading.written,
        right=truth,
        margin=right - best,
        tokens=len(haystack.prompt.ids),
        before=round(haystack.before, 4),
        repeated=haystack.repeated,
    )


def cells(lines: Sequence[NeedleLine], *, by_place: bool) -> list[NeedleCell]:
    """Sums by kind and attention, and with ``by_place`` by length and depth too."""
    groups: dict[tuple[str, str, int | None, float | None], list[NeedleLine]] = {}
    for line in lines:
        place = (line.length, line.depth) if by_place else (None, None)
        groups.setdefault((line.kind, line.attention, *place), []).append(line)
    table = []
    for (kind, attention, length, depth), mine in groups.items():
        found = sum(line.found for line in mine)
        low, high = interval(found, len(mine))
        table.append(
            NeedleCell(
                kind=kind,
                attention=attention,
                length=length,
                depth=depth,
                cases=len(mine),
                found=found / len(mine),
                low=low,
                high=high,
                written_right=sum(line.written_right for line in mine) / len(mine),
            )
        )
    return table


def interval(found: float, of: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval of a share; ``z`` 1.96 for 95 %."""
    share = found / of
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return max(0.0, middle - half), min(1.0, middle + half)


def _known(out: Path, asked: str) -> dict[tuple[str, str], NeedleLine]:
    """Answers of an earlier call; a line that a killed process left in the middle is cut off."""
    path, header = out / "needle.jsonl", json.dumps({"asked": asked})
    if not path.is_file():
        files.write_bytes(path, (header + "\n").encode())
        return {}
    lines = path.read_text(encoding="utf-8").split("\n")
    if lines[0] != header:
        raise UsageError(f"{path} holds answers of another model, corpus or question: give another --out, or delete it")
    whole = lines[:-1]
    if lines[-1]:
        files.write_bytes(path, ("\n".join(whole) + "\n").encode())
    found = [NeedleLine(**json.loads(line)) for line in whole[1:]]
    return {(line.case, line.attention): line for line in found}


def _append(out: Path, line: NeedleLine) -> None:
    with (out / "needle.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(asdict(line)) + "\n")
