"""Which samples are good enough by their scores: sharp, not black, not frozen, not mostly bars. Keep, or a reason.

A score is measured once, where the pixels are, and stored with the sample; a threshold of the recipe judges it here. So a
corpus can be queried for what a stricter threshold would drop.

- ``sharpness``: variance of the Laplacian (`pipelines.pictures.sharpness`). Rounding to whole grey levels alone gives 1 to 2;
  the default of 3 drops what is nothing but blur (of 1 to 2 % of the picture's side) and keeps a microscope's soft pictures.
- ``black_share``, ``frozen_share``: shares of a film's time. A screencast hardly moves, so the default allows standing still.
- ``letterbox_share``: share of the picture that is dark bars at its edges; of a film, in the frames that are not black.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manifests.curate_spec import QualitySpec
from manifests.sample import Sample

BAR_LUMA = 24.0
BAR_DEVIATION = 3.0
BAR_SHARE_MIN = 0.02


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a filter does not keep a sample.

    Attributes:
        stage: which filter: quality, language, text, clip, hook or benchmark.
        reason: short name, stable across versions.
        detail: the score and the limit, or what was found.
    """

    stage: str
    reason: str
    detail: str


def bars(grey: NDArray[np.uint8]) -> tuple[float, float, float, float]:
    """Dark bars of a picture as shares of its sides: top, bottom, left, right.

    A line is a bar when it is dark and even (`BAR_LUMA`, `BAR_DEVIATION`); bars end at the first line that is not. A picture
    that is dark throughout has none: that is black, not a letterbox.
    """
    values = grey.astype(np.float32)
    height, width = values.shape
    top, bottom = _dark_ends(values)
    if top == height:
        return 0.0, 0.0, 0.0, 0.0
    # Between the bars above and below, which would else be a part of every column.
    left, right = _dark_ends(values[top : height - bottom].T)
    return top / height, bottom / height, left / width, right / width


def _dark_ends(values: NDArray[np.float32]) -> tuple[int, int]:
    """Dark even rows at the beginning and at the end; all of them at the beginning when there are no others."""
    bright = np.flatnonzero((values.mean(axis=1) >= BAR_LUMA) | (values.std(axis=1) >= BAR_DEVIATION))
    return (int(bright[0]), len(values) - 1 - int(bright[-1])) if len(bright) else (len(values), 0)


def bars_share(sides: Sequence[float]) -> float:
    """Share of a picture's area that its bars cover; bars thinner than `BAR_SHARE_MIN` are an edge of the encoder."""
    top, bottom, left, right = (side if side >= BAR_SHARE_MIN else 0.0 for side in sides)
    return round(1 - (1 - top - bottom) * (1 - left - right), 4)


def judge_scores(sample: Sample, spec: QualitySpec) -> Refusal | None:
    """A sample by its scores; a score that it does not have drops nothing."""
    for name, reason, limit, least in (
        ("black_share", "black", spec.black_share_max, False),
        ("frozen_share", "frozen", spec.frozen_share_max, False),
        ("letterbox_share", "letterbox", spec.letterbox_share_max, False),
        ("sharpness", "blurred", spec.sharpness_min, True),
    ):
        score = sample.quality.get(name)
        if score is not None and (score < limit if least else score > limit):
            setting = f"curate.quality.{name}_{'min' if least else 'max'}={limit:g}"
            detail = f"{name} {score:.4g} is {'less' if least else 'more'} than {setting}"
            return Refusal(stage="quality", reason=reason, detail=detail)
    return None
