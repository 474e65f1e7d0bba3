"""Text files: prose (`text.plain`), Markdown (`document.text`), code (`code.text`), in pieces that fit each context."""

from __future__ import annotations

import codecs
from pathlib import PurePath
from typing import Any

from manifests.sample import Message, Origin, Sample, text
from pipelines.duplicates import Signature, shingle_minhash
from pipelines.extraction import Drop, Extracted, Setting
from pipelines.items import Quarantined
from pipelines.markdown import blocks_of
from pipelines.passages import Split, paragraphs, passages
from pipelines.pictures import PictureStore
from pipelines.text_quality import keep

MARKDOWN = frozenset([".md", ".markdown"])
MARKUP = MARKDOWN | frozenset([".rst", ".adoc", ".org", ".tex"])
PROSE = frozenset(("", ".txt", ".text", ".log"))


def read_text(setting: Setting) -> Extracted:
    """Any UTF-8 text.

    Raises:
        Quarantined: it is not UTF-8, or too large.
        Filtered: it is too short, does not print, or repeats itself.
    """
    item, recipe = setting.item, setting.recipe
    check_size(setting, recipe.curate.documents.text_bytes_max, "text_bytes_max", "text")
    words = decode_text(setting.path.read_bytes())
    extension = PurePath(item.path).suffix.lower()
    tokens = len(setting.tokenizer.encode(words))
    if extension in MARKUP:
        modality, task, long_task, capability = "document", "document.text", "document.long", "reading"
    elif extension in PROSE and not words.startswith("#!"):
        modality, task, long_task, capability = "text", "text.plain", "document.long", "reading"
    else:
        modality, task, long_task, capability = "text", "code.text", "code.long", "code"
    scores = keep(words, tokens, recipe.curate.text_tokens_min)
    split = blocks_of if extension in MARKDOWN else paragraphs
    samples, drops = text_samples([(None, words)], setting, task, long_task, capability, scores, split)
    first = next((line.strip() for line in words.splitlines() if line.strip()), "")
    payload: dict[str, Any] = {"pages": [{"page": 1, "characters": len(words), "first_line": first[:200]}]}
    return Extracted(
        modality=modality,
        samples=samples,
        store=PictureStore(),
        signature=Signature(kind="text", minhash=shingle_minhash(words), size=float(len(words))),
        annotation=("document", payload),
        drops=drops,
    )


def check_size(setting: Setting, limit: int, name: str, modality: str) -> None:
    """Refuses a file that is too large to be read into memory.

    Raises:
        Quarantined: it is larger than ``limit``, the value of ``curate.documents``'s field ``name``.
    """
    if setting.item.bytes > limit:
        detail = f"{setting.item.bytes:,} bytes are more than curate.documents.{name}={limit:,}"
        raise Quarantined("limit", "too_large", detail, modality)


def decode_text(data: bytes) -> str:
    """UTF-8 to text with line feeds; a byte order mark is left out.

    Raises:
        Quarantined: the bytes are not UTF-8.
    """
    try:
        words = data.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        detail = f"byte {error.start} ({data[error.start]:#04x}) is not UTF-8: convert the file"
        raise Quarantined("extract", "bad_encoding", detail, "text") from error
    return words.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")


def text_samples(
    pages: list[tuple[int | None, str]],
    setting: Setting,
    task: str,
    long_task: str,
    capability: str,
    scores: dict[str, float],
    split: Split = paragraphs,
) -> tuple[list[Sample], list[Drop]]:
    """A text as documents for every context bucket; pieces under the shortest allowed length are dropped."""
    item, recipe = setting.item, setting.recipe
    pieces, refused = passages(pages, setting.tokenizer, recipe.buckets, split)
    drops = [Drop(task=task, stage="bucket", reason="over_context", detail=detail) for detail in refused]
    samples = []
    for piece in pieces:
        name = task if piece.edge == recipe.buckets.context_32k else long_task
        tokens = len(setting.tokenizer.encode(piece.text))
        if tokens < recipe.curate.text_tokens_min:
            where = f" (page {piece.pages[0][0]})" if piece.pages[0][0] is not None else ""
            detail = f"a piece{where} of {tokens} tokens is shorter than curate.text_tokens_min={recipe.curate.text_tokens_min}"
            drops.append(Drop(task=name, stage="filter", reason="too_short", detail=detail))
            continue
        parts = tuple(text(words, Origin(source_id=item.source_id, page=page)) for page, words in piece.pages)
        samples.append(
            Sample(
                task=name,
                capabilities=(capability,) if name == task else (capability, "long_context"),
                messages=(Message(role="document", parts=parts),),
                licence=item.licence,
                quality=scores,
            )
        )
    return samples, drops
