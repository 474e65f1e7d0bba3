"""How many more things of one group than of another a drawn picture shows. Equal numbers, or none of one, are refused."""

from __future__ import annotations

from itertools import permutations

from synth_cot.known import Picture, Subject
from synth_cot.question import Ask, Evidence, Question, Rejection, pick
from synth_cot.questions.drawn import groups, matching, plural

TASK = "reason.image.difference"
_PROMPTS = (
    "How many more {one} than {other} are there?",
    "By how much do the {one} outnumber the {other}?",
    "Subtract the number of {other} from the number of {one}.",
)


def candidates(subject: Subject) -> list[Ask]:
    """Ordered pairs of shapes, and of colours."""
    if not isinstance(subject, Picture):
        return []
    found = groups(subject)
    kinds = [[one for one in found if one.startswith("|")], [one for one in found if one.endswith("|")]]
    return [Ask(task=TASK, value=f"{one}-{other}") for kind in kinds for one, other in permutations(kind, 2)]


def build(subject: Subject, ask: Ask, seed: int) -> Question | Rejection:
    """See `synth_cot.question.Family`."""
    assert isinstance(subject, Picture)
    one, other = ask.value.split("-")
    more, fewer = matching(subject, one), matching(subject, other)
    if len(more) <= len(fewer):
        return Rejection(ask=ask, reason="trivial", detail=f"{len(more)} {plural(one)}, {len(fewer)} {plural(other)}")
    prompt = pick(_PROMPTS, seed, subject.media_id, TASK, ask.value).format(one=plural(one), other=plural(other))
    evidence = Evidence(boxes=tuple(thing.box for thing in (*more, *fewer)))
    truth = str(len(more) - len(fewer))
    return Question(ask=ask, prompt=f"{prompt} Answer with a number.", truth=truth, verifier="count", evidence=evidence)
