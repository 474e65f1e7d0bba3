"""Screenshots with element boxes: describe the screen, locate and recognise controls, follow instructions, answer questions.

Only questions with one right answer are asked: an element is located by role and text when no other has both, recognised by
its box when no other has that box, and an instruction is asked only when it names exactly one control, or when the set that it
comes from gives the box. A screen of which only a set's rows are known is not described: they are not all that is on it.
What describes a screenshot, and in which forms, is `pipelines.screen_sources`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import asdict

from manifests.fingerprint import unit_hash
from manifests.sample import Message, Origin, Part, Sample, Visual, text
from pipelines.duplicates import Signature
from pipelines.extraction import Extracted, Setting
from pipelines.pasted_screens import paste_screen
from pipelines.pictures import PictureStore, open_picture, store_picture
from pipelines.screen_questions import name, screen_questions
from pipelines.screen_sources import Description, read_description
from pipelines.screens import Element, Screen

LOCATED_MAX = 8
RECOGNISED_MAX = 4
_POINTING = re.compile(r"(click|press|tap|select|choose|check|open)\b[^.]*\.?\s*$", re.IGNORECASE)


def read_screenshot(setting: Setting) -> Extracted:
    """A screenshot and what describes it.

    Raises:
        Quarantined: the picture cannot be decoded, or what describes it is broken or does not fit it.
    """
    item, recipe = setting.item, setting.recipe
    picture = open_picture(setting.path)
    described = read_description(item, picture.size)
    screen = described.screen
    store = PictureStore()
    media_id, stored = store_picture(store, picture, recipe.visual, recipe.curate.stored_tokens_max, jpeg_quality=None)
    height, width = recipe.visual.image_size(picture.height, picture.width)
    whole = Origin(source_id=item.source_id, box=(0.0, 0.0, float(screen.width), float(screen.height)))
    shown = Part(kind="image", visuals=(Visual(media_id=media_id, height=height, width=width),), origin=whole)
    payload = {
        "media_id": media_id,
        "stored": list(stored),
        "width": screen.width,
        "height": screen.height,
        "app": described.app,
        "instruction": described.instruction,
        "elements": [element.to_json() for element in screen.elements],
    }
    if described.targets:
        payload["targets"] = [{**asdict(target), "box": list(target.box)} for target in described.targets]
    samples, pasted_media = _samples(described, shown, setting), []
    if recipe.curate.pasted_per_screen and screen.elements:
        more, pasted = paste_screen(picture, screen, store, setting)
        samples += more
        if pasted:
            payload["pasted"] = pasted
            pasted_media = [entry["media_id"] for entry in pasted]
    return Extracted(
        modality="gui",
        samples=samples,
        store=store,
        signature=Signature(kind="exact", size=float(screen.width * screen.height), described=True, pictures=(media_id,)),
        annotation=("gui", payload),
        annotated_media=(media_id, *pasted_media),
        drops=list(described.drops),
    )


def _samples(described: Description, shown: Part, setting: Setting) -> list[Sample]:
    source_id, screen = setting.item.source_id, described.screen

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

    samples: list[Sample] = []
    if screen.elements:
        samples.append(
            ask(
                "gui.describe",
                "page_understanding",
                "List what is on this screen, each with its role, text and box [x0, y0, x1, y1] in thousandths.",
                "\n".join(f"{name(element)} {json.dumps(screen.scaled(element.box))}" for element in screen.elements),
                shown.origin,
            )
        )
    for element in chosen(screen.unique_names(), "gui.locate", LOCATED_MAX):
        question = f"Where is the {name(element)}? Answer with its box [x0, y0, x1, y1] in thousandths."
        samples.append(ask("gui.locate", "element_location", question, _box(screen, element), _origin(source_id, element)))
    boxes = Counter(tuple(screen.scaled(element.box)) for element in screen.elements)
    alone = [element for element in screen.elements if element.text and boxes[tuple(screen.scaled(element.box))] == 1]
    for element in chosen(alone, "gui.recognise", RECOGNISED_MAX):
        question = f"What is at {_box(screen, element)}? Answer with its role and text."
        samples.append(ask("gui.recognise", "control_recognition", question, name(element), _origin(source_id, element)))
    target = named_target(screen, described.instruction)
    if target is not None:
        question = f"{described.instruction} Which box [x0, y0, x1, y1], in thousandths, has to be clicked?"
        samples.append(
            ask("gui.instruction", "instruction_following", question, _box(screen, target), _origin(source_id, target))
        )
    for aim in described.targets:
        there, origin = json.dumps(screen.scaled(aim.box)), Origin(source_id=source_id, box=aim.box)
        question = f"Which box [x0, y0, x1, y1], in thousandths, has to be clicked for this: {aim.instruction}"
        samples.append(ask("gui.instruction", "instruction_following", question, there, origin))
        if sum(other.box == aim.box for other in described.targets) > 1:
            continue  # one control with two purposes has no one answer
        question = f"What is the control at {there} clicked for?"
        samples.append(ask("gui.function", "control_recognition", question, aim.instruction, origin))
    for question, answer in described.questions:
        samples.append(ask("gui.qa", "gui_qa", question, answer, shown.origin))
    for asked in screen_questions(screen, source_id):
        seen = shown.origin if asked.box is None else Origin(source_id=source_id, box=asked.box)
        samples.append(ask("gui.qa", "gui_qa", asked.question, asked.answer, seen))
    return samples


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
