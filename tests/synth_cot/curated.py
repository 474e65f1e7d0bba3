"""A small curated corpus, written through the waist: annotations, media and document samples as curation leaves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from curriculum.recipes import laptop
from manifests.corpus import Corpus
from manifests.fingerprint import value_id
from manifests.recipe import Recipe
from manifests.rendering import render
from manifests.sample import Message, Origin, Sample, messages_to_rows, text
from manifests.synth_spec import MadeSpec
from manifests.tokenizer import load_tokenizer

Rows = list[dict[str, Any]]


def element(number: int, role: str, words: str, box: list[float]) -> dict[str, Any]:
    """One control of a screen."""
    return {"id": f"e{number}", "role": role, "text": words, "box": box}


LOGIN = {
    "media_id": value_id("login"),
    "stored": [420, 320],
    "width": 320,
    "height": 420,
    "app": "test/login",
    "instruction": "Log in.",
    "elements": [
        element(1, "text", "Sign in to continue", [10, 10, 200, 40]),
        element(2, "textbox", "Name", [10, 60, 150, 90]),
        element(3, "textbox", "Password", [10, 110, 150, 140]),
        element(4, "checkbox", "Remember me", [10, 160, 24, 174]),
        element(5, "button", "Log in", [10, 200, 110, 240]),
        element(6, "button", "Cancel", [130, 200, 180, 230]),
        element(7, "button", "Help", [250, 380, 310, 410]),
        element(8, "link", "Forgot?", [200, 112, 260, 138]),
    ],
}
"""A screenshot with three buttons, two text fields, one checkbox."""

TRACE = {
    "goal": "Send it.",
    "app": "test/trace",
    "steps": [
        {
            "media_id": value_id(f"step-{step}"),
            "width": 320,
            "height": 420,
            "elements": [
                element(1, "button", "Send", [20, 20 + 100 * step, 120, 60 + 100 * step]),
                element(2, "button", "Send", [180, 20, 300, 60])
                if step == 1
                else element(2, "tab", "Inbox", [180, 20, 300, 60]),
                element(3, "tab", "Drafts", [180, 120, 300, 160]),
            ],
            "action": {"type": "click", "element": "e1"},
        }
        for step in range(2)
    ],
}
"""Two steps; in the second, two buttons share a name."""

SCENES = [
    {"start": 0.0, "end": 3.0, "text": "A red bus stops at the corner while people wait."},
    {"start": 3.0, "end": 4.25, "text": "Two pigeons fly up from the wet pavement."},
    {"start": 4.25, "end": 9.5, "text": "A child in a yellow coat crosses the square slowly."},
    {"start": 9.5, "end": 12.0, "text": "The lamp above the bakery door goes out."},
]
VIDEO = {
    "duration_s": 12.0,
    "width": 320,
    "height": 240,
    "fps_grid": 1.0,
    "frames": [[point, value_id(f"frame-{point}")] for point in range(12)],
    "shots": [[0.0, 3.0], [3.0, 4.25], [4.25, 9.5], [9.5, 12.0]],
    "scenes": SCENES,
    "overview": "A morning on the square.",
    "audio": False,
}
"""Twelve seconds in four scenes."""

LINES = [
    "Opening remarks of the chair",
    "The harbour in winter",
    "A list of the boats",
    "What the keeper wrote",
    "Closing words",
]
PAGE_TEXTS = [f"{line}\nThis page goes on about number {number} for a while." for number, line in enumerate(LINES, start=1)]
DOCUMENT = {"pages": [{"page": n, "characters": len(t), "first_line": LINES[n - 1]} for n, t in enumerate(PAGE_TEXTS, start=1)]}
"""Five pages, each with its own first line."""

ANNOTATIONS = [
    ("login.gui", "gui", LOGIN),
    ("trace", "trace", TRACE),
    ("square.mp4", "video", VIDEO),
    ("harbour.pdf", "document", DOCUMENT),
]


def small_recipe(problems: int = 3) -> Recipe:
    """The laptop recipe with few problems of each generator, as few drawn sources of each kind, and no share of text."""
    import dataclasses

    drawn = min(problems, 2)
    made = MadeSpec(pictures=drawn, pairs=drawn, films=drawn, tables=drawn)
    return dataclasses.replace(
        laptop(), synth=dataclasses.replace(laptop().synth, stem_problems=problems, made=made, text_share=None)
    )


def annotation(name: str, kind: str, payload: dict[str, Any], split: str = "train") -> dict[str, Any]:
    """A row of ``annotations``."""
    return {
        "source_id": value_id(name),
        "source": name,
        "kind": kind,
        "split": split,
        "licence": "CC0-1.0",
        "duplicate_cluster": value_id(name),
        "payload": json.dumps(payload, sort_keys=True),
    }


def media_ids(annotations: list[tuple[str, str, dict[str, Any]]]) -> list[str]:
    """Every picture that payloads mention."""
    found: set[str] = set()
    for _, kind, payload in annotations:
        if kind == "gui":
            found.add(payload["media_id"])
        elif kind == "trace":
            found |= {step["media_id"] for step in payload["steps"]}
        elif kind == "video":
            found |= {media_id for _, media_id in payload["frames"]}
    return sorted(found)


def build(
    folder: Path,
    recipe: Recipe,
    annotations: list[tuple[str, str, dict[str, Any]]] = ANNOTATIONS,
    heldout: tuple[str, ...] = (),
) -> Corpus:
    """Writes a corpus as a finished ``curate`` step leaves it; sources named in ``heldout`` are on that side."""
    corpus = Corpus(folder)
    corpus.begin("curate")
    written = [corpus.write_identity(recipe)]
    rows = [annotation(name, kind, payload, "heldout" if name in heldout else "train") for name, kind, payload in annotations]
    media: Rows = [
        {
            "media_id": media_id, "shard": "media/shard-00000.tar", "offset": 512, "length": 1, "sha256": media_id * 2,
            "extension": "png", "height": 420, "width": 320, "source_id": value_id("login.gui"),
        }
        for media_id in media_ids(annotations)
    ]  # fmt: skip
    samples: Rows = [_document_sample(name, recipe) for name, kind, _ in annotations if kind == "document"]
    written += corpus.write_table("annotations", sorted(rows, key=lambda row: row["source_id"]), origin="curate")
    written += corpus.write_table("media", media, origin="curate")
    written += corpus.write_table("samples", samples, origin="curate", context_bucket="32k", duration_bucket=None)
    written += corpus.write_table("sources", [_source(row) for row in rows], origin="curate")
    lineage: Rows = [
        {
            "sample_id": row["sample_id"], "message": 0, "part": 0, "frame": None, "token_start": 0,
            "token_end": row["total_tokens"], "source_id": row["source_ids"][0], "start_s": None, "end_s": None, "page": 1,
            "box": None, "media_id": None,
        }
        for row in samples
    ]  # fmt: skip
    written += corpus.write_table("lineage", lineage, origin="curate")
    for table in ("dropped", "quarantine"):
        written += corpus.write_table(table, [], origin="curate")
    corpus.commit("curate", "fingerprint", {"inputs": len(rows)}, written, [])
    return corpus


def _document_sample(name: str, recipe: Recipe) -> dict[str, Any]:
    parts = tuple(text(words, Origin(source_id=value_id(name), page=page)) for page, words in enumerate(PAGE_TEXTS, start=1))
    sample = Sample(task="document.text", capabilities=(), messages=(Message(role="document", parts=parts),), licence="CC0-1.0")
    tokens = render(sample.messages, load_tokenizer(recipe.tokenizer), recipe.visual)
    return {
        "sample_id": sample.sample_id, "origin": "curate", "task": sample.task, "capabilities": [], "modality": "document",
        "split": "train", "source_ids": list(sample.source_ids),
        "messages": messages_to_rows(sample.messages),
        "text_tokens": tokens.cost.text, "visual_tokens": 0, "total_tokens": tokens.cost.total,
        "learned_tokens": tokens.cost.total, "context_bucket": "32k", "duration_bucket": None,
        "duration_s": None, "quality": [],
        "duplicate_cluster": value_id(name), "licence": "CC0-1.0", "reasoning": None, "fingerprint": "test",
    }  # fmt: skip


def _source(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "source_id": row["source_id"], "source": row["source"], "modality": row["kind"], "bytes": 1, "sha256": None,
        "attached": [],
        "licence": row["licence"], "origin": None, "status": "used", "samples": 1,
        "duplicate_cluster": row["duplicate_cluster"], "split": row["split"],
    }  # fmt: skip
