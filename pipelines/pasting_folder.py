"""Counting and grounding pictures from a person's own objects and backgrounds: a folder with a ``pasting.json``.

    FOLDER/pasting.json                {"format": "longreel-pasting/1", "pictures": 200, "seed": 17}
    FOLDER/objects/cup/one.png         transparent around the object; the folder's name is what it is called
    FOLDER/objects/red-ball.png        or, without a folder, the file's name without a number at its end
    FOLDER/backgrounds/table.jpg       nothing that is also an object may be seen on it: what is there is not counted

Further keys, all optional: ``objects`` [fewest, most] of a picture, ``side`` [shortest, longest] of an object as shares of the
background's shorter side, ``visible_min``. One item, because its pictures share objects: they stay on one side of the split.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image, ImageOps

from manifests.fingerprint import unit_hash
from manifests.sample import Origin, Part, Sample, Visual
from pipelines.duplicates import Signature
from pipelines.extraction import Drop, Extracted, Setting
from pipelines.items import Attachment, Quarantined
from pipelines.pasting import Cutout, PastingRule, paste, pasting_samples, pasting_truth, trimmed
from pipelines.pictures import FORMATS, PIXELS_MAX, PictureStore, open_picture, store_picture, stored_size
from pipelines.sidecars import clean, number, parse_object

FORMAT = "longreel-pasting/1"
OBJECTS, BACKGROUNDS = "objects/", "backgrounds/"
PICTURES_MAX = 2_000
CUTOUT_SIDE_MAX = 1_024


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a ``pasting.json`` asks for."""

    pictures: int
    seed: int
    rule: PastingRule


def read_pasting(setting: Setting) -> Extracted:
    """A ``pasting.json`` with its objects and backgrounds. A picture among them that cannot be opened is a dropped row.

    Raises:
        Quarantined: it is no plan, or not one object or background can be opened.
    """
    item, recipe = setting.item, setting.recipe
    plan = read_plan(parse_object(setting.path.read_bytes(), item.source), item.source)
    drops: list[Drop] = []
    cutouts: list[Cutout] = []
    backgrounds: list[Attachment] = []
    for attached in sorted(item.attached, key=lambda each: each.role):
        if attached.role.startswith(BACKGROUNDS):
            backgrounds.append(attached)
        elif attached.role.startswith(OBJECTS):
            try:
                cutouts.append(Cutout(label=label_of(attached.role), picture=open_cutout(attached), source=attached.role))
            except Quarantined as problem:
                drops.append(_drop(attached, problem))
    if not cutouts or not backgrounds:
        missing = "objects/" if not cutouts else "backgrounds/"
        raise Quarantined("check", "bad_pasting", f"{item.source}: no picture under {missing} beside it can be used", "image")
    store = PictureStore()
    samples: list[Sample] = []
    truths: list[dict[str, Any]] = []
    labels = sorted({cutout.label for cutout in cutouts})
    per_background = _shared_out(plan, [attached.role for attached in backgrounds])
    for attached in backgrounds:
        try:
            opened = open_picture(Path(attached.path))
        except Quarantined as problem:
            drops.append(_drop(attached, problem))
            continue
        tokens_max = recipe.curate.stored_tokens_max
        height, width = recipe.visual.image_size(*stored_size(opened.height, opened.width, recipe.visual, tokens_max))
        background = opened.resize((width, height), Image.Resampling.LANCZOS)
        for place in per_background[attached.role]:
            key = ("pasting", plan.seed, place)
            pasting = paste(background, cutouts, plan.rule, *key)
            if not pasting.objects:
                detail = f"picture {place}: no object fits on {attached.role} at {width}x{height} px"
                drops.append(Drop(task="image.count", stage="filter", reason="nothing_pasted", detail=detail))
                continue
            quality = recipe.curate.jpeg_quality
            media_id, _ = store_picture(store, pasting.picture, recipe.visual, tokens_max, jpeg_quality=quality)
            origin = Origin(source_id=item.source_id, box=(0.0, 0.0, float(width), float(height)))
            shown = Part(kind="image", visuals=(Visual(media_id=media_id, height=height, width=width),), origin=origin)
            samples += pasting_samples(pasting, shown, labels, item.licence, *key)
            truths.append({**pasting_truth(pasting, media_id), "background": attached.role})
    if not truths:
        raise Quarantined("check", "bad_pasting", f"{item.source}: no picture could be made of its backgrounds", "image")
    return Extracted(
        modality="image",
        samples=samples,
        store=store,
        # Two folders that share an object or a background to the byte stay on one side of the split.
        signature=Signature(
            kind="exact",
            size=float(len(truths)),
            described=True,
            pictures=tuple(sorted({attached.sha256[:32] for attached in item.attached})),
        ),
        annotation=("pasted", {"labels": labels, "pictures": truths}),
        annotated_media=tuple(sorted({str(truth["media_id"]) for truth in truths})),
        drops=drops,
    )


def _drop(attached: Attachment, problem: Quarantined) -> Drop:
    return Drop(task="image.count", stage="filter", reason=problem.reason, detail=f"{attached.source}: {problem.detail}")


def _shared_out(plan: Plan, names: list[str]) -> dict[str, list[int]]:
    """For each background the numbers of its pictures. A background is opened once, whatever the order of the pictures."""
    shared: dict[str, list[int]] = {name: [] for name in names}
    for place in range(plan.pictures):
        shared[names[int(unit_hash("background", plan.seed, place) * len(names))]].append(place)
    return shared


def read_plan(value: dict[str, Any], name: str) -> Plan:
    """A plan from its JSON.

    Raises:
        Quarantined: a key is missing, malformed or out of range.
    """
    try:
        if value.get("format") != FORMAT:
            raise ValueError(f"format is {value.get('format')!r}, not {FORMAT!r}")
        pictures, seed = value.get("pictures"), value.get("seed", 0)
        if isinstance(pictures, bool) or not isinstance(pictures, int) or not 1 <= pictures <= PICTURES_MAX:
            raise ValueError(f"pictures is {pictures!r}: give 1 to {PICTURES_MAX:,}, and a further folder for more")
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise ValueError(f"seed is {seed!r}, no whole number")
        default = PastingRule()
        fewest, most = _pair(value, "objects", default.objects)
        shortest, longest = _pair(value, "side", default.side)
        visible = number(value.get("visible_min", default.visible_min))
        if visible is None or fewest != int(fewest) or most != int(most):
            raise ValueError("objects must be whole numbers and visible_min a number")
        rule = PastingRule(objects=(int(fewest), int(most)), side=(shortest, longest), visible_min=visible)
    except ValueError as error:
        raise Quarantined("check", "bad_pasting", f"{name}: {error}", "image") from error
    return Plan(pictures=pictures, seed=seed, rule=rule)


def _pair(value: dict[str, Any], key: str, default: tuple[float, float]) -> tuple[float, float]:
    found = value.get(key, list(default))
    values = [number(side) for side in found] if isinstance(found, list) and len(found) == 2 else []
    sides = [side for side in values if side is not None]
    if len(sides) != 2:
        raise ValueError(f"{key} is {found!r}, no list of two numbers")
    return sides[0], sides[1]


def label_of(role: str) -> str:
    """What an object is called, by its place below ``objects/``."""
    path = PurePosixPath(role.removeprefix(OBJECTS))
    words = path.parts[0] if len(path.parts) > 1 else re.sub(r"[-_ ]*\d+$", "", path.stem) or path.stem
    return clean(" ".join(re.split(r"[-_\s]+", words)))


def open_cutout(attached: Attachment) -> Image.Image:
    """An object with its transparency, cut to its opaque pixels, at most `CUTOUT_SIDE_MAX` px long.

    Raises:
        Quarantined: it cannot be decoded, is too large, or has no opaque pixel.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(attached.path, formats=FORMATS) as opened:
                if opened.width * opened.height > PIXELS_MAX:
                    raise Quarantined("probe", "too_large", f"{opened.width}x{opened.height} px are more than {PIXELS_MAX:,}")
                opened.load()
                picture = ImageOps.exif_transpose(opened).convert("RGBA")
    except Quarantined:
        raise
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and others
        words = str(error).replace(attached.path, attached.source).splitlines() or [type(error).__name__]
        raise Quarantined("decode", "undecodable", words[0][:200], "image") from error
    picture.thumbnail((CUTOUT_SIDE_MAX, CUTOUT_SIDE_MAX))
    cut = trimmed(picture)
    if cut is None:
        raise Quarantined("check", "bad_pasting", "it has no opaque pixel")
    return cut
