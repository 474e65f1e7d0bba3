"""Pictures with captions: one `image.caption` sample each. A picture that nobody has described is filtered.

A caption is ``NAME.caption.json``, or the ``caption`` of a ``NAME.json`` as img2dataset writes them beside its pictures.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from manifests.fingerprint import unit_hash
from manifests.looks import look
from manifests.sample import Message, Origin, Part, Sample, Visual, text
from pipelines.captioner import picture_caption, picture_request, told_by_model
from pipelines.duplicates import Signature
from pipelines.extraction import Extracted, Setting
from pipelines.items import Attachment, Filtered, Quarantined
from pipelines.model_work import Waiting
from pipelines.pictures import open_picture, sharpness, store_picture
from pipelines.quality import bars, bars_share
from pipelines.sidecars import read_sidecar, text_field

QUESTIONS = (
    "Describe this picture.",
    "What does this picture show?",
    "Write a caption for this picture.",
    "Tell me what can be seen here.",
)


def read_image(setting: Setting) -> Extracted | Waiting:
    """A picture and its caption.

    Raises:
        Quarantined: the picture cannot be decoded, or its sidecar is not a caption.
        Filtered: it has no caption.
    """
    item, recipe = setting.item, setting.recipe
    picture = open_picture(setting.path)
    sidecar = item.attachment(".caption.json") or item.attachment(".json")
    if sidecar is not None and sidecar.role == ".json" and not told_caption(sidecar):
        if recipe.curate.captions is None:
            raise Filtered("no_caption", f"{sidecar.source} has no caption and is no description of a screen")
        sidecar = None
    caption = known = text_field(read_sidecar(sidecar), "caption", sidecar) if sidecar is not None else ""
    if sidecar is not None and not caption:
        raise Quarantined("check", "bad_sidecar", f"{sidecar.source}: the caption is empty", "image")
    if sidecar is None and recipe.curate.captions is None:
        raise Filtered("no_caption", "no .caption.json stands beside the picture")
    store = setting.store
    media_id, _ = store_picture(
        store, picture, recipe.visual, recipe.curate.stored_tokens_max, jpeg_quality=recipe.curate.jpeg_quality
    )
    if sidecar is None and recipe.curate.captions is not None:
        asked = picture_request(recipe.curate.captions, media_id)
        if asked.request_id not in setting.answers:
            return Waiting(requests=[asked], state=None, store=store)
        caption = picture_caption(setting, asked)
    height, width = recipe.visual.image_size(picture.height, picture.width)
    whole = Origin(source_id=item.source_id, box=(0.0, 0.0, float(picture.width), float(picture.height)))
    question = QUESTIONS[int(unit_hash("image.caption", item.source_id) * len(QUESTIONS))]
    shown = Part(kind="image", visuals=(Visual(media_id=media_id, height=height, width=width),), origin=whole)
    small = picture.convert("L").resize((256, 256), Image.Resampling.BILINEAR)
    sample = Sample(
        task="image.caption",
        capabilities=("captioning",),
        messages=(
            Message(role="user", parts=(shown, text(question))),
            Message(role="assistant", parts=(text(caption, whole),)),
        ),
        licence=item.licence,
        quality={"sharpness": sharpness(np.asarray(small)), "letterbox_share": bars_share(bars(np.asarray(small)))},
    )
    return Extracted(
        modality="image",
        samples=[sample] if known else told_by_model([sample]),
        store=store,
        signature=Signature.of_picture(
            look(picture),
            size=float(picture.width * picture.height),
            described=bool(known),
            pictures=(media_id,),
        ),
        annotation=("image", {"media_id": media_id, "width": picture.width, "height": picture.height, "caption": known}),
        annotated_media=(media_id,),
    )


def told_caption(sidecar: Attachment) -> bool:
    """Whether a ``NAME.json`` has a caption; one that is broken or holds something else says nothing about the picture."""
    try:
        caption = read_sidecar(sidecar).get("caption")
    except Quarantined:
        return False
    return isinstance(caption, str) and bool(caption.strip())
