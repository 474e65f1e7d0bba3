"""A corpus of two pictures and four samples, written through the waist itself."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from curriculum.recipes import laptop
from manifests.corpus import Corpus
from manifests.fingerprint import sha256_bytes, value_id
from manifests.recipe import Recipe
from manifests.rendering import render
from manifests.sample import Message, Origin, Part, Sample, Visual, messages_to_rows, text
from manifests.shards import MediaItem, write_shard
from manifests.tokenizer import load_tokenizer


def picture(seed: int) -> MediaItem:
    """A 56 x 84 px JPEG that depends on ``seed``."""
    pixels = np.random.default_rng(seed).integers(0, 255, (56, 84, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="JPEG", quality=90)
    data = stream.getvalue()
    return MediaItem(media_id=sha256_bytes(data)[:32], extension="jpg", height=56, width=84, data=data)


def question(source: str, media: MediaItem, answer: str) -> Sample:
    """A picture and what it shows."""
    origin = Origin(source_id=value_id(source))
    image = Part(kind="image", visuals=(Visual(media_id=media.media_id, height=56, width=84),), origin=origin)
    return Sample(
        task="image.caption",
        capabilities=("captioning",),
        licence="CC0-1.0",
        messages=(Message(role="user", parts=(image,)), Message(role="assistant", parts=(text(answer, origin),))),
    )


def sample_row(sample: Sample, recipe: Recipe, split: str) -> dict[str, Any]:
    """The row that curation would write."""
    rendered = render(sample.messages, load_tokenizer(recipe.tokenizer), recipe.visual)
    return {
        "sample_id": sample.sample_id,
        "origin": "curate",
        "task": sample.task,
        "capabilities": list(sample.capabilities),
        "modality": "image",
        "split": split,
        "source_ids": list(sample.source_ids),
        "messages": messages_to_rows(sample.messages),
        "text_tokens": rendered.cost.text,
        "visual_tokens": rendered.cost.visual,
        "total_tokens": rendered.cost.total,
        "learned_tokens": int((rendered.labels != -100).sum()),
        "context_bucket": recipe.buckets.context(rendered.cost.total),
        "duration_bucket": None,
        "duration_s": None,
        "quality": [],
        "duplicate_cluster": sample.source_ids[0],
        "licence": sample.licence,
        "reasoning": None,
        "fingerprint": "test",
    }


def lineage_rows(sample: Sample, recipe: Recipe) -> list[dict[str, Any]]:
    """One row a part."""
    rendered = render(sample.messages, load_tokenizer(recipe.tokenizer), recipe.visual)
    rows = []
    for span in rendered.spans:
        part = sample.messages[span.message].parts[span.part]
        rows.append(
            {
                "sample_id": sample.sample_id,
                "message": span.message,
                "part": span.part,
                "frame": span.frame,
                "token_start": span.start,
                "token_end": span.end,
                "source_id": part.origin.source_id if part.origin else None,
                "start_s": None,
                "end_s": None,
                "page": None,
                "box": None,
                "media_id": part.visuals[0].media_id if part.visuals else None,
            }
        )
    return rows


def build_corpus(folder: Path) -> Corpus:
    """Writes the corpus, as a curation step would."""
    recipe, corpus = laptop(), Corpus(folder)
    pictures = sorted((picture(seed) for seed in range(2)), key=lambda item: item.media_id)
    samples = [question(f"photo-{index}.jpg", pictures[index % 2], f"picture number {index}") for index in range(4)]
    samples.sort(key=lambda sample: sample.sample_id)
    corpus.begin("curate")
    shard = corpus.folder / "media" / "shard-00000.tar"
    placed = write_shard(shard, pictures)
    written = [corpus.write_identity(recipe), shard]
    media = [
        {
            **vars(place),
            "shard": "media/shard-00000.tar",
            "extension": "jpg",
            "height": 56,
            "width": 84,
            "source_id": value_id("x"),
        }
        for place in placed
    ]
    written += corpus.write_table("media", media, origin="curate")
    rows = [sample_row(sample, recipe, "train") for sample in samples]
    written += corpus.write_table("samples", rows, origin="curate", context_bucket="32k", duration_bucket=None)
    written += corpus.write_table(
        "lineage", [row for sample in samples for row in lineage_rows(sample, recipe)], origin="curate"
    )
    names = [f"photo-{index}.jpg" for index in range(4)]
    sources = [source_row(name, "used") for name in names] + [source_row("broken.jpg", "quarantined")]
    written += corpus.write_table("sources", sources, origin="curate")
    lost = {"source": "broken.jpg", "source_id": None, "stage": "decode", "reason": "unreadable", "detail": "no JPEG"}
    written += corpus.write_table("quarantine", [lost], origin="curate")
    written += corpus.write_table("dropped", [], origin="curate")
    corpus.commit("curate", "fingerprint", {"inputs": 5}, written, [])
    return corpus


def source_row(name: str, status: str) -> dict[str, Any]:
    """One input."""
    return {
        "source_id": value_id(name),
        "source": name,
        "modality": "image",
        "bytes": 1,
        "sha256": None,
        "attached": [],
        "licence": "CC0-1.0",
        "came_from": None,
        "status": status,
        "samples": int(status == "used"),
        "duplicate_cluster": None,
        "split": None,
    }
