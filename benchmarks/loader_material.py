"""The same samples for every loader of `loader_vs_peers.py`: texts of lognormal length, and pictures with captions.

Texts are cut out of the demo corpus's documents; pictures are the demo's, each cropped and encoded anew several times, so that
no picture comes twice in a pass. From them: a planned corpus of ours, shards of MosaicML Streaming (MDS), and WebDataset tars,
which Energon reads too. Where tokens are stored, all store the same tokens.
"""

from __future__ import annotations

import io
import json
import lzma
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from curriculum.packing import pack
from curriculum.recipes import keye_vl_2
from manifests.catalog import Catalog
from manifests.corpus import Corpus
from manifests.fingerprint import canonical_json, sha256_bytes, value_id
from manifests.recipe import Recipe
from manifests.rendering import Rendered, render
from manifests.sample import Message, Part, Sample, Visual, messages_to_rows, text
from manifests.shards import MediaItem, read_media, write_shard
from manifests.tokenizer import BUNDLED, load_tokenizer

CONTEXT = 8_192
SHARDS = 16
CHARACTERS_A_TOKEN = 3.6
PICTURE_TOKENS = 256
STAGE = 3
MARGINS = (0, 8, 16, 24, 32)
"""Pixels cut off each side of a picture: one variant each."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A sample and what others store of it."""

    sample: Sample
    rendered: Rendered
    words: str
    picture: MediaItem | None = None
    size: tuple[int, int] = (0, 0)


def recipe() -> Recipe:
    """The published tokenizer and pictures, one picture at most `PICTURE_TOKENS`."""
    whole = keye_vl_2()
    return replace(whole, visual=replace(whole.visual, image_tokens_max=PICTURE_TOKENS))


def texts(demo: Path, count: int, seed: int) -> Iterator[Piece]:
    """Documents of lognormal length: median 500 tokens, sigma 0.9, 32 to 8,000."""
    rows = Catalog(demo).sql(
        "SELECT messages FROM samples WHERE task LIKE '%text%' OR task LIKE 'document%' ORDER BY sample_id"
    )
    parts = [part["text"] for (messages,) in rows.fetchall() for each in messages for part in each["parts"] if part["text"]]
    source = "\n\n".join(parts)
    random, tokenizer, visual = np.random.default_rng(seed), load_tokenizer(recipe().tokenizer), recipe().visual
    for size in np.exp(np.log(500) + 0.9 * random.standard_normal(count)).clip(32, 8_000):
        length = int(size * CHARACTERS_A_TOKEN)
        start = int(random.integers(0, max(1, len(source) - length)))
        words = source[start : start + length]
        while True:
            sample = Sample(
                task="text.plain",
                capabilities=(),
                messages=(Message(role="document", parts=(text(words),)),),
                licence="unknown",
            )
            rendered = render(sample.messages, tokenizer, visual)
            if len(rendered.ids) <= CONTEXT:
                break
            words = words[: len(words) // 2]
        yield Piece(sample=sample, rendered=rendered, words=words)


def pictures(demo: Path, most: int) -> Iterator[Piece]:
    """Pictures with a short caption."""
    tokenizer, visual = load_tokenizer(recipe().tokenizer), recipe().visual
    stored = Catalog(demo).sql('SELECT shard, "offset", length FROM media WHERE height > 150 AND width > 150 ORDER BY media_id')
    places, made = stored.fetchall(), 0
    for margin in MARGINS:
        for shard, offset, length in places:
            if made == most:
                return
            with Image.open(io.BytesIO(read_media(demo / shard, offset, length))) as whole:
                cut = whole.convert("RGB").crop((margin, margin, whole.width - margin, whole.height - margin))
            stream = io.BytesIO()
            cut.save(stream, "JPEG", quality=90)
            data = stream.getvalue()
            item = MediaItem(
                media_id=sha256_bytes(data)[:32], extension="jpg", height=cut.height, width=cut.width, data=data
            )  # fmt: skip
            height, width = visual.image_size(cut.height, cut.width)
            shown = Part(kind="image", visuals=(Visual(media_id=item.media_id, height=height, width=width),))
            words = f"Picture {made} of this benchmark, {cut.width} by {cut.height} pixels."
            messages = (Message(role="user", parts=(shown,)), Message(role="assistant", parts=(text(words),)))
            sample = Sample(task="image.caption", capabilities=(), messages=messages, licence="unknown")
            rendered = render(messages, tokenizer, visual)
            yield Piece(sample=sample, rendered=rendered, words=words, picture=item, size=(height, width))
            made += 1


def write_corpus(folder: Path, pieces: list[Piece]) -> float:
    """Our corpus with one planned stage, packed by `curriculum.packing`; returns its fill."""
    corpus, plan = Corpus(folder), recipe()
    written = [corpus.write_identity(plan)]
    items = [piece.picture for piece in pieces if piece.picture is not None]
    media: list[dict[str, Any]] = []
    if items:
        shard = folder / "media" / "shard-00000.tar"
        for item, place in zip(items, write_shard(shard, items), strict=True):
            media.append({
                "media_id": item.media_id, "shard": "media/shard-00000.tar", "offset": place.offset, "length": place.length,
                "sha256": place.sha256, "extension": "jpg", "height": item.height, "width": item.width, "source_id": "s",
            })  # fmt: skip
        written.append(shard)
    written += corpus.write_table("media", media, origin="curate")
    rows = [{
        "sample_id": piece.sample.sample_id, "origin": "curate", "task": piece.sample.task, "capabilities": [],
        "modality": "image" if piece.picture else "text", "split": "train", "source_ids": ["s"],
        "messages": messages_to_rows(piece.sample.messages), "text_tokens": piece.rendered.cost.text,
        "visual_tokens": piece.rendered.cost.visual, "total_tokens": piece.rendered.cost.total,
        "learned_tokens": int((piece.rendered.labels >= 0).sum()), "context_bucket": "32k", "duration_bucket": None,
        "duration_s": None, "quality": [], "duplicate_cluster": "s", "licence": "unknown", "reasoning": None,
        "fingerprint": "f",
    } for piece in pieces]  # fmt: skip
    written += corpus.write_table("samples", sorted(rows, key=lambda row: str(row["sample_id"])), origin="curate")
    corpus.commit("curate", "benchmark", {}, written, [])
    packs = pack([piece.rendered.cost.total for piece in pieces], CONTEXT)
    order = np.random.default_rng(0).permutation(len(packs))
    sequences: list[dict[str, Any]] = []
    segments: list[dict[str, Any]] = []
    for position, number in enumerate(order.tolist()):
        packed, start = [rows[index] for index in packs[number].tolist()], 0
        key = {"recipe": plan.name, "stage": STAGE, "split": "train", "position": position}
        name = value_id([row["sample_id"] for row in packed])
        tokens, visual, learned = (sum(row[k] for row in packed) for k in ("total_tokens", "visual_tokens", "learned_tokens"))
        sequences.append({
            **key, "sequence_id": name, "segments": len(packed), "tokens": tokens, "visual_tokens": visual,
            "learned_tokens": learned, "capacity": CONTEXT, "attention_cost": 0,
        })  # fmt: skip
        for place, row in enumerate(packed):
            segments.append({
                **key, "segment": place, "sequence_id": name, "sample_id": row["sample_id"], "epoch": 0, "token_start": start,
                "token_end": start + row["total_tokens"], "visual_tokens": row["visual_tokens"],
            })  # fmt: skip
            start += row["total_tokens"]
    tokens = sum(row["tokens"] for row in sequences)
    stage = {
        "recipe": plan.name, "stage": STAGE, "name": "benchmark", "context": CONTEXT, "visual_budget": CONTEXT,
        "sequences": len(sequences), "heldout_sequences": 0, "segments": len(segments), "tokens": tokens, "visual_tokens": 0,
        "learned_tokens": 0, "fill": round(tokens / (len(sequences) * CONTEXT), 6), "steps": len(sequences), "shortfall": "{}",
        "specification": canonical_json(plan), "fingerprint": "benchmark",
    }  # fmt: skip
    written = []
    for table, values in (("sequences", sequences), ("segments", segments), ("stages", [stage])):
        written += corpus.write_table(table, values, recipe=plan.name, stage=STAGE)
    corpus.commit(f"plan-{plan.name}", "benchmark", {}, written, [])
    return float(stage["fill"])


def write_tars(folder: Path, pieces: list[Piece], setting: str) -> None:
    """WebDataset tars that hold what a setting needs and nothing else, and ``about.json``."""
    (folder / "tars").mkdir(parents=True)
    for shard in range(SHARDS):
        with tarfile.open(folder / "tars" / f"shard-{shard:05d}.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
            for number in range(shard, len(pieces), SHARDS):
                piece = pieces[number]
                tokens = {"ids": piece.rendered.ids.tobytes()}
                members = {"txt": piece.words.encode()} if setting == "tokenise" else tokens
                if piece.picture is not None:
                    members["labels"] = piece.rendered.labels.tobytes()
                    members["jpg"] = piece.picture.data
                    members["json"] = json.dumps({"height": piece.size[0], "width": piece.size[1]}).encode()
                for kind, data in members.items():
                    info = tarfile.TarInfo(f"{number:08d}.{kind}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
    total = sum(piece.rendered.cost.total for piece in pieces)
    (folder / "about.json").write_text(json.dumps({"samples": len(pieces), "tokens": total}))
    bundled = BUNDLED / recipe().tokenizer / "tokenizer.json.xz"
    (folder / "tokenizer.json").write_bytes(lzma.decompress(bundled.read_bytes()))
