"""A tiny planned corpus, written through the waist: pictures in a shard, samples, four packed stages."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from PIL import Image

from manifests.corpus import Corpus
from manifests.curate_spec import CurateSpec, VideoForm
from manifests.fingerprint import canonical_json, sha256_bytes, unit_hash, value_id
from manifests.recipe import BucketSpec, Recipe, TrainSpec
from manifests.rendering import render
from manifests.sample import Message, Part, Sample, Visual, messages_to_rows, text
from manifests.shards import MediaItem, write_shard
from manifests.stage_spec import CostSpec, MixtureSpec, ModelSpec, PhaseSpec, StageSpec
from manifests.tokenizer import SPECIAL_TOKENS, load_tokenizer
from manifests.visual import VisualSpec

WORDS = ("the", "cat", "sat", "on", "a", "red", "mat", "and", "saw", "nine", "boats", "sail", "past", "green", "hills")


def write_tokenizer(folder: Path) -> Path:
    """A byte-level vocabulary without merges: 256 bytes and the special tokens."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    inner = tokenizers.Tokenizer(tokenizers.models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = tokenizers.decoders.ByteLevel()
    inner.add_special_tokens(list(SPECIAL_TOKENS))
    folder.mkdir(parents=True)
    inner.save(str(folder / "tokenizer.json"))
    return folder


def tiny_recipe(tokenizer: Path) -> Recipe:
    """Four stages of a few steps each; stage 2 has both DSA phases."""
    everything = (MixtureSpec(task="*", weight=1.0),)

    def stage(number: int, name: str, context: int, per_step: int, *phases: PhaseSpec) -> StageSpec:
        return StageSpec(
            number=number, name=name, context=context, visual_budget=context // 2, tokens=10_000, sequences_per_step=per_step,
            mixture=everything, phases=phases,
        )  # fmt: skip

    return Recipe(
        name="pocket",
        tokenizer=str(tokenizer),
        visual=VisualSpec(frame_tokens_min=1, frame_tokens_max=4, image_tokens_min=1, image_tokens_max=16),
        buckets=BucketSpec(context_32k=128, context_64k=192, context_256k=256),
        curate=CurateSpec(video_forms=(VideoForm(name="segment", max_s=15.0, visual_budget=64),)),
        model=ModelSpec(
            preset="tiny",
            top_k=16,
            cost=CostSpec(token=3_000_000, read_pair=4_096, indexer_token=250_000, scored_pair=1_000),
        ),
        stages=(
            stage(0, "align", 128, 2, PhaseSpec(name="align", attention="dense", trains="projector", indexer_lambda=0.0)),
            stage(1, "broad", 128, 2, PhaseSpec(name="dense", attention="dense", trains="everything", indexer_lambda=0.0)),
            stage(
                2, "verified", 192, 2,
                PhaseSpec(name="warmup", attention="warmup", trains="indexer", share=0.4),
                PhaseSpec(name="sparse", attention="sparse", trains="everything", share=0.6),
            ),
            stage(3, "long", 256, 1, PhaseSpec(name="sparse", attention="sparse", trains="everything")),
        ),
        train=TrainSpec(
            precision="fp32", zero_stage=1, checkpoint_steps=2, activation_checkpointing=False, heldout_sequences=2,
            weight_decay=0.01,
        ),
    )  # fmt: skip


class TinyCorpus:
    """The corpus, its recipe, and what was put in."""

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self.folder, self.recipe, self.plan_fingerprint = folder, recipe, "plan"
        self.tokenizer = load_tokenizer(recipe.tokenizer)
        self.pictures: dict[str, MediaItem] = {}
        self.samples: dict[str, list[Sample]] = {"train": [], "heldout": []}
        self.annotations: list[dict[str, Any]] = []

    def picture(self, seed: int, height: int, width: int, extension: str) -> str:
        """Adds a stored picture; returns its media_id."""
        pixels = np.random.default_rng(seed).integers(0, 255, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).resize((width, height)).save(stream, {"jpg": "JPEG", "png": "PNG"}[extension])
        data = stream.getvalue()
        media_id = sha256_bytes(data)[:32]
        self.pictures[media_id] = MediaItem(media_id=media_id, extension=extension, height=height, width=width, data=data)
        return media_id

    def add_samples(self, split: str, count: int) -> None:
        """Pictures with captions, short videos, and documents, in turn."""
        for number in range(count):
            words = " ".join(WORDS[int(unit_hash(split, number, place) * len(WORDS))] for place in range(9))
            seed = number + (1000 if split == "heldout" else 0)
            messages: tuple[Message, ...]
            if number % 3 == 0:
                shown = Visual(media_id=self.picture(seed, 60, 90, "png"), height=56, width=84)
                parts: tuple[Part, ...] = (Part(kind="image", visuals=(shown,)), text("What is it?"))
                messages = (Message(role="user", parts=parts), Message(role="assistant", parts=(text(words),)))
                sample = Sample(task="image.caption", capabilities=(), messages=messages, licence="CC0-1.0")
            elif number % 3 == 1:
                frames = tuple(
                    Visual(
                        media_id=self.picture(seed * 10 + k, 56, 56, "jpg"),
                        height=28,
                        width=56,
                        time_s=float(k),
                        label_s=float(k),
                    )
                    for k in range(2)
                )
                messages = (
                    Message(role="user", parts=(Part(kind="video", visuals=frames), text("When?"))),
                    Message(role="assistant", parts=(text(words[:20]),)),
                )
                sample = Sample(task="video.caption", capabilities=(), messages=messages, licence="CC0-1.0", duration_s=2.0)
            else:
                messages = (Message(role="document", parts=(text(f"{number}: {words} {split}"),)),)
                sample = Sample(task="text.plain", capabilities=(), messages=messages, licence="CC0-1.0")
            self.samples[split].append(sample)

    def write(self) -> None:
        """Writes every table and the step records."""
        corpus = Corpus(self.folder)
        shard = self.folder / "media" / "shard-00000.tar"
        items = [self.pictures[media_id] for media_id in sorted(self.pictures)]
        places = write_shard(shard, items)
        media = [
            {
                "media_id": item.media_id, "shard": "media/shard-00000.tar", "offset": place.offset, "length": place.length,
                "sha256": place.sha256, "extension": item.extension, "height": item.height, "width": item.width,
                "source_id": "s",
            }
            for item, place in zip(items, places, strict=True)
        ]  # fmt: skip
        rows = [self.row(sample, split) for split in ("train", "heldout") for sample in self.samples[split]]
        written = [shard, corpus.write_identity(self.recipe), *corpus.write_table("media", media, origin="curate")]
        written += corpus.write_table("samples", rows, origin="curate")
        if self.annotations:
            written += corpus.write_table("annotations", self.annotations, origin="curate")
        corpus.commit("curate", "curated", {"inputs": 1}, written, [])
        self.plan(corpus, {row["sample_id"]: row for row in rows})

    def row(self, sample: Sample, split: str) -> dict[str, Any]:
        """The sample's row, its costs counted by the waist."""
        rendered = render(sample.messages, self.tokenizer, self.recipe.visual)
        return {
            "sample_id": sample.sample_id, "origin": "curate", "task": sample.task, "capabilities": [], "modality": "image",
            "split": split, "source_ids": ["s"], "messages": messages_to_rows(sample.messages),
            "text_tokens": rendered.cost.text, "visual_tokens": rendered.cost.visual, "total_tokens": rendered.cost.total,
            "learned_tokens": int((rendered.labels >= 0).sum()), "context_bucket": "32k", "duration_bucket": None,
            "duration_s": sample.duration_s, "quality": [], "duplicate_cluster": "s", "licence": sample.licence,
            "reasoning": None, "fingerprint": "f",
        }  # fmt: skip

    def plan(self, corpus: Corpus, rows: dict[str, dict[str, Any]]) -> None:
        """Packs the samples into every stage, first come first packed."""
        written = []
        for spec in self.recipe.stages:
            sequences: list[dict[str, Any]] = []
            segments: list[dict[str, Any]] = []
            packed = {
                split: self.pack([rows[s.sample_id] for s in self.samples[split]], spec.context) for split in self.samples
            }
            for split, packs in packed.items():
                for position, pack in enumerate(packs):
                    ids = [row["sample_id"] for row in pack]
                    sequence_id = value_id([spec.number, ids])
                    key = {"recipe": self.recipe.name, "stage": spec.number, "split": split, "position": position}
                    totals = {
                        name: sum(row[name] for row in pack) for name in ("total_tokens", "visual_tokens", "learned_tokens")
                    }
                    sequences.append(
                        {
                            **key, "sequence_id": sequence_id, "segments": len(ids), "tokens": totals["total_tokens"],
                            "visual_tokens": totals["visual_tokens"], "learned_tokens": totals["learned_tokens"],
                            "capacity": spec.context, "attention_cost": 0,
                        }
                    )  # fmt: skip
                    start = 0
                    for place, row in enumerate(pack):
                        segments.append(
                            {
                                **key, "segment": place, "sequence_id": sequence_id, "sample_id": row["sample_id"], "epoch": 0,
                                "token_start": start, "token_end": start + row["total_tokens"],
                                "visual_tokens": row["visual_tokens"],
                            }
                        )  # fmt: skip
                        start += row["total_tokens"]
            train = [sequence for sequence in sequences if sequence["split"] == "train"]
            tokens = sum(sequence["tokens"] for sequence in train)
            stage = {
                "recipe": self.recipe.name, "stage": spec.number, "name": spec.name, "context": spec.context,
                "visual_budget": spec.visual_budget, "sequences": len(train), "heldout_sequences": len(sequences) - len(train),
                "segments": 0, "tokens": tokens, "visual_tokens": 0, "learned_tokens": 0,
                "fill": round(tokens / (len(train) * spec.context), 6), "steps": -(-len(train) // spec.sequences_per_step),
                "shortfall": "{}",
                "specification": canonical_json(self.recipe), "fingerprint": f"{self.plan_fingerprint}-{spec.number}",
            }  # fmt: skip
            for name, table in (("sequences", sequences[::-1]), ("segments", segments[::-1]), ("stages", [stage])):
                written += corpus.write_table(name, table, recipe=self.recipe.name, stage=spec.number)
        corpus.commit("plan-pocket", "planned", {}, written, [])

    @staticmethod
    def pack(rows: list[dict[str, Any]], context: int) -> list[list[dict[str, Any]]]:
        """Fills one sequence after the other."""
        packs: list[list[dict[str, Any]]] = [[]]
        for row in rows:
            if sum(other["total_tokens"] for other in packs[-1]) + row["total_tokens"] > context:
                packs.append([])
            packs[-1].append(row)
        return packs


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of ``metrics.jsonl``."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
