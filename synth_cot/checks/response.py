"""Is the answer right? The truth is recomputed here from the raw payload and the `Ask`, by code that no family shares.

The final answer is parsed from the written response and scored by its verifier against the recomputed truth; for a generated
problem the generator's own scorer must agree as well. Only a score of 1 passes.
"""

from __future__ import annotations

import math
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from typing import Any

from synth_cot.known import Known, Problem, Subject
from synth_cot.question import Ask, Question, Rejection
from synth_cot.stem.generators import gym_score
from synth_cot.verifiers import Verdict, get
from synth_cot.verifiers.answer_format import parse


def recompute(ask: Ask, payload: dict[str, Any]) -> Any:
    """The truth of an ask about an annotated source, in the form its verifier reads.

    Raises:
        ValueError: the ask has no single answer, or is of an unknown task.
    """
    family, kind = ask.task.split(".")[1:]
    if family == "gui":
        return _screen(ask, kind, payload["steps"][int(ask.place)] if ask.place else payload)
    if family == "video":
        return _clip(ask, kind, payload)
    if ask.task == "reason.document.page":
        pages = [p["page"] for p in payload["pages"] if str(p["page"]) in ask.ids and p["first_line"] == ask.value]
        return _only(pages, ask)
    raise ValueError(f"unknown task {ask.task}")


def _only(found: list[Any], ask: Ask) -> Any:
    if len(found) != 1:
        raise ValueError(f"{len(found)} answers to {ask}")
    return found[0]


def _screen(ask: Ask, kind: str, screen: dict[str, Any]) -> Any:
    by_id = {str(element["id"]): element for element in screen["elements"]}
    chosen = [by_id[one] for one in ask.ids]
    if kind == "count":
        return len([1 for element in by_id.values() if element["role"] == ask.value])
    if kind == "locate":
        sides = [Decimal(str(side)) for side in chosen[0]["box"]]
        extents = [Decimal(str(screen["width"])), Decimal(str(screen["height"]))] * 2
        return [
            [
                int((1000 * side / extent).to_integral_value(ROUND_HALF_EVEN))
                for side, extent in zip(sides, extents, strict=True)
            ]
        ]
    if kind == "read":
        return " ".join(chosen[0]["text"].split())
    if kind == "order":
        axis = {"from top to bottom": 1, "from left to right": 0}[ask.value]
        return [" ".join(element["text"].split()) for element in sorted(chosen, key=lambda element: element["box"][axis])]
    if kind == "compare":
        left, right = (element["box"] for element in chosen)
        if ask.value == "larger":
            sizes = [(box[2] - box[0]) * (box[3] - box[1]) for box in (left, right)]
            return _letter(sizes[0] > sizes[1], sizes[0] < sizes[1], ask)
        axis = {"further left": 0, "higher up": 1}[ask.value]
        return _letter(left[axis] < right[axis], left[axis] > right[axis], ask)
    raise ValueError(f"unknown task {ask.task}")


def _letter(first: bool, second: bool, ask: Ask) -> str:
    if first == second:
        raise ValueError(f"no answer to {ask}")
    return "A" if first else "B"


def _clip(ask: Ask, kind: str, video: dict[str, Any]) -> Any:
    if kind == "count":
        return len(video["shots"])
    inside = [
        s for s in video["scenes"] if s["start"] >= ask.start_s and (not ask.place or s["end"] <= _window_end(ask, video))
    ]
    times = [tuple(tenth(scene[key], ask.start_s) for key in ("start", "end")) for scene in inside]
    chosen = [times[int(one)] for one in ask.ids]
    if kind == "interval":
        return [list(chosen[0])]
    if kind == "at":
        moment = float(ask.value)
        return _only([letter for letter, (begin, end) in zip("ABCDE", chosen, strict=False) if begin <= moment < end], ask)
    (begin, end), (other_begin, other_end) = chosen
    if kind == "order":
        first = begin < other_begin if ask.value == "first" else begin > other_begin
        return _letter(first, not first and begin != other_begin, ask)
    if kind == "duration":
        return _letter(end - begin > other_end - other_begin, end - begin < other_end - other_begin, ask)
    raise ValueError(f"unknown task {ask.task}")


def tenth(seconds: float, start_s: float) -> float:
    """Seconds from the start of a clip, to a tenth; a half is rounded up."""
    return math.floor((Fraction(str(seconds)) - Fraction(str(start_s))) * 10 + Fraction(1, 2)) / 10


def _window_end(ask: Ask, video: dict[str, Any]) -> float:
    number = int(ask.place)
    # Windows of one video are of one length, so the start of the window after the first is that length times its number.
    return float(video["duration_s"]) if number == 0 else min(float(video["duration_s"]), ask.start_s * (number + 1) / number)


def check_response(
    reply: str, question: Question, subject: Subject, known: Known, think: bool
) -> tuple[Verdict, Rejection | None]:
    """The verdict on a written response, and why it is not kept, or None."""

    def refuse(verdict: Verdict, reason: str, detail: str) -> tuple[Verdict, Rejection]:
        return verdict, Rejection(ask=question.ask, reason=reason, detail=detail)

    form = get("format").score(reply, "think" if think else "direct")
    response = parse(reply)
    if not form.right or response is None:
        return refuse(form, "wrong_format", form.reason)
    try:
        truth = str(subject.entry["answer"]) if isinstance(subject, Problem) else recompute(question.ask, known.payload)
        verdict = get(question.verifier).score(response.answer, truth)
    except (ValueError, KeyError, IndexError) as error:
        return refuse(Verdict(0.0, str(error)), "no_truth", str(error))
    if not verdict.right:
        return refuse(verdict, "wrong_answer", f"{response.answer[:80]!r}: {verdict.reason}")
    stated = get(question.verifier).score(response.answer, question.truth)
    if not stated.right:
        return refuse(stated, "truths_differ", f"the question says {question.truth[:80]!r}, the annotation {str(truth)[:80]!r}")
    if isinstance(subject, Problem) and (theirs := gym_score(subject, response.answer)) != 1.0:
        return refuse(
            Verdict(0.0, "generator disagrees"),
            "generator_disagrees",
            f"reasoning-gym scores {response.answer[:80]!r} {theirs}",
        )
    return verdict, None
