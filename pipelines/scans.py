"""Scans that come as pictures: a TIFF of several pages, or a page a file (`pipelines.scan_series`). Read like a scanned PDF.

Every page is put to the recogniser (`pipelines.ocr`) at the size at which a PDF's page is; there is no text layer, so nothing
here is certain truth. A page whose picture cannot be decoded is dropped with its reason and costs no other page. A TIFF of
several pages with a caption beside it stays a picture: its first page.
"""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from pipelines.extraction import Drop, Extracted, Setting
from pipelines.items import Filtered, Item, Quarantined
from pipelines.model_work import Request, Waiting
from pipelines.ocr import SIDE_MAX
from pipelines.pages import Seen, ask_for_text, page_samples
from pipelines.pictures import encode_jpeg, open_picture, stored_size
from pipelines.plain_text import check_size
from pipelines.scan_series import ROLE

PAGES_MAX = 20_000


def is_scans(item: Item) -> bool:
    """Whether a picture is a document of scans."""
    if item.attached:
        return any(file.role.startswith(ROLE) for file in item.attached)
    return item.path.lower().endswith((".tif", ".tiff")) and pages_of(Path(item.path)) > 1


def pages_of(path: Path) -> int:
    """How many pages a TIFF has; 1 when it cannot be told, so that its reader as a picture says what is wrong."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=("TIFF",)) as opened:
                return int(getattr(opened, "n_frames", 1))
    except Exception:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and others
        return 1


def read_scans(setting: Setting) -> Extracted | Waiting:
    """Pages as pictures.

    Raises:
        Quarantined: none of its pages can be decoded, or there are absurdly many, or it is too large.
        Filtered: nothing is recognised on its pages, or it is not worth learning from.
    """
    if setting.turn:
        state = dict(setting.state)
        broken = [Drop(**drop) for drop in state.pop("broken")]
        extracted = page_samples(Seen(**state), setting, setting.store, setting.answers)
        # Here "no text layer" says nothing: a page that could not be decoded has its own reason.
        told = {_page_of(drop.detail) for drop in broken}
        others = [drop for drop in extracted.drops if _page_of(drop.detail) not in told]
        return dataclasses.replace(extracted, drops=[*broken, *others])
    if not setting.recipe.curate.documents.recognise:
        raise Filtered("no_text", "it is scans, and recognition is switched off")
    check_size(setting, setting.recipe.curate.documents.bytes_max, "bytes_max", "document")
    seen, requests, broken = _look(setting)
    if not requests:
        if broken:
            raise Quarantined("decode", "undecodable", broken[0].detail, "document")
        raise Filtered("no_text", f"all of its {len(seen.texts)} pages are empty")
    state = {**dataclasses.asdict(seen), "broken": [dataclasses.asdict(drop) for drop in broken]}
    return Waiting(requests=list(requests.values()), state=state, store=setting.store)


def _page_of(detail: str) -> str:
    found = re.match(r"page (\d+) ", detail)
    return found[1] if found else detail


def _look(setting: Setting) -> tuple[Seen, dict[str, Request], list[Drop]]:
    """Stores every page, and asks for its text."""
    recipe, store = setting.recipe, setting.store
    seen, requests, broken = Seen(texts=[]), {}, []
    for number, page in enumerate(_pages(setting.item), start=1):
        if number > PAGES_MAX:
            raise Quarantined("limit", "too_large", f"it has more than {PAGES_MAX:,} pages", "document")
        seen.texts.append("")
        if isinstance(page, Quarantined):
            detail = f"page {number} cannot be decoded: {page.detail}"
            broken.append(Drop(task="document.page", stage=page.stage, reason=page.reason, detail=detail))
            continue
        scan = page.copy()
        scan.thumbnail((SIDE_MAX, SIDE_MAX), Image.Resampling.LANCZOS)
        asked = ask_for_text(scan, store)
        if asked is None:
            continue
        requests[asked.request_id] = asked
        seen.asked[str(number)] = asked.request_id
        height, width = stored_size(page.height, page.width, recipe.visual, recipe.curate.stored_tokens_max)
        shown = page if page.size == (width, height) else page.resize((width, height), Image.Resampling.LANCZOS)
        media_id = store.add(encode_jpeg(shown, recipe.curate.jpeg_quality), "jpg", height, width)
        seen.pictures[str(number)] = (media_id, *recipe.visual.image_size(page.height, page.width))
    return seen, requests, broken


def _pages(item: Item) -> Iterator[Image.Image | Quarantined]:
    """The pages in order, each as a picture or as why it is none."""
    paths = [item.path, *(file.path for file in item.attached if file.role.startswith(ROLE))]
    for path in map(Path, paths):
        count = 1 if len(paths) > 1 else pages_of(path)
        for frame in range(count):
            try:
                yield open_picture(path, frame=frame)
            except Quarantined as problem:
                yield problem
