"""Tables: rows of cells as Markdown, and, where there is a picture of one, a sample `document.table` that reads it.

A table of a PDF is shown as the page shows it. A table of a text (HTML, Office) has no picture of its own; it is drawn plainly,
with ruling lines, so that its truth still teaches reading; such a sample has the score ``drawn``. Cells lose line feeds and
surrounding space, nothing else; a pipe is escaped, so that the Markdown reads back to the same cells.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from manifests.fingerprint import unit_hash
from manifests.sample import Message, Origin, Part, Sample, Visual, text
from pipelines.extraction import Setting
from pipelines.pictures import PictureStore, store_picture

QUESTIONS = (
    "Write this table as Markdown.",
    "Read the table in this picture and give it as Markdown.",
    "Transcribe this table to Markdown.",
)
CELLS_MAX = 400
_FONT_PX, _PADDING, _WRAP_PX = 22, 8, 420


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table.

    Attributes:
        rows: cells by row; all rows are equally long.
        page: 1-based, where there are pages.
        box: pixels or points x0, y0, x1, y1 of the page, from its top left corner.
    """

    rows: tuple[tuple[str, ...], ...]
    page: int | None = None
    box: tuple[float, float, float, float] | None = None


def make_table(
    rows: list[list[str | None]], page: int | None = None, box: tuple[float, float, float, float] | None = None
) -> Table | None:
    """A table from cells as found: empty rows and columns go, short rows are filled up. None when less than 2 x 2 is left."""
    width = max((len(row) for row in rows), default=0)
    cells = [[" ".join((cell or "").split()) for cell in row] + [""] * (width - len(row)) for row in rows]
    cells = [row for row in cells if any(row)]
    columns = [index for index in range(width) if any(row[index] for row in cells)]
    if len(cells) < 2 or len(columns) < 2:
        return None
    return Table(rows=tuple(tuple(row[index] for index in columns) for row in cells), page=page, box=box)


def to_markdown(rows: tuple[tuple[str, ...], ...]) -> str:
    """The first row as header, then the others."""
    lines = ["| " + " | ".join(cell.replace("\\", "\\\\").replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def table_sample(table: Table, picture: Image.Image, setting: Setting, store: PictureStore, scores: dict[str, float]) -> Sample:
    """A picture of a table, and its Markdown as the answer."""
    item, recipe = setting.item, setting.recipe
    media_id, _ = store_picture(store, picture, recipe.visual, recipe.curate.stored_tokens_max, jpeg_quality=None)
    height, width = recipe.visual.image_size(picture.height, picture.width)
    origin = Origin(source_id=item.source_id, page=table.page, box=table.box)
    shown = Part(kind="image", visuals=(Visual(media_id=media_id, height=height, width=width),), origin=origin)
    question = QUESTIONS[int(unit_hash("document.table", media_id) * len(QUESTIONS))]
    return Sample(
        task="document.table",
        capabilities=("ocr", "tables"),
        messages=(
            Message(role="user", parts=(shown, text(question))),
            Message(role="assistant", parts=(text(to_markdown(table.rows), origin),)),
        ),
        licence=item.licence,
        quality=scores,
    )


@functools.cache
def _font() -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib carries: Latin, Greek, Cyrillic and many signs."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), _FONT_PX)


@functools.cache
def _drawable() -> frozenset[int]:
    from fontTools.ttLib import TTFont

    return frozenset(TTFont(_font().path).getBestCmap())


def draw(rows: tuple[tuple[str, ...], ...]) -> Image.Image | None:
    """A picture of a table; None when it is too large to be read or has characters that the font lacks."""
    if (
        len(rows) * len(rows[0]) > CELLS_MAX
        or not {ord(character) for row in rows for cell in row for character in cell} <= _drawable()
    ):
        return None
    font = _font()
    wrapped = [[_wrap(cell, font) for cell in row] for row in rows]
    line_height = round(_FONT_PX * 1.3)
    widths = [round(max(font.getlength(line) for row in wrapped for line in row[index])) for index in range(len(rows[0]))]
    heights = [max(len(cell) for cell in row) * line_height for row in wrapped]
    xs = [_PADDING + sum(widths[:index]) + 2 * _PADDING * index for index in range(len(widths) + 1)]
    ys = [_PADDING + sum(heights[:index]) + 2 * _PADDING * index for index in range(len(heights) + 1)]
    picture = Image.new("RGB", (xs[-1] + _PADDING, ys[-1] + _PADDING), "white")
    pen = ImageDraw.Draw(picture)
    for x in xs:
        pen.line([(x, ys[0]), (x, ys[-1])], fill=(90, 90, 90), width=2)
    for y in ys:
        pen.line([(xs[0], y), (xs[-1], y)], fill=(90, 90, 90), width=2)
    for row, y in zip(wrapped, ys, strict=False):
        for cell, x in zip(row, xs, strict=False):
            for number, line in enumerate(cell):
                pen.text((x + _PADDING, y + _PADDING + number * line_height), line, fill="black", font=font)
    return picture


def _wrap(cell: str, font: ImageFont.FreeTypeFont) -> list[str]:
    lines = [""]
    for word in cell.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > _WRAP_PX:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
