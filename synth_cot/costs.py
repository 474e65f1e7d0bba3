"""What accepted samples cost, by task and teacher: every request counts, those for questions that gave no sample too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

SUMS = ("questions", "requests", "prompt_tokens", "completion_tokens", "seconds", "usd")


def price(costs: Iterable[dict[str, Any]], accepted: Counter[tuple[str, str]]) -> list[dict[str, Any]]:
    """Rows of `manifests.schemas.COSTS`, by task and teacher.

    Args:
        costs: one entry for each question that was answered (`synth_cot.work.Outcome`).
        accepted: samples that stand, by task and teacher.
    """
    grouped: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for entry in costs:
        grouped.setdefault((entry["task"], entry["teacher"]), []).append({"questions": 1, **entry})
    rows = []
    for (task, teacher), entries in sorted(grouped.items()):
        sums = {name: sum(entry[name] for entry in entries) for name in SUMS}
        count = accepted[task, teacher]
        rates = [entry["pass_rate"] for entry in entries if entry["pass_rate"] is not None]
        rows.append(
            {
                "task": task,
                "teacher": teacher,
                **sums,
                "seconds": round(sums["seconds"], 3),
                "usd": round(sums["usd"], 9),
                "accepted": count,
                "usd_per_accepted": _each(sums["usd"], count),
                "tokens_per_accepted": _each(sums["prompt_tokens"] + sums["completion_tokens"], count),
                "seconds_per_accepted": _each(sums["seconds"], count),
                "pass_rate": round(sum(rates) / len(rates), 4) if rates else None,
            }
        )
    return rows


def _each(total: float, count: int) -> float | None:
    return round(total / count, 9) if count else None


def by_teacher(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The figures of the step by teacher: sums of rows of ``costs``."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        sums = found.setdefault(row["teacher"], dict.fromkeys((*SUMS, "accepted"), 0))
        for name in sums:
            sums[name] = round(sums[name] + row[name], 6)
    for sums in found.values():
        sums["usd_per_accepted"] = _each(sums["usd"], sums["accepted"])
    return dict(sorted(found.items()))
