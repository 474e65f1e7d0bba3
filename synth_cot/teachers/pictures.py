"""How an answer about a drawn picture, or about two of them, is worked out: thing by thing with its box, then the aggregate."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from synth_cot.derivation import Derivation
from synth_cot.known import Edit, Pair, Picture, Thing
from synth_cot.question import Ask, relative_box
from synth_cot.questions.drawn import counted, matching, plural


def derive_picture(ask: Ask, picture: Picture) -> Derivation:
    """Steps and answer for a question of the ``reason.image`` tasks.

    Raises:
        KeyError: the task is none of them.
    """
    return _PICTURE[ask.task](ask, picture)


def derive_pair(ask: Ask, pair: Pair) -> Derivation:
    """Steps and answer for a question of the ``reason.pair`` tasks.

    Raises:
        KeyError: the task is none of them.
    """
    return _PAIR[ask.task](ask, pair)


def _at(picture: Picture, thing: Thing) -> list[int]:
    return list(relative_box(thing.box, picture.width, picture.height))


def _listed(picture: Picture, things: Sequence[Thing]) -> list[str]:
    ordered = sorted(things, key=lambda thing: (thing.box[1], thing.box[0]))
    return [f"“{thing.name}” at {_at(picture, thing)}" for thing in ordered]


def _count(ask: Ask, picture: Picture) -> Derivation:
    found = matching(picture, ask.value)
    return Derivation(
        plan=f"Go over the picture from top to bottom and point at each of the {plural(ask.value)}.",
        steps=tuple(_listed(picture, found)),
        check=f"no box is listed twice, and there are {len(found)} of them",
        answer=str(len(found)),
    )


def _difference(ask: Ask, picture: Picture) -> Derivation:
    one, other = ask.value.split("-")
    more, fewer = matching(picture, one), matching(picture, other)
    steps = [*_listed(picture, more), f"that makes {counted(len(more), one)}"]
    steps += [*_listed(picture, fewer), f"that makes {counted(len(fewer), other)}"]
    return Derivation(
        plan=f"Point at the {plural(one)}, then at the {plural(other)}, and subtract the numbers.",
        steps=tuple(steps),
        check=f"{len(more)} - {len(fewer)} = {len(more) - len(fewer)}",
        answer=str(len(more) - len(fewer)),
    )


def _locate(ask: Ask, picture: Picture) -> Derivation:
    thing = picture.thing(ask.ids[0])
    return Derivation(
        plan="Find the thing by its colour and shape.",
        steps=tuple(_listed(picture, [thing])),
        check="nothing else has this colour and this shape",
        answer=f"[{_at(picture, thing)}]",
    )


def _relation(ask: Ask, picture: Picture) -> Derivation:
    one, other = (picture.thing(thing_id) for thing_id in ask.ids)
    axis, edge = (0, "left") if ask.value == "further left" else (1, "top")
    starts = [_at(picture, thing)[axis] for thing in (one, other)]
    first = starts[0] < starts[1]
    return Derivation(
        plan=f"Find both and compare their {edge} edges: the smaller number is {ask.value}.",
        steps=tuple(
            f"{letter}: “{thing.name}” at {_at(picture, thing)}" for letter, thing in zip("AB", (one, other), strict=True)
        ),
        check=f"{starts[0]} {'<' if first else '>'} {starts[1]}, so {'A' if first else 'B'} is {ask.value}",
        answer="A" if first else "B",
    )


def _edited(pair: Pair, edit: Edit) -> tuple[Thing | None, Thing | None]:
    """The thing of an edit in the first picture and in the second: those that the edit's box holds."""

    def inside(thing: Thing) -> bool:
        x0, y0, x1, y1 = edit.box
        return x0 <= thing.box[0] and y0 <= thing.box[1] and thing.box[2] <= x1 and thing.box[3] <= y1

    return next(filter(inside, pair.before.things), None), next(filter(inside, pair.after.things), None)


def _seen(pair: Pair, edit: Edit) -> tuple[str, str]:
    """What is seen at the place of an edit, in words, and the edit's kind as the two pictures tell it."""
    old, new = _edited(pair, edit)
    box = list(relative_box(edit.box, pair.after.width, pair.after.height))
    if old is None:
        assert new is not None
        return f"at {box} there was nothing, and now there is a “{new.name}”", "added"
    if new is None:
        return f"at {box} there was a “{old.name}”, and now there is nothing", "removed"
    if old.colour != new.colour:
        return f"at {box} the “{old.name}” has become a “{new.name}”", "recoloured"
    grown = new.box[2] - new.box[0] > old.box[2] - old.box[0]
    return f"at {box} the “{old.name}” has become {'larger' if grown else 'smaller'}", "resized"


def _differences(pair: Pair) -> tuple[str, ...]:
    edits = sorted(pair.edits, key=lambda edit: (edit.box[1], edit.box[0]))
    if edits:
        return tuple(_seen(pair, edit)[0] for edit in edits)
    count = len(pair.before.things)
    return (f"the first picture shows {count} things, and all of them stand unchanged in the second: {count} - {count} = 0",)


def _pair_count(ask: Ask, pair: Pair) -> Derivation:
    return Derivation(
        plan="Compare the pictures place by place and note each thing that is not the same; how they are lit does not matter.",
        steps=_differences(pair),
        check=f"everything else is the same; places that differ: {len(pair.edits)}",
        answer=str(len(pair.edits)),
    )


def _pair_locate(ask: Ask, pair: Pair) -> Derivation:
    edits = sorted(pair.edits, key=lambda edit: (edit.box[1], edit.box[0]))
    boxes = [list(relative_box(edit.box, pair.after.width, pair.after.height)) for edit in edits]
    return Derivation(
        plan="Go from the top of the pictures to the bottom and compare what stands at each place.",
        steps=_differences(pair),
        check=f"places that differ: {len(boxes)}; everything else is the same",
        answer=str(boxes),
    )


def _pair_kind(ask: Ask, pair: Pair) -> Derivation:
    edit = next(edit for edit in pair.edits if edit.id == ask.ids[0])
    words, kind = _seen(pair, edit)
    letter = "ABCD"[ask.value.split("|").index(kind)]
    return Derivation(
        plan="Look at the region in the first picture, then in the second.",
        steps=(words,),
        check=f"that is what {letter} says",
        answer=letter,
    )


_PICTURE: dict[str, Callable[[Ask, Picture], Derivation]] = {
    "reason.image.count": _count,
    "reason.image.difference": _difference,
    "reason.image.locate": _locate,
    "reason.image.relation": _relation,
}
_PAIR: dict[str, Callable[[Ask, Pair], Derivation]] = {
    "reason.pair.count": _pair_count,
    "reason.pair.kind": _pair_kind,
    "reason.pair.locate": _pair_locate,
}
