"""Recognition of text in pictures (OCR), and the order in which a person reads what was found.

RapidOCR runs the PP-OCRv6 models that its wheel carries (Apache-2.0) through onnxruntime: no download, no service. One thread
and one line at a time, so that a line's text depends neither on the machine's cores nor on the lines beside it. The model says
where each line stands; the rest is ours: a page on its side or head is turned, a tilted one made straight, cut into columns
where lines fill them on both sides of a gutter, and read column by column, line by line. Measured on the scans of the example
corpus: 3 to 6 s of one core and 0.7 GiB for a page of 2,000 pixels, mean confidence 0.97 to 0.99.
"""

from __future__ import annotations

import importlib.metadata
import io
import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from manifests.recipe import Recipe
from manifests.shards import MediaItem
from pipelines.model_work import Answer, Request
from pipelines.sidecars import clean

KIND = "ocr"
MODELS = "PP-OCRv6-small"
SIDE_MAX = 2_000
"""Pixels of the longer side of a picture that is recognised: about 170 dots per inch of an ordinary page."""
DETECTION_SIDE_MAX = 1_280
GUTTER = 0.3
"""Of a line's height: the least width of a gutter. Found boxes are a little larger than their text."""
FILLED = 0.6
DOUBTFUL = 0.8
"""Mean confidence under which a page is tried upside down: one on its head reads with about 0.6, a good one with 0.99."""
LONG = 8.0
"""Of a line's height: the width of a line that may be running text, about fifteen letters."""
ALIGNED = 0.6
HEADING_GAP = 0.4
COLUMN_LINES_MIN = 3


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of text. ``box`` is x0, y0, x1, y1 in pixels of the page turned straight; ``score`` is in [0, 1]."""

    box: tuple[float, float, float, float]
    text: str
    score: float

    @property
    def height(self) -> float:
        """Pixels."""
        return self.box[3] - self.box[1]


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """A page's text in reading order, and the mean confidence of its lines, weighted by their characters (0 without text)."""

    text: str
    confidence: float


def request(media_id: str) -> Request:
    """The question for the text of a stored picture."""
    return Request(kind=KIND, model=f"rapidocr-{importlib.metadata.version('rapidocr')}/{MODELS}", media_ids=(media_id,))


class Recogniser:
    """The provider of kind ``ocr``; see `pipelines.model_work.Provider`."""

    batch = 4
    concurrency = 1
    cache: Path | None = None

    def __init__(self) -> None:
        import cv2
        from rapidocr import RapidOCR

        cv2.setNumThreads(1)
        self.engine = RapidOCR(
            params={
                "EngineConfig.onnxruntime.intra_op_num_threads": 1,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
                "Global.log_level": "critical",
                "Global.use_cls": False,
                "Global.max_side_len": SIDE_MAX,
                "Det.limit_type": "max",
                "Det.limit_side_len": DETECTION_SIDE_MAX,
                "Rec.rec_batch_num": 1,
            }
        )

    def answer(self, requests: Sequence[Request], pictures: Sequence[Sequence[MediaItem]]) -> Sequence[Answer]:
        """The lines of each picture: ``{"lines": [[[8 corner coordinates], text, score], ...]}``."""
        answers = []
        for shown in pictures:
            with Image.open(io.BytesIO(shown[0].data)) as picture:
                answers.append(Answer(kind=KIND, value=self.recognise(picture.convert("RGB"))))
        return answers

    def recognise(self, picture: Image.Image) -> dict[str, Any]:
        """The lines of an RGB picture, turned first when the page lies on its side or stands on its head.

        Returns:
            ``lines``, and ``turned``: degrees against the clock by which the picture was turned; boxes are of the turned one.
        """
        lines, turned = self._lines(picture), 0
        if sum(_upright(corners) for corners, _, _ in lines) * 2 > len(lines):
            turned = 90
            lines = self._lines(picture.rotate(turned, expand=True))
        if lines and _confidence(lines) < DOUBTFUL:
            other = self._lines(picture.rotate(turned + 180, expand=True))
            if other and _confidence(other) > _confidence(lines):
                lines, turned = other, turned + 180
        return {"lines": lines, "turned": turned}

    def _lines(self, picture: Image.Image) -> list[list[Any]]:
        from rapidocr.utils.output import RapidOCROutput

        # The models were trained on OpenCV's order of channels.
        found = self.engine(np.ascontiguousarray(np.asarray(picture)[:, :, ::-1]))
        # Without a single line of text the engine returns another class.
        if not isinstance(found, RapidOCROutput) or found.txts is None or found.boxes is None or found.scores is None:
            return []
        return [
            [[round(float(value), 1) for value in np.asarray(box).reshape(-1)], clean(words), round(float(score), 4)]
            for box, words, score in zip(found.boxes, found.txts, found.scores, strict=True)
        ]


def _upright(corners: Sequence[float]) -> bool:
    """Whether a line runs from top to bottom: far taller than wide."""
    return abs(corners[7] - corners[1]) > 1.5 * abs(corners[2] - corners[0])


def _confidence(lines: Sequence[Sequence[Any]]) -> float:
    weight = sum(len(words) for _, words, _ in lines)
    return sum(score * len(words) for _, words, score in lines) / max(weight, 1)


def make_provider(recipe: Recipe) -> Recogniser:
    """The factory that `pipelines.model_work.PROVIDERS` names."""
    return Recogniser()


def read_lines(value: Mapping[str, Any]) -> Recognised:
    """An answer of `Recogniser` as text in reading order."""
    found = [(corners, words, score) for corners, words, score in value["lines"] if words]
    if not found:
        return Recognised(text="", confidence=0.0)
    return Recognised(text="\n\n".join(_blocks(_straight(found))), confidence=round(_confidence(found), 4))


def _straight(found: Sequence[tuple[Sequence[float], str, float]]) -> list[Line]:
    """Lines of the page turned by the median angle of its longer lines."""
    slopes = []
    for corners, _, _ in found:
        across, down = corners[2] - corners[0], corners[3] - corners[1]
        if across > 5 * abs(corners[7] - corners[1]):
            slopes.append(math.atan2(down, across))
    angle = statistics.median(slopes) if slopes else 0.0
    cosine, sine = math.cos(-angle), math.sin(-angle)
    lines = []
    for corners, words, score in found:
        xs = [corners[at] * cosine - corners[at + 1] * sine for at in range(0, 8, 2)]
        ys = [corners[at] * sine + corners[at + 1] * cosine for at in range(0, 8, 2)]
        lines.append(Line(box=(min(xs), min(ys), max(xs), max(ys)), text=words, score=score))
    return sorted(lines, key=lambda line: (line.box[1], line.box[0], line.text))


def _blocks(lines: list[Line]) -> list[str]:
    """Blocks of text in reading order: runs of lines with a common gutter column by column, other lines as they come."""
    bands = _bands(lines)
    blocks: list[str] = []
    plain: list[Line] = []
    start = 0
    while start < len(bands):
        end, columns = _columns_from(bands, start)
        if columns is None:
            plain += bands[start]
            start += 1
            continue
        blocks += _paragraphs(plain)
        plain = []
        for column in columns:
            blocks += _blocks(column)
        start = end
    return blocks + _paragraphs(plain)


def _bands(lines: Sequence[Line]) -> list[list[Line]]:
    """Lines in groups that overlap in height, from top to bottom; a little overlap of tall boxes is none."""
    bands: list[list[Line]] = []
    bottom = -math.inf
    for line in lines:
        slack = 0.3 * line.height
        if not bands or line.box[1] + slack >= bottom:
            bands.append([line])
            bottom = line.box[3]
        else:
            bands[-1].append(line)
            bottom = max(bottom, line.box[3])
    return bands


def _columns_from(bands: Sequence[list[Line]], start: int) -> tuple[int, list[list[Line]] | None]:
    """The longest run of bands from ``start`` that one gutter divides, as its columns and the band after it."""
    best: tuple[int, list[list[Line]] | None] = (start, None)
    if start + 1 < len(bands) and _apart(bands[start], bands[start + 1]):
        return best
    run: list[Line] = []
    for end in range(start, len(bands)):
        run = run + bands[end]
        columns = _columns(run)
        if columns is not None:
            best = (end + 1, columns)
        elif len(_spans(run)) == 1 and len(run) > 1:
            break  # a line crosses every gutter there was; more lines open none
    end, columns = best
    while columns is not None and _apart(bands[end - 1], bands[end - 2]):
        end -= 1
        columns = _columns([line for band in bands[start:end] for line in band])
    return (end, columns) if columns is not None else (start, None)


def _apart(band: Sequence[Line], neighbour: Sequence[Line]) -> bool:
    """Whether a band is one line with space to its neighbour: a heading or a note, which may belong to all columns."""
    gap = max(min(line.box[1] for line in band), min(line.box[1] for line in neighbour)) - min(
        max(line.box[3] for line in band), max(line.box[3] for line in neighbour)
    )
    return len(band) == 1 and gap > HEADING_GAP * band[0].height


def _spans(lines: Sequence[Line]) -> list[tuple[float, float]]:
    """Where lines stand along the page's width: merged intervals from left to right."""
    spans: list[tuple[float, float]] = []
    for left, right in sorted((line.box[0], line.box[2]) for line in lines):
        if spans and left <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], right))
        else:
            spans.append((left, right))
    return spans


def _columns(lines: Sequence[Line]) -> list[list[Line]] | None:
    """Lines by column, when they stand in columns of running text; None for tables, forms and single lines."""
    spans = _spans(lines)
    if len(spans) < 2:
        return None
    gap_min = GUTTER * statistics.median(line.height for line in lines)
    if any(right[0] - left[1] < gap_min for left, right in itertools.pairwise(spans)):
        return None
    columns = [[line for line in lines if left <= line.box[0] <= right] for left, right in spans]
    if min(len(column) for column in columns) < COLUMN_LINES_MIN:
        return None
    # Running text fills its column with long lines, cells of a table do not; but those stand beside each other, line by line.
    fills = [
        statistics.median((line.box[2] - line.box[0]) / (right - left) for line in column)
        for column, (left, right) in zip(columns, spans, strict=True)
    ]
    long = min(statistics.median((line.box[2] - line.box[0]) / line.height for line in column) for column in columns)
    if (min(fills) < FILLED or long < LONG) and max(_aligned(*pair) for pair in itertools.pairwise(columns)) > ALIGNED:
        return None
    return columns


def _aligned(left: Sequence[Line], right: Sequence[Line]) -> float:
    """The share of lines of the column with fewer that stand at the height of a line of the other."""
    fewer, more = sorted((left, right), key=len)
    heights = [line.box[1] + line.box[3] for line in more]
    return sum(min(abs(line.box[1] + line.box[3] - other) for other in heights) < 0.4 * line.height for line in fewer) / len(
        fewer
    )


def _paragraphs(lines: Sequence[Line]) -> list[str]:
    """Lines from top to bottom, pieces of one line from left to right; a wide gap ends a paragraph."""
    if not lines:
        return []
    rows: list[list[Line]] = []
    for line in sorted(lines, key=lambda line: (line.box[1] + line.box[3], line.box[0], line.text)):
        middle = (line.box[1] + line.box[3]) / 2
        if rows and rows[-1][0].box[1] <= middle <= rows[-1][0].box[3]:
            rows[-1].append(line)
        else:
            rows.append([line])
    gap_max = 0.8 * statistics.median(line.height for line in lines)
    paragraphs: list[list[str]] = [[]]
    bottom = -math.inf
    for row in rows:
        top = min(line.box[1] for line in row)
        if paragraphs[-1] and top - bottom > gap_max:
            paragraphs.append([])
        paragraphs[-1].append(" ".join(line.text for line in sorted(row, key=lambda line: (line.box[0], line.text))))
        bottom = max(line.box[3] for line in row)
    return ["\n".join(paragraph) for paragraph in paragraphs]
