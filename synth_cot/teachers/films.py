"""How an answer about a drawn film is worked out: interval by interval for each thing, then the aggregate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from synth_cot.derivation import Derivation, number
from synth_cot.known import Clip, Presence
from synth_cot.question import Ask
from synth_cot.questions.presences import Span, common, listed, presence


def derive(ask: Ask, film: Clip) -> Derivation:
    """Steps and answer for a question of the ``reason.film`` tasks.

    Raises:
        KeyError: the task is none of them.
    """
    return _DERIVATIONS[ask.task](ask, film)


def _span(span: Span) -> str:
    return f"[{span[0]:.1f}, {span[1]:.1f}]"


def _spans(spans: Sequence[Span]) -> str:
    words = [_span(span) for span in spans]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _chosen(ask: Ask, film: Clip) -> list[Presence]:
    return [presence(film, thing_id) for thing_id in ask.ids]


def _exact(seconds: float) -> Fraction:
    return Fraction(f"{seconds:.1f}")


def _count(ask: Ask, film: Clip) -> Derivation:
    (one,) = _chosen(ask, film)
    return Derivation(
        plan=f"Watch for the {one.name} and note each stretch in which it is there without a break.",
        steps=tuple(f"“{one.name}” in {_span(span)}" for span in one.spans),
        check=f"between these it is gone, so it appears {len(one.spans)} times",
        answer=str(len(one.spans)),
    )


def _intervals(ask: Ask, film: Clip) -> Derivation:
    (one,) = _chosen(ask, film)
    lengths = [_exact(end) - _exact(start) for start, end in one.spans]
    steps = [
        f"“{one.name}” in {_span(span)}: {number(_exact(span[1]))} - {number(_exact(span[0]))} = {number(length)} seconds"
        for span, length in zip(one.spans, lengths, strict=True)
    ]
    return Derivation(
        plan=f"Watch for the {one.name} and note when it comes and when it goes.",
        steps=tuple(steps),
        check=f"{' + '.join(map(number, lengths))} = {number(sum(lengths, Fraction(0)))} seconds in all"
        if len(lengths) > 1
        else f"it is seen once, for {number(lengths[0])} seconds",
        answer=listed(one.spans),
    )


def _seen(chosen: Sequence[Presence]) -> list[str]:
    return [f"“{one.name}” in {_spans(one.spans)}" for one in chosen]


def _together(ask: Ask, film: Clip) -> Derivation:
    one, other = _chosen(ask, film)
    both = common(one.spans, other.spans)
    return Derivation(
        plan="Find when each of the two is there and take what the intervals share.",
        steps=(*_seen([one, other]), *(f"“{one.name}” and “{other.name}” in {_span(span)}" for span in both)),
        check="; ".join(f"{number(_exact(start))} < {number(_exact(end))}" for start, end in both),
        answer=listed(both),
    )


def _meet(ask: Ask, film: Clip) -> Derivation:
    one, other = _chosen(ask, film)
    both = common(one.spans, other.spans)
    steps = _seen([one, other]) + [f"“{one.name}” and “{other.name}” in {_span(span)}" for span in both[:1]]
    check = "at that time both can be seen" if both else "no interval of the one meets an interval of the other"
    return Derivation(
        plan="Find when each of the two is there and see whether the intervals meet.",
        steps=tuple(steps), check=check, answer="A" if both else "B",
    )  # fmt: skip


def _order(ask: Ask, film: Clip) -> Derivation:
    chosen = _chosen(ask, film)
    if ask.value == "before":
        spans, plan = [one.spans[0] for one in chosen], "Find the first appearance of each and compare the beginnings."
        moments, first = [span[0] for span in spans], spans[0][0] < spans[1][0]
    else:
        spans, plan = [one.spans[-1] for one in chosen], "Find the last appearance of each and compare the ends."
        moments, first = [span[1] for span in spans], spans[0][1] > spans[1][1]
    sign = "<" if moments[0] < moments[1] else ">"
    letter = "A" if first else "B"
    return Derivation(
        plan=plan,
        steps=tuple(f"{name}: “{one.name}” in {_span(span)}" for name, one, span in zip("AB", chosen, spans, strict=True)),
        check=f"{number(_exact(moments[0]))} {sign} {number(_exact(moments[1]))}, so it is {letter}",
        answer=letter,
    )


def _sequence(ask: Ask, film: Clip) -> Derivation:
    placed = sorted(_chosen(ask, film), key=lambda one: one.spans[0][0])
    return Derivation(
        plan="Note when each is first seen and sort by the beginnings.",
        steps=tuple(f"“{one.name}” in {_span(one.spans[0])}" for one in placed),
        check=" < ".join(number(_exact(one.spans[0][0])) for one in placed),
        answer=", ".join(one.name for one in placed),
    )


def _longest(ask: Ask, film: Clip) -> Derivation:
    chosen = _chosen(ask, film)
    steps, totals = [], []
    for letter, one in zip("ABCD", chosen, strict=False):
        lengths = [_exact(end) - _exact(start) for start, end in one.spans]
        totals.append(sum(lengths, Fraction(0)))
        added = f"{' + '.join(map(number, lengths))} = " if len(lengths) > 1 else ""
        steps.append(f"{letter}: “{one.name}” in {_spans(one.spans)}: {added}{number(totals[-1])} seconds")
    ordered = sorted(totals, reverse=True)
    letter = "ABCD"[totals.index(ordered[0])]
    return Derivation(
        plan="Add up the lengths of all appearances of each, then compare.",
        steps=tuple(steps),
        check=f"{number(ordered[0])} > {number(ordered[1])}, so it is {letter}",
        answer=letter,
    )


def _visible(ask: Ask, film: Clip) -> Derivation:
    moment = Fraction(ask.value)
    steps = [
        f"“{one.name}” in {_span(span)}"
        for one in film.presences
        for span in one.spans
        if _exact(span[0]) <= moment < _exact(span[1])
    ]
    return Derivation(
        plan=f"For each thing see whether one of its intervals holds {number(moment)} seconds.",
        steps=tuple(steps),
        check=f"nothing else is there at that moment, so there are {len(steps)}",
        answer=str(len(steps)),
    )


_DERIVATIONS: dict[str, Callable[[Ask, Clip], Derivation]] = {
    "reason.film.count": _count,
    "reason.film.intervals": _intervals,
    "reason.film.longest": _longest,
    "reason.film.meet": _meet,
    "reason.film.order": _order,
    "reason.film.sequence": _sequence,
    "reason.film.together": _together,
    "reason.film.visible": _visible,
}
