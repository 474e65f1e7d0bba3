"""A document of pages, as pictures and texts: what its reader leaves while scans are recognised, and the samples of it all.

A page has a text of its own, or is a scan: its picture is put to the recogniser (`pipelines.ocr`), and what that reads with
enough confidence is the page's text, with the confidence as a score.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from manifests.sample import Message, Origin, Part, Sample, Visual, messages_from_rows, text
from pipelines.duplicates import Signature, shingle_minhash
from pipelines.extraction import Drop, Extracted, Setting
from pipelines.items import Filtered
from pipelines.model_work import Answer, Request
from pipelines.ocr import Recognised, read_lines, request
from pipelines.pictures import PictureStore, encode_jpeg
from pipelines.plain_text import text_samples
from pipelines.text_quality import keep

READ_QUESTION = "Read this page: write down its text."
_SCAN_QUALITY = 92
_BLANK_DEVIATION = 2.0


@dataclass(kw_only=True)
class Seen:
    """What the pages gave, as JSON values, because it may wait for the recogniser.

    Attributes:
        texts: the text layer of each page.
        pictures: by page number as text: media_id, then height and width as the model sees it.
        damaged: the same of damaged pictures.
        asked: by page number as text: the id of the request for its text.
        stamps: by page number as text: the few words of the text layer of a scan, which stay if it cannot be read.
        tables: samples of tables: messages as rows, then scores.
        problems: page number and why no table could be read there.
    """

    texts: list[str]
    pictures: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    damaged: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    asked: dict[str, str] = field(default_factory=dict)
    stamps: dict[str, str] = field(default_factory=dict)
    tables: list[tuple[list[dict[str, Any]], dict[str, float]]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def ask_for_text(scan: Image.Image, store: PictureStore) -> Request | None:
    """Stores a page's picture for the recogniser and returns the question; None for an empty page, with nothing to read."""
    if float(np.asarray(scan.convert("L")).std()) < _BLANK_DEVIATION:
        return None
    return request(store.add(encode_jpeg(scan, _SCAN_QUALITY), "jpg", scan.height, scan.width))


def keep_pages(texts: list[str], setting: Setting) -> dict[str, float]:
    """The scores of a document's text.

    Raises:
        Filtered: it is not worth learning from.
    """
    whole = "\n\n".join(words for words in texts if words)
    return keep(whole, len(setting.tokenizer.encode(whole)), setting.recipe.curate.text_tokens_min)


def page_samples(seen: Seen, setting: Setting, store: PictureStore, answers: Mapping[str, Answer]) -> Extracted:
    """What is learned from the pages, once every one that can be read has been."""
    item, recipe, texts = setting.item, setting.recipe, list(seen.texts)
    read, drops = _recognised(seen, setting, answers)
    for name, words in seen.stamps.items():
        texts[int(name) - 1] = words
    for number, page in read.items():
        texts[number - 1] = page.text
    pages = [(number, words) for number, words in enumerate(texts, start=1) if words]
    if not pages:
        low = next((drop for drop in drops if drop.reason == "low_confidence"), None)
        why = "nothing was recognised in them" if recipe.curate.documents.recognise else "recognition is switched off"
        reason, detail = ("no_text", why) if low is None else ("low_confidence", low.detail)
        raise Filtered(reason, f"none of its {len(texts)} pages has a text layer, and {detail}")
    scores = keep_pages(texts, setting)
    scores["scanned_share"] = round(sum(not words for words in seen.texts) / len(texts), 4)
    if read:
        scores["ocr_confidence"] = min(page.confidence for page in read.values())
    joined: list[tuple[int | None, str]] = [(number, words + "\n\n") for number, words in pages]
    samples, refused = text_samples(joined, setting, "document.text", "document.long", "reading", scores)
    for number, words in pages:
        of_page = {name: score for name, score in scores.items() if name != "ocr_confidence"}
        if number in read:
            of_page["ocr_confidence"] = read[number].confidence
        if len(setting.tokenizer.encode(words)) >= recipe.curate.text_tokens_min:
            for shown, extra in ((seen.pictures, {}), (seen.damaged, {"augmented": 1.0})):
                if str(number) in shown:
                    samples.append(_page_sample(shown[str(number)], number, words, setting, {**of_page, **extra}))
    samples += [
        Sample(
            task="document.table",
            capabilities=("ocr", "tables"),
            messages=messages_from_rows(rows),
            licence=item.licence,
            quality={**scores, **extra},
        )
        for rows, extra in seen.tables
    ]
    payload: dict[str, Any] = {
        # What a model recognised is no certain truth: the annotation keeps to the text layer.
        "pages": [
            {"page": number, "characters": len(words), "first_line": words.split("\n", 1)[0][:200]}
            for number, words in enumerate(seen.texts, start=1)
        ]
    }
    whole = "\n\n".join(words for _, words in pages)
    return Extracted(
        modality="document",
        samples=samples,
        store=store,
        signature=Signature(kind="text", minhash=shingle_minhash(whole), size=float(len(whole))),
        annotation=("document", payload),
        drops=[*drops, *refused],
    )


def _recognised(seen: Seen, setting: Setting, answers: Mapping[str, Answer]) -> tuple[dict[int, Recognised], list[Drop]]:
    """The pages without a text layer that were read well enough, and why the others were not."""
    least = setting.recipe.curate.documents.confidence_min
    read: dict[int, Recognised] = {}
    drops: list[Drop] = []
    for number, words in enumerate(seen.texts, start=1):
        if words:
            continue
        reason, detail = "no_text", "has no text layer and shows nothing"
        if str(number) in seen.asked:
            answer = answers[seen.asked[str(number)]]
            page = Recognised(text="", confidence=0.0) if answer.error is not None else read_lines(answer.value)
            if page.text and page.confidence >= least:
                read[number] = page
                continue
            if answer.error is not None:
                reason, detail = "ocr_failed", f"was not recognised: {answer.error}"
            elif page.text:
                reason, detail = "low_confidence", f"was recognised with a confidence of {page.confidence:.2f}, under {least:g}"
            else:
                detail = "has no text layer, and nothing was recognised"
        elif not setting.recipe.curate.documents.recognise:
            detail = "has no text layer"
        drops.append(Drop(task="document.page", stage="filter", reason=reason, detail=f"page {number} {detail}"))
    drops += [Drop(task="document.table", stage="extract", reason="error", detail=detail) for detail in seen.problems]
    return read, drops


def _page_sample(shown: tuple[str, int, int], number: int, words: str, setting: Setting, scores: dict[str, float]) -> Sample:
    """One page: its picture, and its text as the answer."""
    media_id, height, width = shown
    origin = Origin(source_id=setting.item.source_id, page=number)
    picture = Part(kind="image", visuals=(Visual(media_id=media_id, height=height, width=width),), origin=origin)
    return Sample(
        task="document.page",
        capabilities=("ocr",),
        messages=(
            Message(role="user", parts=(picture, text(READ_QUESTION))),
            Message(role="assistant", parts=(text(words, origin),)),
        ),
        licence=setting.item.licence,
        quality=scores,
    )
