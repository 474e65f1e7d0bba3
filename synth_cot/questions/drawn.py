"""Groups of things on a drawn picture, and how they are called: ``red|circle`` red circles, ``red|`` red things, ``|circle``
circles. Every family about drawn pictures speaks of them in the same words."""

from __future__ import annotations

from collections import Counter

from synth_cot.known import Picture, Thing


def matching(picture: Picture, group: str) -> list[Thing]:
    """The things of a group, in the order of the picture."""
    colour, shape = group.split("|")
    return [thing for thing in picture.things if colour in ("", thing.colour) and shape in ("", thing.shape)]


def plural(group: str) -> str:
    """A group in words."""
    colour, shape = group.split("|")
    noun = {"": "things", "cross": "crosses"}.get(shape, f"{shape}s")
    return f"{colour} {noun}".strip()


def counted(number: int, group: str) -> str:
    """So many things of a group, in words."""
    colour, shape = group.split("|")
    return f"1 {colour} {shape or 'thing'}".replace("  ", " ") if number == 1 else f"{number} {plural(group)}"


def groups(picture: Picture) -> list[str]:
    """Every group that the picture has things of, sorted."""
    found = {f"{thing.colour}|{thing.shape}" for thing in picture.things}
    found |= {f"{thing.colour}|" for thing in picture.things} | {f"|{thing.shape}" for thing in picture.things}
    return sorted(found)


def unique(picture: Picture) -> list[Thing]:
    """The things that their colour and shape name alone."""
    times = Counter(thing.name for thing in picture.things)
    return [thing for thing in picture.things if times[thing.name] == 1]
