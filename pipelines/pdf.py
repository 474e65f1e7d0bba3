"""PDFs: the text layer as documents of consecutive pages, each page's picture with its text to read, and its tables.

Text and pictures come through pypdfium2. A page without a text layer, or with a few words over a picture of the whole page, is
a scan: its picture is put to the recogniser (`pipelines.ocr`), and what that reads with enough confidence is the page's text,
with the confidence as a score. Ruled tables of pages with a text layer come through pdfplumber (`pipelines.pdf_tables`). All is
drawn on the first call; what the reader leaves while it waits (`Seen`) is all it needs, so that no page is drawn twice.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c
from PIL import Image

from manifests.recipe import Recipe
from manifests.sample import messages_to_rows
from pipelines.augmentation import damaged
from pipelines.extraction import Extracted, Setting
from pipelines.items import Quarantined
from pipelines.model_work import Request, Waiting
from pipelines.ocr import SIDE_MAX
from pipelines.pages import Seen, ask_for_text, keep_pages, page_samples
from pipelines.pdf_tables import pages_with_grids, read_tables
from pipelines.pictures import PIXELS_MAX, PictureStore, encode_jpeg, stored_size
from pipelines.plain_text import check_size
from pipelines.sidecars import clean
from pipelines.tables import table_sample

POINTS_MAX = 20_000
PAGES_MAX = 20_000
DOTS_PER_POINT = 200 / 72  # an ordinary page at 200 dots per inch, where the recipe allows as many
SCAN_SHARE = 0.6
PICTURES_MAX = 50


def read_pdf(setting: Setting) -> Extracted | Waiting:
    """A PDF.

    Raises:
        Quarantined: it is encrypted or broken, has no page or absurdly many, or is too large.
        Filtered: none of its pages has text, or it is not worth learning from.
    """
    if setting.turn:
        return page_samples(Seen(**setting.state), setting, setting.store, setting.answers)
    check_size(setting, setting.recipe.curate.documents.bytes_max, "bytes_max", "document")
    store = PictureStore()
    with setting.path.open("rb") as stream:
        document = _open(stream)
        try:
            seen, requests = _look(document, setting, store)
        except pdfium.PdfiumError as error:
            raise Quarantined("extract", "undecodable", str(error).splitlines()[0][:200], "document") from error
        finally:
            document.close()
    if requests:
        return Waiting(requests=requests, state=dataclasses.asdict(seen), store=store)
    return page_samples(seen, setting, store, {})


def _open(stream: Any) -> pdfium.PdfDocument:
    try:
        document = pdfium.PdfDocument(stream)
        count = len(document)
    except pdfium.PdfiumError as error:
        words = str(error).splitlines()[0][:200]
        if "password" in words.lower() or "security" in words.lower():
            raise Quarantined("probe", "encrypted", "it needs a password", "document") from error
        raise Quarantined("probe", "undecodable", words, "document") from error
    if count == 0:
        raise Quarantined("probe", "undecodable", "it has no page", "document")
    if count > PAGES_MAX:
        raise Quarantined("limit", "too_large", f"{count:,} pages are more than {PAGES_MAX:,}", "document")
    return document


def _look(document: pdfium.PdfDocument, setting: Setting, store: PictureStore) -> tuple[Seen, list[Request]]:
    """Text layers, pictures and tables of all pages, and the questions about those without a text layer."""
    recipe, encode = setting.recipe, setting.tokenizer.encode
    seen = Seen(texts=[_page_text(document, index) for index in range(len(document))])
    for number, words in enumerate(seen.texts, start=1):
        short = bool(words) and len(encode(words)) < recipe.curate.text_tokens_min
        if short and recipe.curate.documents.recognise and _scanned(document, number):
            seen.stamps[str(number)], seen.texts[number - 1] = words, ""
    if all(seen.texts):
        keep_pages(seen.texts, setting)  # refused before anything is drawn
    requests: dict[str, Request] = {}
    for number, words in enumerate(seen.texts, start=1):
        if words:
            if len(encode(words)) >= recipe.curate.text_tokens_min:
                _show(document, number, setting, store, seen)
        elif recipe.curate.documents.recognise:
            scan = _render(document, number, recipe, side_max=SIDE_MAX)
            asked = ask_for_text(scan, store)
            if asked is None:
                continue
            requests[asked.request_id] = asked
            seen.asked[str(number)] = asked.request_id
            _show(document, number, setting, store, seen)
    _look_for_tables(document, setting, store, seen)
    return seen, list(requests.values())


def _scanned(document: pdfium.PdfDocument, number: int) -> bool:
    """Whether one picture covers most of a page."""
    page = document[number - 1]
    try:
        width, height = page.get_size()
        for picture in itertools.islice(page.get_objects(filter=[pdfium_c.FPDF_PAGEOBJ_IMAGE], max_depth=3), PICTURES_MAX):
            left, bottom, right, top = picture.get_bounds()
            if (right - left) * (top - bottom) > SCAN_SHARE * width * height:
                return True
    finally:
        page.close()
    return False


def _show(document: pdfium.PdfDocument, number: int, setting: Setting, store: PictureStore, seen: Seen) -> None:
    """Stores a page's picture and, where the recipe wants it, a damaged one of a page whose text is certain."""
    recipe = setting.recipe
    picture = _render(document, number, recipe)
    size = recipe.visual.image_size(*_natural(document, number))
    quality = recipe.curate.jpeg_quality
    media_id = store.add(encode_jpeg(picture, quality), "jpg", picture.height, picture.width)
    seen.pictures[str(number)] = (media_id, *size)
    if seen.texts[number - 1]:
        worse = damaged(picture, recipe.curate.documents, setting.item.source_id, number)
        if worse is not None:
            media_id = store.add(encode_jpeg(worse, quality), "jpg", worse.height, worse.width)
            seen.damaged[str(number)] = (media_id, *size)


def _natural(document: pdfium.PdfDocument, number: int) -> tuple[int, int]:
    """Height and width of a page in pixels at `DOTS_PER_POINT`."""
    width, height = (min(max(side, 1.0), POINTS_MAX) for side in document.get_page_size(number - 1))
    return max(1, round(height * DOTS_PER_POINT)), max(1, round(width * DOTS_PER_POINT))


def _render(document: pdfium.PdfDocument, number: int, recipe: Recipe, side_max: int | None = None) -> Image.Image:
    """A page as a picture of the size at which it is stored, or with a longer side of at most ``side_max`` pixels.

    Raises:
        Quarantined: the page is so much larger than `POINTS_MAX` that no picture of it fits into memory.
    """
    natural = _natural(document, number)
    if side_max is None:
        height, width = stored_size(*natural, recipe.visual, recipe.curate.stored_tokens_max)
    else:
        shrink = min(1.0, side_max / max(natural))
        height, width = (max(1, round(side * shrink)) for side in natural)
    page = document[number - 1]
    try:
        whole_width, whole_height = page.get_size()
        points_width, points_height = (min(max(side, 1.0), POINTS_MAX) for side in (whole_width, whole_height))
        scale = max(height / points_height, width / points_width)
        if whole_width * whole_height * scale**2 > PIXELS_MAX:
            detail = f"page {number} is {whole_width:,.0f} x {whole_height:,.0f} points large, more than {POINTS_MAX:,}"
            raise Quarantined("limit", "too_large", detail, "document")
        picture = page.render(scale=scale).to_pil().convert("RGB")
    finally:
        page.close()
    return picture if picture.size == (width, height) else picture.resize((width, height), Image.Resampling.LANCZOS)


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


def _look_for_tables(document: pdfium.PdfDocument, setting: Setting, store: PictureStore, seen: Seen) -> None:
    limit = setting.recipe.curate.documents.tables_max
    numbers = pages_with_grids(document, [number for number, words in enumerate(seen.texts, start=1) if words]) if limit else []
    tables, seen.problems = read_tables(document, setting.path, numbers)
    for index, table in enumerate(tables[:limit]):
        assert table.page is not None
        assert table.box is not None
        page = _render(document, table.page, setting.recipe, side_max=2 * SIDE_MAX)
        scale = page.width / document.get_page_size(table.page - 1)[0]
        margin = 4.0
        left, top, right, bottom = (value * scale for value in table.box)
        region = page.crop((
            max(0, int(left - margin * scale)),
            max(0, int(top - margin * scale)),
            min(page.width, int(right + margin * scale)),
            min(page.height, int(bottom + margin * scale)),
        ))  # fmt: skip
        pictures = [
            (region, {}),
            (damaged(region, setting.recipe.curate.documents, setting.item.source_id, f"table-{index}"), {"augmented": 1.0}),
        ]
        for picture, scores in pictures:
            if picture is not None:
                sample = table_sample(table, picture, setting, store, scores)
                seen.tables.append((messages_to_rows(sample.messages), scores))
