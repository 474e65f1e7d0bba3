"""When things of a drawn film can be seen, in seconds of the film: what every family about drawn films computes with."""

from __future__ import annotations

from collections.abc import Sequence

from synth_cot.known import Clip, Presence, Subject

Span = tuple[float, float]


def cast(subject: Subject) -> tuple[Presence, ...]:
    """The things of a drawn film; none for other subjects."""
    return subject.presences if isinstance(subject, Clip) else ()


def presence(clip: Clip, thing_id: str) -> Presence:
    """The thing of that id."""
    return next(one for one in clip.presences if one.id == thing_id)


def common(left: Sequence[Span], right: Sequence[Span]) -> list[Span]:
    """When both can be seen."""
    found = [(max(a, c), min(b, d)) for a, b in left for c, d in right]
    return sorted((start, end) for start, end in found if start < end)


def total(spans: Sequence[Span]) -> float:
    """Seconds in all."""
    return round(sum(end - start for start, end in spans), 6)


def listed(spans: Sequence[Span]) -> str:
    """Intervals as an answer writes them."""
    return "[" + ", ".join(f"[{start:.1f}, {end:.1f}]" for start, end in spans) + "]"
