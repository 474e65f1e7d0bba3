"""What becomes of every item once all are known: kept or filtered, in which split, and which samples are someone else's.

One plain function over small summaries: it sees every item in the same order, so its answer does not depend on who read them
or when. Its figures (rows of each table, bytes of media) are also what decides into how many files the corpus is written.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from manifests.errors import LongreelError
from manifests.fingerprint import unit_hash
from manifests.recipe import Recipe
from pipelines.duplicates import Link, Signature, components, find_links

# A constant, not a recipe's field: a source that one recipe holds out, another must not train on. The number is the first under
# which the example corpus, small as it is, holds out a few sources of every modality and about a tenth of its tokens.
SPLIT_SEED = "heldout-36"
Partition = tuple[str, str | None, str | None]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What the verdict needs to know of an item.

    Attributes:
        key: name of its finished file.
        samples: sample_id, task, context bucket, duration bucket, rows of lineage and total tokens of each sample.
        media: media_id and bytes of each picture.
        work: what models did for it, as `pipelines.finished.Finished.work`.
    """

    key: str
    source: str
    source_id: str
    sha256: str | None
    bytes: int
    attached: tuple[str, ...]
    licence: str
    origin: str | None
    status: str
    modality: str
    signature: Signature | None
    samples: tuple[tuple[str, str, str, str | None, int, int], ...]
    media: tuple[tuple[str, int], ...]
    dropped: int
    work: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(kw_only=True)
class Fate:
    """What becomes of one item.

    Attributes:
        source_row: its row of `manifests.schemas.SOURCES`.
        lost_samples: ids of its samples that another source gives.
        lost_media: ids of its pictures that another source's shard holds.
        dropped: further rows of `manifests.schemas.DROPPED`.
    """

    source_row: dict[str, Any]
    lost_samples: frozenset[str] = frozenset()
    lost_media: frozenset[str] = frozenset()
    dropped: list[dict[str, Any]] = field(default_factory=list)

    @property
    def used(self) -> bool:
        """Whether its samples are in the corpus."""
        return bool(self.source_row["status"] == "used")


@dataclass(kw_only=True)
class Verdict:
    """The fate of every item by its key, and how large everything gets.

    Attributes:
        rows: rows per table, context bucket and duration bucket.
        shards: number of media shards.
        counts: figures for people and for the step's record.
    """

    fates: dict[str, Fate]
    rows: dict[Partition, int]
    shards: int
    counts: dict[str, Any]


def decide(summaries: Iterable[Summary], recipe: Recipe) -> Verdict:
    """Decides on all items together.

    Raises:
        LongreelError: the sum of used, filtered and quarantined inputs is not the number of inputs (a defect).
    """
    items = sorted(summaries, key=lambda item: item.source)
    fates = {item.key: Fate(source_row=_source_row(item)) for item in items}
    _exclude_licences(items, fates, recipe.curate.excluded_licences)
    candidates = [item for item in items if fates[item.key].used]
    _settle_duplicates(candidates, fates, recipe)
    kept = sorted((item for item in candidates if fates[item.key].used), key=lambda item: (item.source_id, item.source))
    _settle_samples(kept, fates)
    kept = [item for item in kept if fates[item.key].used]
    media_bytes = _settle_media(kept, fates)
    rows, counts = _figures(items, fates)
    counts["media_bytes"] = sum(media_bytes.values())
    counts["media"] = rows["media", None, None] = len(media_bytes)
    shards = max(1, round(counts["media_bytes"] / recipe.curate.shard_bytes))
    return Verdict(fates=fates, rows=rows, shards=shards, counts=counts)


def _source_row(item: Summary) -> dict[str, Any]:
    return {
        "source_id": item.source_id,
        "source": item.source,
        "modality": item.modality,
        "bytes": item.bytes,
        "sha256": item.sha256,
        "attached": list(item.attached),
        "licence": item.licence,
        "origin": item.origin,
        "status": item.status,
        "samples": 0,
        "tokens": 0,
        "duplicate_cluster": None,
        "split": None,
    }


def _filter(item: Summary, fate: Fate, stage: str, reason: str, detail: str) -> None:
    fate.source_row["status"] = "filtered"
    fate.dropped.append(
        {
            "source": item.source,
            "source_id": item.source_id,
            "sample_id": None,
            "task": None,
            "stage": stage,
            "reason": reason,
            "detail": detail,
        }
    )


def _exclude_licences(items: Sequence[Summary], fates: dict[str, Fate], excluded: Sequence[str]) -> None:
    unwanted = {licence.lower() for licence in excluded}
    for item in items:
        named = [item.licence, *re.split(r"\s+(?:AND|OR|WITH)\s+|[()]", item.licence)]
        hit = next((licence for licence in named if licence.strip().lower() in unwanted), None)
        if hit is not None and fates[item.key].used:
            _filter(
                item, fates[item.key], "licence", "excluded_licence", f"{item.licence} names {hit.strip()}, which is excluded"
            )


def _settle_duplicates(items: Sequence[Summary], fates: dict[str, Fate], recipe: Recipe) -> None:
    """Keeps one source of each set of duplicates and gives every cluster one side of the split."""
    signatures = [item.signature or Signature(kind="exact") for item in items]
    links = find_links(
        [item.sha256 or item.source_id for item in items],
        signatures,
        near_image_bits=recipe.curate.near_image_bits,
        near_text_similarity=recipe.curate.near_text_similarity,
        semantic_similarity=recipe.curate.quality.semantic_similarity,
    )
    duplicates: dict[int, list[Link]] = defaultdict(list)
    for link in links:
        for place in (link.left, link.right) if link.duplicate else ():
            duplicates[place].append(link)
    same: dict[int, list[int]] = defaultdict(list)
    for place, root in enumerate(components(len(items), ((link.left, link.right) for link in links if link.duplicate))):
        same[root].append(place)
    for places in same.values():
        best = min(
            places,
            key=lambda place: (
                not signatures[place].described,
                # An inventory vouches for a file: a damaged copy that still opens must not replace it.
                items[place].licence == "unknown",
                -signatures[place].size,
                -items[place].bytes,
                items[place].source_id,
                items[place].source,
            ),
        )
        for place in places:
            if place != best:
                link = _evidence(duplicates[place], best)
                through = "" if best in (link.left, link.right) else " through others of its cluster"
                detail = f"{items[best].source} is kept{through}: {link.detail}"
                _filter(items[place], fates[items[place].key], "duplicates", link.reason, detail)
    together: dict[int, list[int]] = defaultdict(list)
    for place, root in enumerate(components(len(items), ((link.left, link.right) for link in links))):
        together[root].append(place)
    for places in together.values():
        cluster = min(items[place].source_id for place in places)
        split = "heldout" if unit_hash(SPLIT_SEED, cluster) < recipe.curate.heldout_share else "train"
        for place in places:
            fates[items[place].key].source_row.update(duplicate_cluster=cluster, split=split)


def _evidence(links: Sequence[Link], best: int) -> Link:
    """The link that says why a source is a duplicate: to the kept one, or else to another of its cluster."""
    return next((link for link in links if best in (link.left, link.right)), links[0])


def _settle_samples(kept: Sequence[Summary], fates: dict[str, Fate]) -> None:
    """A sample that two sources give belongs to the one with the smallest source_id."""
    owner: dict[str, Summary] = {}
    for item in kept:
        fate = fates[item.key]
        lost = set()
        for sample_id, task, *_ in item.samples:
            first = owner.setdefault(sample_id, item)
            if first is item:
                continue
            lost.add(sample_id)
            fate.dropped.append(
                {
                    "source": item.source,
                    "source_id": item.source_id,
                    "sample_id": sample_id,
                    "task": task,
                    "stage": "duplicates",
                    "reason": "exact_duplicate",
                    "detail": f"{first.source} gives the same sample",
                }
            )
        fate.lost_samples = frozenset(lost)
        fate.source_row["samples"] = len(item.samples) - len(lost)
        fate.source_row["tokens"] = sum(tokens for sample_id, *_, tokens in item.samples if sample_id not in lost)
        if not fate.source_row["samples"]:
            fate.source_row["status"] = "filtered"


def _settle_media(kept: Sequence[Summary], fates: dict[str, Fate]) -> dict[str, int]:
    """A picture that two sources show is stored by the one with the smallest source_id; returns the bytes of each."""
    size: dict[str, int] = {}
    for item in kept:
        fates[item.key].lost_media = frozenset(media_id for media_id, _ in item.media if media_id in size)
        size.update(item.media)
    return size


def _figures(items: Sequence[Summary], fates: dict[str, Fate]) -> tuple[dict[Partition, int], dict[str, Any]]:
    rows: Counter[Partition] = Counter()
    tasks: Counter[str] = Counter()
    buckets: Counter[str] = Counter()
    splits: Counter[str] = Counter()
    for item in items:
        fate = fates[item.key]
        rows["dropped", None, None] += item.dropped + len(fate.dropped)
        for sample_id, task, context, duration, lineage, _ in item.samples if fate.used else ():
            if sample_id not in fate.lost_samples:
                rows["samples", context, duration] += 1
                rows["lineage", None, None] += lineage
                tasks[task] += 1
                buckets[context] += 1
                splits[fate.source_row["split"]] += 1
    statuses = Counter(fate.source_row["status"] for fate in fates.values())
    counts: dict[str, Any] = {
        "inputs": len(items),
        "used": statuses["used"],
        "filtered": statuses["filtered"],
        "quarantined": statuses["quarantined"],
        "samples": sum(tasks.values()),
        "tasks": dict(sorted(tasks.items())),
        "context_buckets": dict(sorted(buckets.items())),
        "splits": dict(sorted(splits.items())),
        "input_bytes": sum(item.bytes for item in items),
    }
    if work := _model_work(items):
        counts["model_work"] = work
    if counts["inputs"] != counts["used"] + counts["filtered"] + counts["quarantined"] or len(fates) != len(items):
        raise LongreelError(f"inputs do not add up: {dict(statuses)} of {len(items)}; this is a defect, please report it")
    return dict(rows), counts


def _model_work(items: Sequence[Summary]) -> dict[str, dict[str, int]]:
    """What models did for all items, by kind of request; equal requests of two items are counted for both."""
    total: dict[str, Counter[str]] = defaultdict(Counter)
    for item in items:
        for kind, figures in item.work.items():
            total[kind].update(figures)
    return {kind: dict(sorted(figures.items())) for kind, figures in sorted(total.items())}
