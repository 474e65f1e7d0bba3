"""From the outcomes of all sources to what is written: one owner for each sample and problem, and the mixture the recipe wants.

Everything here is decided in the order of sources, so that it does not depend on which worker finished first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from manifests.fingerprint import unit_hash
from manifests.shards import MediaItem
from manifests.synth_spec import SynthSpec
from synth_cot.costs import by_teacher, price
from synth_cot.work import Outcome, drop


@dataclass(kw_only=True)
class Gathered:
    """The rows of all sources."""

    samples: list[dict[str, Any]] = field(default_factory=list)
    lineage: list[dict[str, Any]] = field(default_factory=list)
    dropped: list[dict[str, Any]] = field(default_factory=list)
    sources: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    media: dict[str, tuple[str, MediaItem]] = field(default_factory=dict)
    requests: list[dict[str, Any]] = field(default_factory=list)
    costs: list[dict[str, Any]] = field(default_factory=list)
    asked: int = 0

    def counts(self) -> dict[str, Any]:
        """The figures of the step."""
        by_task: dict[str, Counter[str]] = {}
        for row in self.dropped:
            by_task.setdefault(row["task"], Counter())[row["reason"]] += 1
        texts = sum(not row["visual_tokens"] for row in self.samples)
        return {
            "asked": self.asked,
            "accepted": len(self.samples),
            "rejected": dict(sorted(Counter(row["reason"] for row in self.dropped).items())),
            "rejected_by_task": {task: dict(sorted(found.items())) for task, found in sorted(by_task.items())},
            "by_task": dict(sorted(Counter(row["task"] for row in self.samples).items())),
            "tokens": sum(row["total_tokens"] for row in self.samples),
            "text_share": round(texts / len(self.samples), 4) if self.samples else 0.0,
            "media": len(self.media),
            "requests": len(self.requests),
            "unanswered": sum(row["outcome"] == "failed" and row["reason"] != "over_budget" for row in self.requests),
            "cost_usd": round(sum(row["usd"] for row in self.costs), 6),
            "teachers": by_teacher(self.costs),
        }


def gather(outcomes: Iterable[Outcome], spec: SynthSpec) -> Gathered:
    """All rows; ``asked`` = samples + dropped, as for each source."""
    total = Gathered()
    owners: dict[str, str] = {}
    first: dict[str, str] = {}
    for outcome in outcomes:
        if outcome.sources and outcome.source_id in first:
            total.asked += 1
            task = (outcome.samples or outcome.dropped)[0]["task"]
            detail = f"the same problem as {first[outcome.source_id]}"
            total.dropped.append(drop(outcome.source, outcome.source_id, task, "duplicate_problem", detail))
            continue
        first[outcome.source_id] = outcome.source
        _add(total, outcome, owners)
    _balance(total, spec.text_share)
    kept = {row["sample_id"] for row in total.samples}
    total.lineage = [row for row in total.lineage if row["sample_id"] in kept]
    drawn_on = Counter(source_id for row in total.samples for source_id in row["source_ids"])
    tokens: Counter[str] = Counter()
    for row in total.samples:
        tokens.update(dict.fromkeys(row["source_ids"], row["total_tokens"]))
    total.costs = price(total.costs, Counter((row["task"], row["reasoning"]["teacher"]) for row in total.samples))
    for row in total.requests:
        row["sample_id"] = row["sample_id"] if row["sample_id"] in kept else None
    for row in total.sources:
        row["samples"], row["tokens"] = drawn_on[row["source_id"]], tokens[row["source_id"]]
        row["status"] = "used" if row["samples"] else "filtered"
    return total


def _add(total: Gathered, outcome: Outcome, owners: dict[str, str]) -> None:
    """Adds an outcome. Two sources may show one picture and so give one sample: it stays with the first."""
    total.asked += outcome.asked
    total.dropped += outcome.dropped
    copies: set[str] = set()
    for row in outcome.samples:
        sample_id = row["sample_id"]
        if sample_id in owners:
            copies.add(sample_id)
            detail = f"{owners[sample_id]} gives the same sample"
            total.dropped.append(drop(outcome.source, outcome.source_id, row["task"], "duplicate_sample", detail, sample_id))
        else:
            owners[sample_id] = outcome.source
            total.samples.append(row)
    total.lineage += [row for row in outcome.lineage if row["sample_id"] not in copies]
    total.requests += outcome.requests
    total.costs += outcome.costs
    total.sources += outcome.sources
    total.annotations += outcome.annotations
    for item in outcome.media:
        total.media.setdefault(item.media_id, (outcome.source_id, item))


def _balance(total: Gathered, share: float | None) -> None:
    """Drops samples, by hash, of the side that is too many, on each side of the split for itself."""
    if share is None:
        return
    surplus: dict[str, str] = {}
    for split in ("train", "heldout"):
        rows = sorted(
            (row for row in total.samples if row["split"] == split), key=lambda row: unit_hash("share", row["sample_id"])
        )
        texts = [row["sample_id"] for row in rows if not row["visual_tokens"]]
        shown = [row["sample_id"] for row in rows if row["visual_tokens"]]
        if not texts or not shown or share in (0.0, 1.0):
            continue  # one side is all there is: a corpus of text alone, say
        texts_kept = min(len(texts), round(len(shown) * share / (1 - share)))
        shown_kept = min(len(shown), round(len(texts) * (1 - share) / share))
        words = f"samples without pictures are to be {share:.0%} of all"
        surplus |= dict.fromkeys(texts[texts_kept:] + shown[shown_kept:], words)
    names = {row["source_id"]: row["source"] for row in total.sources}
    for row in total.samples:
        if row["sample_id"] in surplus:
            source_id = row["source_ids"][0]
            source = names.get(source_id, source_id)
            detail = surplus[row["sample_id"]]
            total.dropped.append(drop(source, source_id, row["task"], "over_share", detail, row["sample_id"]))
    total.samples = [row for row in total.samples if row["sample_id"] not in surplus]
