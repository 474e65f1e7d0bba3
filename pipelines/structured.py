"""What HTML, Office files and e-books have in common once they are read: pages of Markdown, and tables; here made samples.

The text feeds the contexts like any other document (`document.text`, `document.long`), with its tables in place as Markdown;
each table that can be drawn is also a picture to read (`document.table`), by the recipe's share also a damaged one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pipelines.augmentation import damaged
from pipelines.duplicates import Signature, shingle_minhash
from pipelines.extraction import Extracted, Setting
from pipelines.items import Filtered
from pipelines.markdown import blocks_of
from pipelines.pictures import PictureStore
from pipelines.plain_text import text_samples
from pipelines.sidecars import clean
from pipelines.tables import Table, draw, table_sample
from pipelines.text_quality import keep


@dataclass(kw_only=True)
class Structured:
    """A document as text.

    Attributes:
        pages: (number, Markdown) of each slide, sheet or chapter; number None for a document without such parts.
        tables: every table, also in the text.
    """

    pages: list[tuple[int | None, str]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


def read_structured(document: Structured, setting: Setting) -> Extracted:
    """Samples, signature and annotation of a document.

    Raises:
        Filtered: it has no text, or its text is not worth learning from.
    """
    recipe = setting.recipe
    texts = [(number, clean(words)) for number, words in document.pages]
    pages = [(number, words) for number, words in texts if words]
    if not pages:
        raise Filtered("no_text", "it holds no text")
    whole = "\n\n".join(words for _, words in pages)
    scores = keep(whole, len(setting.tokenizer.encode(whole)), recipe.curate.text_tokens_min)
    joined: list[tuple[int | None, str]] = [(number, words + "\n\n") for number, words in pages[:-1]]
    joined.append((pages[-1][0], pages[-1][1] + "\n"))
    samples, drops = text_samples(joined, setting, "document.text", "document.long", "reading", scores, split=blocks_of)
    store = PictureStore()
    for index, table in enumerate(document.tables[: recipe.curate.documents.tables_max]):
        picture = draw(table.rows)
        if picture is not None:
            samples.append(table_sample(table, picture, setting, store, {**scores, "drawn": 1.0}))
            worse = damaged(picture, recipe.curate.documents, setting.item.source_id, f"table-{index}")
            if worse is not None:
                samples.append(table_sample(table, worse, setting, store, {**scores, "drawn": 1.0, "augmented": 1.0}))
    payload: dict[str, Any] = {
        "pages": [
            {"page": number or 1, "characters": len(words), "first_line": words.split("\n", 1)[0][:200]}
            for number, words in texts
        ]
    }
    return Extracted(
        modality="document",
        samples=samples,
        store=store,
        signature=Signature(kind="text", minhash=shingle_minhash(whole), size=float(len(whole))),
        annotation=("document", payload),
        drops=drops,
    )
