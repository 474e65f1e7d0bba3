"""Text files: prose (`text.plain`), Markdown (`document.text`), code (`code.text`), in pieces that fit each context."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
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


@dataclass(frozen=True, kw_only=True)
class Sort:
    """What a text is: modality of the source, tasks of its short and long samples, and their capability."""

    modality: str
    task: str
    long_task: str
    capability: str


def read_text(setting: Setting) -> Extracted:
    """Any UTF-8 text.

    Raises:
        Quarantined: it is not UTF-8, or too large.
        Filtered: it is too short, does not print, or repeats itself.
    """
    item, recipe = setting.item, setting.recipe
    check_size(setting, recipe.curate.documents.text_bytes_max, "text_bytes_max", "text")
    words = decode_text(setting.path.read_bytes())
    path, tokens = PurePath(item.path), len(setting.tokenizer.encode(words))
    sort = sort_of_text(path, words)
    scores = keep(words, tokens, recipe.curate.text_tokens_min)
    samples, drops = text_samples([(None, words)], setting, sort.task, sort.long_task, sort.capability, scores, split_of(path))
    first = next((line.strip() for line in words.splitlines() if line.strip()), "")
    payload: dict[str, Any] = {"pages": [{"page": 1, "characters": len(words), "first_line": first[:200]}]}
    return Extracted(
        modality=sort.modality,
        samples=samples,
        store=PictureStore(),
        signature=Signature(kind="text", minhash=shingle_minhash(words), size=float(len(words))),
        annotation=("document", payload),
        drops=drops,
    )


def sort_of_text(path: PurePath, words: str) -> Sort:
    """Markup, prose or code, by the file's name; a script without an extension by its first line."""
    extension = path.suffix.lower()
    if extension in MARKUP:
        return Sort(modality="document", task="document.text", long_task="document.long", capability="reading")
    if extension in PROSE and not words.startswith("#!"):
        return Sort(modality="text", task="text.plain", long_task="document.long", capability="reading")
    return Sort(modality="text", task="code.text", long_task="code.long", capability="code")


def split_of(path: PurePath) -> Split:
    """Where a text of this name is cut."""
    return blocks_of if path.suffix.lower() in MARKDOWN else paragraphs


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
    *,
    longer: bool = True,
) -> tuple[list[Sample], list[Drop]]:
    """A text as documents for every context bucket, or the smallest; pieces under the shortest allowed length are dropped."""
    item, recipe = setting.item, setting.recipe
    pieces, refused = passages(pages, setting.tokenizer, recipe.buckets, split, longer=longer)
    drops = [Drop(task=task, stage="bucket", reason="over_context", detail=detail) for detail in refused]
    samples = []
    source_id = item.source_id
    for piece in pieces:
        name = task if piece.edge == recipe.buckets.context_32k else long_task
        tokens = len(setting.tokenizer.encode(piece.text))
        if tokens < recipe.curate.text_tokens_min:
            where = f" (page {piece.pages[0][0]})" if piece.pages[0][0] is not None else ""
            detail = f"a piece{where} of {tokens} tokens is shorter than curate.text_tokens_min={recipe.curate.text_tokens_min}"
            drops.append(Drop(task=name, stage="filter", reason="too_short", detail=detail))
            continue
        parts = tuple(text(words, Origin(source_id=source_id, page=page)) for page, words in piece.pages)
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
