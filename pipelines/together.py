"""Several unrelated documents in one sample, with a question for one of them: `document.multi` across sources.

Once the verdict is known, short documents (a source whose text is one whole sample) are put together: of one side of the split
and one licence, in an order that is a hash of their identity, each at most once for every context bucket, whole, until the
bucket is full. Two hashes that lie beside each other have nothing to do with each other, and so have their documents. The
question is for a line that stands in exactly one of them; its answer is that document's number, so it can be checked. Every
part keeps its origin: lineage names each source, its pages and the source of the answer.

Such a sample belongs to no single source. It is no sample of the `samples` that a source counts, has the duplicate cluster of
its first document, and is not made when `curate.documents.together` is off.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.fingerprint import unit_hash, value_id
from manifests.recipe import Recipe
from manifests.sample import Message, Origin, Sample, messages_from_rows, text
from pipelines.duplicates import Signature
from pipelines.extraction import Extracted, Outcome, outcome_of
from pipelines.finished import finished_path, read_finished, write_outcome
from pipelines.items import Item
from pipelines.passages import Passage
from pipelines.pictures import PictureStore
from pipelines.source_tree import QUESTION_TOKENS, unique_line

TASKS = ("document.text", "text.plain")
HEAD_TOKENS = 16
"""Kept free for the line above each document."""
QUESTIONS = (
    "In which of these documents does the line “{line}” stand?",
    "One of these documents holds the line “{line}”. Which one?",
    "Find the document with the line “{line}”. What is its number?",
)


@dataclass(frozen=True, kw_only=True)
class _Document:
    key: str
    sample_id: str
    source: str
    source_id: str
    tokens: int
    cluster: str
    split: str


def put_together(ledger: sqlite3.Connection, work: Path, recipe: Recipe) -> None:
    """Makes the samples of a corpus on which everything else is decided, and enters them in the ledger.

    Args:
        work: where the finished items lie; each new sample becomes a finished item there.
    """
    for split, licence in ledger.execute(
        "SELECT DISTINCT split, licence FROM items WHERE status = 'used' ORDER BY 1, 2"
    ).fetchall():
        for group, edge in _groups(_documents(ledger, split, licence), recipe):
            outcome = _made(group, edge, licence, work, recipe)
            if outcome is not None:
                (row,) = outcome.samples
                key = value_id({"together": row["sample_id"], "fingerprint": row["fingerprint"]})
                write_outcome(finished_path(work, key), outcome)
                values = (key, row["sample_id"], row["task"], row["context_bucket"], len(outcome.lineage), split)
                ledger.execute("INSERT INTO together VALUES (?, ?, ?, ?, ?, ?, ?)", (*values, group[0].cluster))


def _documents(ledger: sqlite3.Connection, split: str, licence: str) -> list[_Document]:
    marks = ", ".join("?" * len(TASKS))
    found = ledger.execute(
        f"""
        SELECT key, min(sample_id), source, source_id, min(s.tokens), cluster, split
        FROM items JOIN samples s USING (item)
        WHERE status = 'used' AND split = ? AND licence = ? AND task IN ({marks}, 'document.long')
        GROUP BY item HAVING count(*) = 1 AND sum(lost) = 0 AND min(task) != 'document.long'
        """,
        (split, licence, *TASKS),
    )
    return [
        _Document(key=key, sample_id=sample_id, source=source, source_id=source_id, tokens=tokens, cluster=cluster, split=side)
        for key, sample_id, source, source_id, tokens, cluster, side in found
    ]


def _groups(documents: list[_Document], recipe: Recipe) -> Iterator[tuple[list[_Document], int]]:
    """Documents that stand together, and the bucket's edge for which they do; none that a smaller bucket holds."""
    buckets = recipe.buckets
    smaller = 0
    for edge in (buckets.context_32k, buckets.context_64k, buckets.context_256k):
        group: list[_Document] = []
        tokens = QUESTION_TOKENS
        for document in sorted(documents, key=lambda one: (unit_hash("together", edge, one.source_id), one.source)):
            cost = document.tokens + HEAD_TOKENS
            if tokens + cost > edge:
                if len(group) > 1 and tokens > smaller:
                    yield group, edge
                group, tokens = [], QUESTION_TOKENS
            if tokens + cost <= edge:
                group.append(document)
                tokens += cost
        if len(group) > 1 and tokens > smaller:
            yield group, edge
        smaller = edge


def _made(group: list[_Document], edge: int, licence: str, work: Path, recipe: Recipe) -> Outcome | None:
    """The sample of a group; None when no line stands in only one of its documents, or it costs more than was foreseen."""
    parts, pages = [], []
    worst: dict[str, float] = {}
    for number, document in enumerate(group, start=1):
        row = next(row for row in read_finished(finished_path(work, document.key)).samples if _is(row, document))
        head = f"==> Document {number} <==\n"
        (message,) = messages_from_rows(row["messages"])
        words = "".join(part.text or "" for part in message.parts)
        parts += [text(head, Origin(source_id=document.source_id)), *message.parts]
        parts.append(text("\n" if words.endswith("\n") else "\n\n"))
        pages.append((number, head + words + "\n"))
        for name, score in row["quality"]:
            better = min if name in ("compressed_share", "ocr_confidence") else max
            worst[name] = better(worst.get(name, score), score)
    whole = value_id([document.source_id for document in group])
    chosen = unique_line(Passage(edge=edge, pages=tuple(pages)), whole)
    if chosen is None:
        return None
    number, line = chosen
    asked = QUESTIONS[int(unit_hash("which document", line) * len(QUESTIONS))].format(line=line)
    sample = Sample(
        task="document.multi",
        capabilities=("retrieval", "multi_document", "long_context"),
        messages=(
            Message(role="user", parts=(*parts, text(f"{asked} Answer with its number."))),
            Message(role="assistant", parts=(text(f"Document {number}", Origin(source_id=group[number - 1].source_id)),)),
        ),
        licence=licence,
        quality={name: score for name, score in worst.items() if not name.startswith("language.")},
    )
    extracted = Extracted(modality="document", samples=[sample], store=PictureStore(), signature=Signature(kind="exact"))
    outcome = outcome_of(extracted, Item(source="", path="", bytes=0, sha256=None), recipe)
    return outcome if outcome.samples else None


def _is(row: dict[str, Any], document: _Document) -> bool:
    return bool(row["sample_id"] == document.sample_id)
