"""Screenshots with element boxes: describe the screen, locate a control, recognise one, follow an instruction.

Only questions with one right answer are asked: an element is located by role and text when no other has both, recognised by
its box when no other has that box, and an instruction is asked only when it names exactly one control.
"""

from __future__ import annotations

import json
import re
from collections import Counter

from manifests.fingerprint import unit_hash
from manifests.sample import Message, Origin, Part, Sample, Visual, text
from pipelines.duplicates import Signature
from pipelines.extraction import Extracted, Setting
from pipelines.items import Quarantined
from pipelines.pictures import PictureStore, open_picture, store_picture
from pipelines.screens import Element, Screen, read_screen
from pipelines.sidecars import read_sidecar, text_field

LOCATED_MAX = 8
RECOGNISED_MAX = 4
_POINTING = re.compile(r"(click|press|tap|select|choose|check|open)\b[^.]*\.?\s*$", re.IGNORECASE)


def read_screenshot(setting: Setting) -> Extracted:
    """A screenshot and its ``.gui.json``.

    Raises:
        Quarantined: the picture cannot be decoded, or the sidecar does not fit it.
    """
    item, recipe = setting.item, setting.recipe
    sidecar = item.attachment(".gui.json")
    assert sidecar is not None
    picture = open_picture(setting.path)
    value = read_sidecar(sidecar)
    if value.get("format") != "longreel-gui/1":
        detail = f"{sidecar.source} has format {value.get('format')!r}, not 'longreel-gui/1'"
        raise Quarantined("check", "bad_sidecar", detail, "gui")
    screen = read_screen(value, picture.size, sidecar.source, "gui")
    store = PictureStore()
    media_id, stored = store_picture(store, picture, recipe.visual, recipe.curate.stored_tokens_max, jpeg_quality=None)
    height, width = recipe.visual.image_size(picture.height, picture.width)
    whole = Origin(source_id=item.source_id, box=(0.0, 0.0, float(screen.width), float(screen.height)))
    shown = Part(kind="image", visuals=(Visual(media_id=media_id, height=height, width=width),), origin=whole)
    instruction = text_field(value, "instruction", sidecar)
    return Extracted(
        modality="gui",
        samples=_samples(screen, shown, instruction, setting),
        store=store,
        signature=Signature(kind="exact", size=float(screen.width * screen.height), described=True, pictures=(media_id,)),
        annotation=(
            "gui",
            {
                "media_id": media_id,
                "stored": list(stored),
                "width": screen.width,
                "height": screen.height,
                "app": text_field(value, "app", sidecar),
                "instruction": instruction,
                "elements": [element.to_json() for element in screen.elements],
            },
        ),
        annotated_media=(media_id,),
    )


def _samples(screen: Screen, shown: Part, instruction: str, setting: Setting) -> list[Sample]:
    source_id = setting.item.source_id

    def ask(task: str, capability: str, question: str, answer: str, origin: Origin | None) -> Sample:
        return Sample(
            task=task,
            capabilities=(capability,),
            messages=(
                Message(role="user", parts=(shown, text(question))),
                Message(role="assistant", parts=(text(answer, origin),)),
            ),
            licence=setting.item.licence,
        )

    def chosen(elements: list[Element], task: str, most: int) -> list[Element]:
        return sorted(elements, key=lambda element: unit_hash(task, source_id, element.id))[:most]

    samples = []
    if screen.elements:
        samples.append(
            ask(
                "gui.describe",
                "page_understanding",
                "List what is on this screen, each with its role, text and box [x0, y0, x1, y1] in thousandths.",
                "\n".join(f"{_name(element)} {json.dumps(screen.scaled(element.box))}" for element in screen.elements),
                shown.origin,
            )
        )
    for element in chosen(screen.unique_names(), "gui.locate", LOCATED_MAX):
        question = f"Where is the {_name(element)}? Answer with its box [x0, y0, x1, y1] in thousandths."
        samples.append(ask("gui.locate", "element_location", question, _box(screen, element), _origin(source_id, element)))
    boxes = Counter(tuple(screen.scaled(element.box)) for element in screen.elements)
    alone = [element for element in screen.elements if element.text and boxes[tuple(screen.scaled(element.box))] == 1]
    for element in chosen(alone, "gui.recognise", RECOGNISED_MAX):
        question = f"What is at {_box(screen, element)}? Answer with its role and text."
        samples.append(ask("gui.recognise", "control_recognition", question, _name(element), _origin(source_id, element)))
    target = named_target(screen, instruction)
    if target is not None:
        question = f"{instruction} Which box [x0, y0, x1, y1], in thousandths, has to be clicked?"
        samples.append(
            ask("gui.instruction", "instruction_following", question, _box(screen, target), _origin(source_id, target))
        )
    return samples


def _name(element: Element) -> str:
    return f"{element.role} {json.dumps(element.text, ensure_ascii=False)}"


def _box(screen: Screen, element: Element) -> str:
    return json.dumps(screen.scaled(element.box))


def _origin(source_id: str, element: Element) -> Origin:
    return Origin(source_id=source_id, box=element.box)


def named_target(screen: Screen, instruction: str) -> Element | None:
    """The one control that a one-sentence instruction to click names; None when it names none, several or asks for more."""
    if not _POINTING.fullmatch(instruction) or re.search(r"\b(and|then|all|every)\b", instruction, re.IGNORECASE):
        return None
    controls = [
        element for element in screen.elements if element.role not in ("text", "heading", "label") and len(element.text) > 1
    ]
    named = [
        element for element in controls if re.search(rf"(?<!\w){re.escape(element.text)}(?!\w)", instruction, re.IGNORECASE)
    ]
    return named[0] if len(named) == 1 else None
