"""PDFs through pypdfium2: the text layer as documents of consecutive pages, and each page's picture with its text to read.

A page without a text layer is a scan; there is no truth to learn from it yet. A PDF of scans only is filtered, one with some
is used for its other pages.
"""

from __future__ import annotations

from typing import Any

import pypdfium2 as pdfium
from PIL import Image

from manifests.sample import Message, Origin, Part, Sample, Visual, text
from pipelines.duplicates import Signature, shingle_minhash
from pipelines.extraction import Drop, Extracted, Setting
from pipelines.items import Filtered, Quarantined
from pipelines.pictures import PictureStore, encode_jpeg, stored_size
from pipelines.plain_text import text_samples
from pipelines.sidecars import clean
from pipelines.text_quality import keep

READ_QUESTION = "Read this page: write down its text."
POINTS_MAX = 20_000
DOTS_PER_POINT = 200 / 72  # an ordinary page at 200 dots per inch, where the recipe allows as many


def read_pdf(setting: Setting) -> Extracted:
    """A PDF.

    Raises:
        Quarantined: it is encrypted or broken, or has no page.
        Filtered: no page has a text layer, or its text is not worth learning from.
    """
    recipe, tokenizer = setting.recipe, setting.tokenizer
    document = _open(setting)
    try:
        texts = [_page_text(document, index) for index in range(len(document))]
        pages = [(number, words) for number, words in enumerate(texts, start=1) if words]
        scanned = len(texts) - len(pages)
        if not pages:
            raise Filtered("no_text", f"none of its {len(texts)} pages has a text layer: recognise their text first")
        whole = "\n\n".join(words for _, words in pages)
        scores = {**keep(whole, len(tokenizer.encode(whole)), recipe.curate.text_tokens_min)}
        scores["scanned_share"] = round(scanned / len(texts), 4)
        joined: list[tuple[int | None, str]] = [(number, words + "\n\n") for number, words in pages]
        samples, drops = text_samples(joined, setting, "document.text", "document.long", "reading", scores)
        if scanned:
            detail = f"{scanned} of its {len(texts)} pages have no text layer"
            drops.append(Drop(task="document.page", stage="filter", reason="no_text", detail=detail))
        store = PictureStore()
        for number, words in pages:
            if len(tokenizer.encode(words)) >= recipe.curate.text_tokens_min:
                samples.append(_page_sample(document, number, words, setting, store, scores))
    except pdfium.PdfiumError as error:
        raise Quarantined("extract", "undecodable", str(error).splitlines()[0][:200], "document") from error
    finally:
        document.close()
    payload: dict[str, Any] = {
        "pages": [
            {"page": number, "characters": len(words), "first_line": words.split("\n", 1)[0][:200]}
            for number, words in enumerate(texts, start=1)
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


def _open(setting: Setting) -> pdfium.PdfDocument:
    try:
        document = pdfium.PdfDocument(setting.path.read_bytes())
        count = len(document)
    except pdfium.PdfiumError as error:
        words = str(error).splitlines()[0][:200]
        if "password" in words.lower() or "security" in words.lower():
            raise Quarantined("probe", "encrypted", "it needs a password", "document") from error
        raise Quarantined("probe", "undecodable", words, "document") from error
    if count == 0:
        raise Quarantined("probe", "undecodable", "it has no page", "document")
    return document


def _page_text(document: pdfium.PdfDocument, index: int) -> str:
    page = document[index]
    layer = page.get_textpage()
    try:
        words = layer.get_text_range()
    finally:
        layer.close()
        page.close()
    # PDFium marks a hyphen at a line's end as U+FFFE or U+0002; lines end with CR LF.
    words = words.replace("\r\n", "\n").replace("\r", "\n").replace("\ufffe", "-").replace("\x02", "-")
    return clean("\n".join(line.rstrip() for line in words.split("\n")))


def _page_sample(
    document: pdfium.PdfDocument, number: int, words: str, setting: Setting, store: PictureStore, scores: dict[str, float]
) -> Sample:
    """One page: its picture, and its text as the answer."""
    item, recipe = setting.item, setting.recipe
    page = document[number - 1]
    try:
        points_width, points_height = (min(max(side, 1.0), POINTS_MAX) for side in page.get_size())
        natural = (max(1, round(points_height * DOTS_PER_POINT)), max(1, round(points_width * DOTS_PER_POINT)))
        height, width = stored_size(*natural, recipe.visual, recipe.curate.stored_tokens_max)
        scale = max(height / points_height, width / points_width)
        picture = page.render(scale=scale).to_pil().convert("RGB")
    finally:
        page.close()
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    media_id = store.add(encode_jpeg(picture, recipe.curate.jpeg_quality), "jpg", height, width)
    seen_height, seen_width = recipe.visual.image_size(*natural)
    origin = Origin(source_id=item.source_id, page=number)
    shown = Part(kind="image", visuals=(Visual(media_id=media_id, height=seen_height, width=seen_width),), origin=origin)
    return Sample(
        task="document.page",
        capabilities=("ocr",),
        messages=(
            Message(role="user", parts=(shown, text(READ_QUESTION))),
            Message(role="assistant", parts=(text(words, origin),)),
        ),
        licence=item.licence,
        quality=scores,
    )
