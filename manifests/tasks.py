"""The tasks a sample can have: dotted names, what they ask, and which mixtures may name them.

A mixture's prefix is checked against these when a recipe is made, so that a misspelt task fails before any work. Under
``reason`` and ``stem`` the names are the question kinds' and problem generators' own, and any are taken.
"""

from __future__ import annotations

import difflib

TASKS: dict[str, str] = {
    "image.caption": "describe a picture",
    "image.count": "count the objects of one kind",
    "image.grounding": "give the box of an object",
    "image.interleaved": "pictures and the text between them",
    "video.caption": "describe a clip",
    "video.dense": "list scenes with start, end and description, and an overview",
    "video.grounding": "give the interval of a described action",
    "video.highlights": "give the intervals worth watching",
    "video.interleaved": "a video as segments of 15 s, each with its caption",
    "video.matching": "find the same event in another video or segment",
    "video.shots": "give the times of the cuts",
    "video.subtitled": "a video with its subtitles in turn",
    "video.subtitled_caption": "describe a clip that has subtitles",
    "video.summary": "give the intervals that tell the whole",
    "document.interleaved": "a document with its pictures in place",
    "document.long": "a whole document",
    "document.multi": "several documents",
    "document.page": "read the picture of a page",
    "document.table": "read a table",
    "document.text": "a piece of a document",
    "code.long": "a software project in import order",
    "code.text": "one source file",
    "text.plain": "a piece of plain text",
    "text.qa": "a question and its answer",
    "gui.action": "which action leads from one screen to the next",
    "gui.describe": "describe a screen",
    "gui.instruction": "which instruction does a recorded task follow",
    "gui.locate": "give the box of an element",
    "gui.next_action": "the next action of a task",
    "gui.operation": "what an action did",
    "gui.qa": "a question about a screen",
    "gui.recognise": "which element is at a place",
}
OPEN_FAMILIES = {"reason": "questions with known truth, verified", "stem": "generated problems, verified"}
FAMILIES = sorted({name.split(".")[0] for name in TASKS} | set(OPEN_FAMILIES))


def unknown_task(prefix: str) -> str | None:
    """Why a mixture cannot name this prefix; None when it can."""
    family, *rest = prefix.split(".")
    if prefix == "*" or (family in OPEN_FAMILIES) or (not rest and family in FAMILIES):
        return None
    if family not in FAMILIES:
        near = difflib.get_close_matches(family, FAMILIES, n=1, cutoff=0.6)
        return f"unknown task {prefix!r}; " + (f"did you mean {near[0]!r}?" if near else f"there are {', '.join(FAMILIES)}")
    if ".".join([family, rest[0]]) in TASKS:
        return None
    near = difflib.get_close_matches(prefix, TASKS, n=1, cutoff=0.6)
    of_family = ", ".join(name for name in TASKS if name.startswith(family + "."))
    return f"unknown task {prefix!r}; " + (f"did you mean {near[0]!r}?" if near else f"there are {of_family}")
