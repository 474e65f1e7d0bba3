"""Plain text questions and answers (`text.qa`): a ``.jsonl`` with one conversation a line.

    {"question": "How many days has a week?", "answer": "Seven."}
    {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}

Messages take turns, user first, assistant last; one system message may stand before them. Every line ends as a sample or as a
dropped row with its number; `Origin.page` of a sample is the number of its line.
"""

from __future__ import annotations

import json
from typing import Any

from manifests.sample import Message, Origin, Sample, text
from pipelines.duplicates import Signature
from pipelines.extraction import Drop, Extracted, Setting
from pipelines.pictures import PictureStore
from pipelines.plain_text import decode_text
from pipelines.sidecars import clean, refuse_constant
from pipelines.text_quality import CONTROL_SHARE_MAX, quality

TASK = "text.qa"


def read_questions(setting: Setting) -> Extracted:
    """The conversations of a ``.jsonl``.

    Raises:
        Quarantined: it is not UTF-8.
    """
    words = decode_text(setting.path.read_bytes())
    samples: list[Sample] = []
    drops: list[Drop] = []
    for line, entry in enumerate(words.split("\n"), start=1):
        if not entry.strip():
            continue
        try:
            turns = conversation(json.loads(entry, parse_constant=refuse_constant))
        except (ValueError, RecursionError) as error:
            drops.append(_drop(line, "bad_line", str(error).splitlines()[0]))
            continue
        scores = quality("\n".join(content for _, content in turns))
        if scores["unprintable_share"] > CONTROL_SHARE_MAX:
            drops.append(_drop(line, "non_printable", f"{scores['unprintable_share']:.1%} of its characters do not print"))
            continue
        origin = Origin(source_id=setting.item.source_id, page=line)
        messages = tuple(Message(role=role, parts=(text(content, origin),)) for role, content in turns)  # type: ignore[arg-type]
        several = sum(role == "assistant" for role, _ in turns) > 1
        capabilities = ("question_answering", "dialogue") if several else ("question_answering",)
        samples.append(
            Sample(task=TASK, capabilities=capabilities, messages=messages, licence=setting.item.licence, quality=scores)
        )
    # Files are not compared by their words: of two that nearly agree, the one would go with all that only it asks. Equal
    # conversations are found one by one.
    return Extracted(
        modality="text",
        samples=samples,
        store=PictureStore(),
        signature=Signature(kind="exact", size=float(len(words)), described=True),
        drops=drops,
    )


def _drop(line: int, reason: str, detail: str) -> Drop:
    return Drop(task=TASK, stage="filter", reason=reason, detail=f"line {line}: {detail}")


def conversation(value: Any) -> list[tuple[str, str]]:
    """A line's turns as (role, content).

    Raises:
        ValueError: it is neither form, a turn is empty or no text, or the turns are out of order.
    """
    if not isinstance(value, dict):
        raise ValueError(f"it is {type(value).__name__}, not an object")
    if "messages" in value:
        listed = value["messages"]
        if not isinstance(listed, list) or not listed:
            raise ValueError("messages is no list with an entry")
        turns = [(turn.get("role"), turn.get("content")) if isinstance(turn, dict) else (None, None) for turn in listed]
    else:
        turns = [("user", value.get("question")), ("assistant", value.get("answer"))]
    told = []
    for place, (role, content) in enumerate(turns):
        if not isinstance(content, str) or not clean(content):
            raise ValueError(f"turn {place} ({role}) has no text")
        told.append((str(role), clean(content)))
    spoken = [role for role, _ in (told[1:] if told[0][0] == "system" else told)]
    if spoken != ["user", "assistant"] * (len(spoken) // 2) or not spoken:
        raise ValueError(f"the roles {[role for role, _ in told]} do not take turns from user to assistant")
    return told
