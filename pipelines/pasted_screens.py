"""Counting and grounding from screenshots alone: controls cut out by their boxes, pasted on the same screen made unreadable.

A control is cut when its name is its own, no other element shares its area, and it is neither tiny nor most of the screen. The
background is the screenshot blurred until nothing on it can be told apart, so nothing there can be counted by mistake.
`CurateSpec.pasted_per_screen` says how many pictures each screenshot gives; 0, the default, gives none.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from manifests.sample import Origin, Part, Sample, Visual
from pipelines.extraction import Setting
from pipelines.pasting import Cutout, PastingRule, paste, pasting_samples, pasting_truth
from pipelines.pictures import PictureStore, store_picture, stored_size
from pipelines.screen_questions import name, overlapping
from pipelines.screens import Element, Screen

CONTROLS_MAX = 12
SIDE_MIN = 10
PLAIN_DEVIATION = 4.0
AREA_SHARE_MAX = 0.2
BLUR_SHARE = 0.08
RULE = PastingRule(objects=(1, 6), side=(0.2, 0.5))


def paste_screen(
    picture: Image.Image, screen: Screen, store: PictureStore, setting: Setting
) -> tuple[list[Sample], list[dict[str, Any]]]:
    """Samples of what was pasted, and its truth for the annotation; both empty when no control can be cut out."""
    item, recipe = setting.item, setting.recipe
    cutouts = [
        Cutout(label=name(element), picture=cut, source=element.id)
        for element in _alone(screen)[:CONTROLS_MAX]
        if (cut := _cut(picture, element)) is not None
    ]
    if not cutouts:
        return [], []
    blurred = picture.filter(ImageFilter.GaussianBlur(max(2.0, BLUR_SHARE * min(picture.size))))
    height, width = recipe.visual.image_size(
        *stored_size(picture.height, picture.width, recipe.visual, recipe.curate.stored_tokens_max)
    )
    background = blurred.resize((width, height), Image.Resampling.LANCZOS)
    samples: list[Sample] = []
    truths = []
    for number in range(recipe.curate.pasted_per_screen):
        key = ("pasted screen", item.source_id, number)
        pasting = paste(background, cutouts, RULE, *key)
        if not pasting.objects:
            continue
        media_id, _ = store_picture(store, pasting.picture, recipe.visual, recipe.curate.stored_tokens_max, jpeg_quality=None)
        origin = Origin(source_id=item.source_id, box=(0.0, 0.0, float(picture.width), float(picture.height)))
        shown = Part(kind="image", visuals=(Visual(media_id=media_id, height=height, width=width),), origin=origin)
        samples += pasting_samples(pasting, shown, [cutout.label for cutout in cutouts], item.licence, *key)
        truths.append(pasting_truth(pasting, media_id))
    return samples, truths


def _alone(screen: Screen) -> list[Element]:
    """The elements of their own name that share no area with another."""
    whole = screen.width * screen.height
    found = []
    for element in screen.unique_names():
        x0, y0, x1, y1 = element.box
        if min(x1 - x0, y1 - y0) < SIDE_MIN or (x1 - x0) * (y1 - y0) > AREA_SHARE_MAX * whole or len(element.text) > 40:
            continue
        if not any(other is not element and overlapping(element.box, other.box) for other in screen.elements):
            found.append(element)
    return found


def _cut(picture: Image.Image, element: Element) -> Image.Image | None:
    """A control's pixels; None when they are one plain colour."""
    x0, y0, x1, y1 = (round(side) for side in element.box)
    cut = picture.crop((x0, y0, x1, y1))
    if float(np.asarray(cut.convert("L")).std()) < PLAIN_DEVIATION:
        return None
    return cut.convert("RGBA")
