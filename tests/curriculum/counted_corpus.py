"""A corpus that has only what planning reads: samples with given costs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curriculum.recipes import laptop
from manifests.corpus import Corpus
from manifests.fingerprint import value_id
from manifests.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Counted:
    """One sample by its costs."""

    task: str
    total: int
    visual: int = 0
    split: str = "train"
    duration_bucket: str | None = None
    name: str = ""
    source: str | None = None

    @property
    def sample_id(self) -> str:
        return value_id([self.task, self.total, self.visual, self.split, self.duration_bucket, self.name])


def write_corpus(folder: Path, samples: list[Counted], *, recipe: Recipe | None = None, files: int = 1) -> Corpus:
    """Writes the corpus; the order of ``samples`` and the number of files must not matter to a plan."""
    corpus = Corpus(folder)
    corpus.begin("curate")
    written = [corpus.write_identity(recipe or laptop())]
    rows = [
        {
            "sample_id": sample.sample_id, "origin": "curate", "task": sample.task, "capabilities": [], "modality": "text",
            "split": sample.split, "source_ids": [sample.source] if sample.source else [],
            "messages": [], "text_tokens": sample.total - sample.visual,
            "visual_tokens": sample.visual, "total_tokens": sample.total, "learned_tokens": sample.total // 2,
            "context_bucket": "32k", "duration_bucket": sample.duration_bucket, "duration_s": None, "quality": [],
            "duplicate_cluster": sample.sample_id, "licence": "CC0-1.0", "reasoning": None, "fingerprint": "test",
        }
        for sample in samples
    ]  # fmt: skip
    size = -(-len(rows) // files)
    written += corpus.write_table("samples", rows, rows_per_file=max(size, 1), origin="curate", context_bucket="32k")
    corpus.commit("curate", value_id([sample.sample_id for sample in samples]), {"inputs": len(samples)}, written, [])
    return corpus


def varied(seed: int = 1, each: int = 60) -> list[Counted]:
    """Something for every stage of `laptop`, a tenth of it held out."""
    random = np.random.default_rng(seed)
    samples = []
    for task, low, high, share, bucket in (
        ("image.caption", 40, 120, 0.6, None),
        ("video.segment", 200, 700, 0.8, "15s"),
        ("video.window", 800, 1900, 0.9, "15min"),
        ("document.page", 100, 1000, 0.0, None),
        ("document.whole", 3000, 8000, 0.3, None),
        ("code.file", 200, 6000, 0.0, None),
        ("text.file", 50, 900, 0.0, None),
        ("gui.locate", 60, 90, 0.7, None),
        ("reason.gui.count", 80, 200, 0.4, None),
        ("stem.chain_sum", 60, 300, 0.0, None),
    ):
        for index in range(each):
            total = int(random.integers(low, high))
            split = "heldout" if index % 10 == 9 else "train"
            samples.append(
                Counted(task=task, total=total, visual=int(total * share), split=split, duration_bucket=bucket, name=str(index))
            )
    return samples
