"""Nothing to train on that nearly copies evaluation data: ``curate.quality.benchmarks`` names it, near-copies are dropped.

Every sample is checked against every item of the list (`manifests.benchmarks`), whatever its source; a source of which anything
was refused gives no known truth either, or questions would be made of it. The content of the list is part of the fingerprint
of every item's result.
"""

from __future__ import annotations

import io
from functools import lru_cache

from PIL import Image

from manifests.benchmarks import Benchmark, benchmark_identity, read_benchmark
from manifests.curate_spec import QualitySpec
from manifests.looks import look
from manifests.sample import Sample
from pipelines.pictures import PictureStore
from pipelines.quality import Refusal


@lru_cache(maxsize=2)
def _load(paths: tuple[str, ...], identity: str) -> Benchmark:
    return Benchmark(read_benchmark(paths))


class Decontamination:
    """Judges the samples of one item against the recipe's list; each picture is looked at once."""

    def __init__(self, spec: QualitySpec, store: PictureStore) -> None:
        self.benchmark = _load(spec.benchmarks, benchmark_identity(spec.benchmarks)) if spec.benchmarks else None
        self.store = store
        self.seen: dict[str, str | None] = {}

    def judge(self, sample: Sample) -> Refusal | None:
        """Why a sample must not be trained on, or None."""
        if self.benchmark is None:
            return None
        words = "\n".join(part.text for message in sample.messages for part in message.parts if part.text)
        found = self.benchmark.text_copied(words)
        for visual in sample.visuals if found is None else ():
            found = found or self._picture(visual.media_id)
        return None if found is None else Refusal(stage="benchmark", reason="benchmark", detail=found)

    def _picture(self, media_id: str) -> str | None:
        assert self.benchmark is not None
        if media_id not in self.seen and self.benchmark.looks:
            (item,) = self.store.pictures([media_id])
            shown = look(Image.open(io.BytesIO(item.data)))
            self.seen[media_id] = None if shown is None else self.benchmark.picture_copied(shown)
        return self.seen.get(media_id)
