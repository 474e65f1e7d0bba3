"""How an answer about a clip is worked out: interval by interval in seconds of the clip, then the aggregate.

A scene is quoted by its first words. Lengths and comparisons are computed from the times that the response shows.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from synth_cot.derivation import Derivation, number
from synth_cot.known import Clip, Scene
from synth_cot.question import Ask
from synth_cot.questions.moments import LETTERS, since, span

_WORDS_QUOTED = 8


def derive(ask: Ask, clip: Clip) -> Derivation:
    """Steps and answer for a question of the ``reason.video`` tasks.

    Raises:
        KeyError: the task is none of them.
    """
    return _DERIVATIONS[ask.task](ask, clip)


def _words(scene: Scene) -> str:
    return "“" + " ".join(scene.text.split()[:_WORDS_QUOTED]) + "”"


def _time(clip: Clip, seconds: float) -> Fraction:
    return Fraction(f"{since(clip, seconds):.1f}")


def _options(ask: Ask, clip: Clip) -> list[tuple[str, Scene]]:
    return [(letter, clip.scenes[int(index)]) for letter, index in zip(LETTERS, ask.ids, strict=False)]


def _seen(ask: Ask, clip: Clip) -> list[str]:
    return [
        f"{letter}, {_words(scene)}, is seen in {span(clip, scene.start, scene.end)}" for letter, scene in _options(ask, clip)
    ]


def _interval(ask: Ask, clip: Clip) -> Derivation:
    wanted = int(ask.ids[0])
    steps = []
    for index, scene in enumerate(clip.scenes[: wanted + 2]):
        verdict = "this is what is described" if index == wanted else "something else"
        steps.append(f"{span(clip, scene.start, scene.end)} {_words(scene)}: {verdict}")
    answer = f"[{span(clip, clip.scenes[wanted].start, clip.scenes[wanted].end)}]"
    start, end = (number(_time(clip, at)) for at in (clip.scenes[wanted].start, clip.scenes[wanted].end))
    length = number(Fraction(end) - Fraction(start))
    return Derivation(
        plan="Go through the video scene by scene and compare each with the description.",
        steps=tuple(steps),
        check=f"the scene lasts {end} - {start} = {length} seconds, and no other fits",
        answer=answer,
    )


def _order(ask: Ask, clip: Clip) -> Derivation:
    (one_letter, one), (other_letter, other) = _options(ask, clip)
    starts = _time(clip, one.start), _time(clip, other.start)
    earlier, later = (one_letter, other_letter) if starts[0] < starts[1] else (other_letter, one_letter)
    sign = "<" if starts[0] < starts[1] else ">" if starts[0] > starts[1] else "="
    return Derivation(
        plan="Find when each of the two is on screen and compare the beginnings.",
        steps=tuple(_seen(ask, clip)),
        check=f"{number(starts[0])} {sign} {number(starts[1])}, so {earlier} comes before {later}",
        answer=earlier if ask.value == "first" else later,
    )


def _duration(ask: Ask, clip: Clip) -> Derivation:
    lengths, steps = [], []
    for (letter, scene), seen in zip(_options(ask, clip), _seen(ask, clip), strict=True):
        start, end = _time(clip, scene.start), _time(clip, scene.end)
        lengths.append(end - start)
        steps += [seen, f"{letter} lasts {number(end)} - {number(start)} = {number(end - start)} seconds"]
    sign = ">" if lengths[0] > lengths[1] else "<" if lengths[0] < lengths[1] else "="
    return Derivation(
        plan="Find when each of the two begins and ends, and compare the lengths.",
        steps=tuple(steps),
        check=f"{number(lengths[0])} {sign} {number(lengths[1])}",
        answer="A" if lengths[0] > lengths[1] else "B",
    )


def _at(ask: Ask, clip: Clip) -> Derivation:
    moment = Fraction(ask.value)
    answer, check = "none", "no option fits"
    for letter, scene in _options(ask, clip):
        start, end = _time(clip, scene.start), _time(clip, scene.end)
        if start <= moment < end:
            answer, check = letter, f"{number(start)} < {number(moment)} < {number(end)}, so {letter} is on screen"
    return Derivation(
        plan=f"Find when each option is on screen and see which interval holds {number(moment)} seconds.",
        steps=tuple(_seen(ask, clip)),
        check=check,
        answer=answer,
    )


def _count(ask: Ask, clip: Clip) -> Derivation:
    steps = tuple(f"a shot in {span(clip, start, end)}" for start, end in clip.shots)
    return Derivation(
        plan="Go through the video and note each shot from cut to cut.",
        steps=steps,
        check=f"the intervals follow one another, and there are {len(steps)} of them",
        answer=str(len(steps)),
    )


def _next(ask: Ask, clip: Clip) -> Derivation:
    scene, *options = (clip.scenes[int(index)] for index in ask.ids)
    steps = [f"{_words(scene)} is seen in {span(clip, scene.start, scene.end)}"]
    edge = _time(clip, scene.end if ask.value == "after" else scene.start)
    found = []
    for letter, option in zip(LETTERS, options, strict=False):
        steps.append(f"{letter}, {_words(option)}, is seen in {span(clip, option.start, option.end)}")
        other = _time(clip, option.start if ask.value == "after" else option.end)
        if abs(other - edge) <= Fraction("0.1"):
            found.append((letter, other))
    letter, other = found[0]
    sign = "=" if other == edge else "<" if edge < other else ">"
    return Derivation(
        plan=f"Find where the scene {'ends' if ask.value == 'after' else 'begins'} and see what touches it there.",
        steps=tuple(steps),
        check=f"{number(edge)} {sign} {number(other)}, so it is {letter}",
        answer=letter,
    )


_DERIVATIONS: dict[str, Callable[[Ask, Clip], Derivation]] = {
    "reason.video.at": _at,
    "reason.video.count": _count,
    "reason.video.duration": _duration,
    "reason.video.interval": _interval,
    "reason.video.next": _next,
    "reason.video.order": _order,
}
