"""Which thing of a drawn film is seen longest, all its appearances together. Refused when two come near."""

from __future__ import annotations

from synth_cot.known import Clip, Subject
from synth_cot.question import Ask, Evidence, Question, Rejection, pick, shuffled
from synth_cot.questions.presences import cast, presence, total

TASK = "reason.film.longest"
_PROMPTS = ("Which of these is on screen for the longest time in all?", "Add up all appearances: which is seen longest?")


def candidates(subject: Subject) -> list[Ask]:
    """The one question."""
    found = cast(subject)
    return [Ask(task=TASK, ids=shuffled([one.id for one in found], TASK, str(found)))] if len(found) > 1 else []


def build(subject: Subject, ask: Ask, seed: int) -> Question | Rejection:
    """See `synth_cot.question.Family`."""
    assert isinstance(subject, Clip)
    chosen = [presence(subject, thing_id) for thing_id in ask.ids]
    times = [total(one.spans) for one in chosen]
    second, first = sorted(times)[-2:]
    if first - second < 1.0:
        return Rejection(ask=ask, reason="too_close", detail=f"the longest two are seen {first:g} s and {second:g} s")
    listed = " ".join(f"{letter}) the {one.name}" for letter, one in zip("ABCD", chosen, strict=False))
    stem = pick(_PROMPTS, seed, TASK, subject.frames[0])
    return Question(
        ask=ask,
        prompt=f"{stem} {listed}. Answer with the letter.",
        truth="ABCD"[times.index(first)],
        verifier="option",
        evidence=Evidence(intervals=tuple(span for one in chosen for span in one.spans)),
    )
