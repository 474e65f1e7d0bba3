"""Pictures whose truth is known because they were put together: objects pasted on a background, with exact boxes and counts.

An object is a cutout with its own transparency. It lies whole inside the picture and is drawn over what is there; a place is
refused when an object below would keep less than ``visible_min`` of its pixels. A box holds exactly the pixels that are seen
of its object, so what is asked is true of the picture and not only of the plan. Every choice is `unit_hash` of a key: the
same cutouts, backgrounds and key give the same pixels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from manifests.fingerprint import unit_hash
from manifests.sample import Message, Part, Sample, text
from pipelines.screens import GRID

OPAQUE = 128
SIDE_PIXELS_MIN = 14
ENLARGED_MAX = 2.0
PLACES_TRIED = 40
LABELS_MAX = 3
ABSENT_SHARE = 0.25


@dataclass(frozen=True, kw_only=True)
class PastingRule:
    """How full a picture gets.

    Attributes:
        objects: fewest and most objects of a picture.
        side: shortest and longest length of an object's longer side, as shares of the background's shorter side.
        visible_min: share of its opaque pixels that every object keeps.
    """

    objects: tuple[int, int] = (1, 8)
    side: tuple[float, float] = (0.12, 0.35)
    visible_min: float = 0.7

    def __post_init__(self) -> None:
        if not 1 <= self.objects[0] <= self.objects[1] <= 100:
            raise ValueError(f"objects {list(self.objects)} must rise from at least 1 to at most 100")
        if not 0 < self.side[0] <= self.side[1] <= 1:
            raise ValueError(f"side {list(self.side)} must rise from above 0 to at most 1")
        if not 0 < self.visible_min <= 1:
            raise ValueError(f"visible_min {self.visible_min} must be in (0, 1]")


@dataclass(frozen=True, kw_only=True)
class Cutout:
    """An object: an RGBA picture whose opaque pixels reach its four sides, what it is called, and where it came from."""

    label: str
    picture: Image.Image
    source: str


@dataclass(frozen=True, kw_only=True)
class Pasted:
    """An object in a picture: ``box`` x0, y0, x1, y1 of its visible pixels, x1 and y1 exclusive; ``visible`` their share."""

    label: str
    source: str
    box: tuple[int, int, int, int]
    visible: float


@dataclass(frozen=True, kw_only=True)
class Pasting:
    """A picture and every object in it, in the order in which they were pasted."""

    picture: Image.Image
    objects: tuple[Pasted, ...]


def trimmed(picture: Image.Image) -> Image.Image | None:
    """An RGBA picture cut to its opaque pixels; None when there are none."""
    alpha = np.asarray(picture.getchannel("A")) >= OPAQUE
    rows, columns = np.flatnonzero(alpha.any(axis=1)), np.flatnonzero(alpha.any(axis=0))
    if not rows.size:
        return None
    return picture.crop((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))


def paste(background: Image.Image, cutouts: Sequence[Cutout], rule: PastingRule, *key: object) -> Pasting:
    """One picture.

    Args:
        background: RGB; it is left as it is.
        cutouts: in an order of their own, which matters.
        key: what every choice depends on.
    """
    labels = sorted({cutout.label for cutout in cutouts}, key=lambda label: unit_hash("label", *key, label))
    labels = labels[: 1 + int(unit_hash("labels", *key) * min(LABELS_MAX, len(labels)))]
    fewest, most = rule.objects
    wanted = fewest + int(unit_hash("objects", *key) * (most - fewest + 1))
    canvas = background.convert("RGB")
    owner: NDArray[np.int16] = np.full((canvas.height, canvas.width), -1, dtype=np.int16)
    placed: list[tuple[Cutout, int]] = []
    for number in range(wanted):
        label = labels[int(unit_hash("which", *key, number) * len(labels))]
        alike = [cutout for cutout in cutouts if cutout.label == label]
        cutout = alike[int(unit_hash("cutout", *key, number) * len(alike))]
        sized = _sized(cutout.picture, canvas.size, rule, unit_hash("side", *key, number))
        if sized is None:
            continue
        mask = np.asarray(sized.getchannel("A")) >= OPAQUE
        place = _free_place(owner, mask, [count for _, count in placed], rule.visible_min, (*key, number))
        if place is None:
            continue
        x, y = place
        canvas.paste(sized, (x, y), sized)
        owner[y : y + mask.shape[0], x : x + mask.shape[1]][mask] = len(placed)
        placed.append((cutout, int(mask.sum())))
    objects = []
    for number, (cutout, pixels) in enumerate(placed):
        seen = owner == number
        rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
        box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        visible = round(int(seen.sum()) / pixels, 4)
        objects.append(Pasted(label=cutout.label, source=cutout.source, box=box, visible=visible))
    return Pasting(picture=canvas, objects=tuple(objects))


def _sized(picture: Image.Image, canvas: tuple[int, int], rule: PastingRule, chance: float) -> Image.Image | None:
    """A cutout at the size it is pasted in; None when it would be too small to see or not fit."""
    side = min(canvas) * (rule.side[0] + chance * (rule.side[1] - rule.side[0]))
    scale = min(max(side, SIDE_PIXELS_MIN) / max(picture.size), ENLARGED_MAX)
    width, height = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    if max(width, height) < SIDE_PIXELS_MIN or min(width, height) < 3 or width > canvas[0] or height > canvas[1]:
        return None
    # Scaling thins edges: what is no longer opaque at the rim must not count as part of the object.
    return trimmed(picture.resize((width, height), Image.Resampling.LANCZOS))


def _free_place(
    owner: NDArray[np.int16], mask: NDArray[np.bool_], pixels: Sequence[int], visible_min: float, key: tuple[object, ...]
) -> tuple[int, int] | None:
    """Left upper corner at which every object below keeps enough of its pixels; None when none of `PLACES_TRIED` does."""
    height, width = mask.shape
    seen = np.bincount(owner[owner >= 0], minlength=len(pixels)) if pixels else np.zeros(0, dtype=np.int64)
    for attempt in range(PLACES_TRIED):
        x = int(unit_hash("x", *key, attempt) * (owner.shape[1] - width + 1))
        y = int(unit_hash("y", *key, attempt) * (owner.shape[0] - height + 1))
        below = owner[y : y + height, x : x + width][mask]
        covered = np.bincount(below[below >= 0], minlength=len(pixels))
        if all(
            left - hidden >= visible_min * whole for left, hidden, whole in zip(seen, covered, pixels, strict=True) if hidden
        ):
            return x, y
    return None


def pasting_samples(pasting: Pasting, shown: Part, labels: Sequence[str], licence: str, *key: object) -> list[Sample]:
    """What is asked of a picture: for each label in it how many there are and where, now and then for one that is not in it.

    Args:
        shown: the picture as a part, with its origin.
        labels: all that might have been pasted.
    """
    present = sorted({each.label for each in pasting.objects})
    absent = sorted(set(labels) - set(present), key=lambda label: unit_hash("absent", *key, label))
    asked = present + (absent[:1] if unit_hash("ask absent", *key) < ABSENT_SHARE else [])
    samples = []
    width, height = pasting.picture.size
    for label in asked:
        boxes = sorted((each.box for each in pasting.objects if each.label == label), key=lambda box: (box[1], box[0], box))
        scaled = [
            [round(GRID * side / length) for side, length in zip(box, (width, height, width, height), strict=True)]
            for box in boxes
        ]
        questions = (
            (
                "image.count",
                "counting",
                f"How many of these are in the picture: {label}? Answer with a number.",
                str(len(boxes)),
            ),
            (
                "image.grounding",
                "grounding",
                f"Where in the picture is every {label}? Answer with a list of boxes [x0, y0, x1, y1] in thousandths, "
                "[] when there is none.",
                json.dumps(scaled),
            ),
        )
        for task, capability, question, answer in questions:
            messages = (
                Message(role="user", parts=(shown, text(question))),
                Message(role="assistant", parts=(text(answer, shown.origin),)),
            )
            samples.append(Sample(task=task, capabilities=(capability,), messages=messages, licence=licence))
    return samples


def pasting_truth(pasting: Pasting, media_id: str) -> dict[str, object]:
    """A picture's objects as the annotation holds them; boxes in pixels of ``width`` x ``height``."""
    return {
        "media_id": media_id,
        "width": pasting.picture.width,
        "height": pasting.picture.height,
        "objects": [
            {"label": each.label, "box": list(each.box), "visible": each.visible, "source": each.source}
            for each in pasting.objects
        ],
    }
