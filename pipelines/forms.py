"""Which of the known JSON forms a file has: told by its first bytes, because it decides what is an item.

- ``screens``: one list of rows with ``img_filename``, ``bbox`` and ``instruction``, as ScreenSpot has them;
  `pipelines.screen_sets`.
- ``interleaved``: texts and pictures in turn, as OBELICS (``texts``, ``images``) or MMC4 (``text_list``, ``image_info``) have
  them, one document in a ``.json``, one a line in a ``.jsonl``; `pipelines.interleaved`.
- ``questions``: a ``.jsonl`` of questions with answers, or of messages; `pipelines.question_answers`.
- ``pasting``: a ``pasting.json``; `pipelines.pasting_folder`.

A file of none of these forms stays what it was, a text.
"""

from __future__ import annotations

import json
import re
from pathlib import PurePath
from typing import Literal

Form = Literal["screens", "interleaved", "questions", "pasting"]

HEAD_BYTES = 64 * 1024
PASTING = "pasting.json"
_INTERLEAVED = (("texts", "images"), ("text_list", "image_info"))
_LISTS = re.compile(r'"(texts|images|text_list|image_info)"\s*:\s*\[')


def json_form(name: str, head: bytes) -> Form | None:
    """The form of a file with this name and these first `HEAD_BYTES` bytes; None when it has none of them."""
    base, extension = PurePath(name).name, PurePath(name).suffix.lower()
    if base == PASTING:
        return "pasting"
    words = head.decode("utf-8", "ignore").removeprefix("\ufeff").lstrip()
    if extension == ".jsonl":
        return _form_of_lines(words)
    if extension != ".json":
        return None
    if words.startswith("[") and re.search(r'"img_filename"\s*:', words):
        return "screens"
    return "interleaved" if words.startswith("{") and _interleaved(words, whole=len(head) < HEAD_BYTES) else None


def _interleaved(words: str, *, whole: bool) -> bool:
    """Whether an object has both lists of a form; of one that is cut off, the first list is all that may be seen."""
    seen = set(_LISTS.findall(words))
    return any(set(keys) <= seen for keys in _INTERLEAVED) or (bool(seen) and not whole)


def _form_of_lines(words: str) -> Form | None:
    """By the first line that is an object; a broken line says nothing, and one that is cut off is judged by its lists."""
    for line in words.splitlines():
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            if len(line) > HEAD_BYTES // 2 and line.startswith("{") and _interleaved(line, whole=False):
                return "interleaved"
            continue
        if not isinstance(value, dict):
            continue
        if any(set(keys) <= value.keys() for keys in _INTERLEAVED):
            return "interleaved"
        if {"question", "answer"} <= value.keys() or "messages" in value:
            return "questions"
        return None
    return None
