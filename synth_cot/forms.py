"""The form in which a question wants its answer: with reasoning or without, with clue intervals or without.

Tasks named by the recipe keep their reasoning; of their questions a share, by hash, asks for a direct answer, so that a model
learns both. Of the questions with options about videos a share asks for the intervals that show it as well: ``B [[3.0, 4.5]]``,
as published evaluations do. The letter is scored by its verifier and the intervals by theirs; both must be right.
"""

from __future__ import annotations

import re
from dataclasses import replace

from manifests.fingerprint import canonical_json, unit_hash
from manifests.synth_spec import SynthSpec
from synth_cot.known import Clip, Subject
from synth_cot.question import Question
from synth_cot.questions.moments import span

DIRECT = " Answer directly, without reasoning."
CLUES = " Name the clue intervals after it, as in A [[0.0, 1.5], [4.0, 6.0]], in seconds."
_INTERVALS = re.compile(r"\[\s*\[.*\]\s*\]\s*\Z", re.DOTALL)


def thinks(task: str, think_tasks: tuple[str, ...]) -> bool:
    """Whether a task keeps its reasoning: one of the words of its dotted name is a think task."""
    return bool(set(task.split(".")) & set(think_tasks))


def shaped(question: Question, subject: Subject, source_id: str, spec: SynthSpec) -> Question:
    """The question in the form that the recipe and its hash want; its ask says which."""
    ask, prompt = question.ask, question.prompt
    chance = spec.seed, source_id, canonical_json(ask)
    if isinstance(subject, Clip) and question.verifier == "option" and unit_hash("clues", *chance) < spec.clue_share:
        ask, prompt = replace(ask, clues=True), prompt + CLUES
    think = thinks(ask.task, spec.think_tasks)
    if think and unit_hash("direct", *chance) < spec.direct_share:
        think, prompt = False, prompt + DIRECT
    return replace(question, ask=replace(ask, think=think), prompt=prompt)


def clue_intervals(question: Question, clip: Clip) -> str:
    """The intervals that show the answer, in order, as an answer writes them."""
    spans = sorted(set(question.evidence.intervals))
    return "[" + ", ".join(span(clip, start, end) for start, end in spans) + "]"


def without_clues(answer: str) -> tuple[str, str | None]:
    """An answer without its clue intervals, and those intervals; None when there are none."""
    found = _INTERVALS.search(answer)
    return (answer, None) if found is None else (answer[: found.start()].strip(), found[0])


def in_form(text: str, *, think: bool) -> str:
    """A response in the form asked for: a direct answer that came bare is put between its tags; nothing else is mended."""
    bare = text.strip()
    return bare if think or not bare or re.search(r"</?(?:think|answer)>", bare) else f"<answer>{bare}</answer>"
