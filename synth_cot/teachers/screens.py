"""How an answer about a screen is worked out: control by control, each with its box in 0-1000 coordinates, then the aggregate.

Everything is computed from the rounded coordinates that the response shows, not from the pixels behind them.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from synth_cot.derivation import Derivation
from synth_cot.known import Element, Screen
from synth_cot.question import Ask, relative_box
from synth_cot.questions.controls import NAMES


def derive(ask: Ask, screen: Screen) -> Derivation:
    """Steps and answer for a question of the ``reason.gui`` tasks.

    Raises:
        KeyError: the task is none of them.
    """
    return _DERIVATIONS[ask.task](ask, screen)


def _at(screen: Screen, element: Element) -> tuple[int, int, int, int]:
    return relative_box(element.box, screen.width, screen.height)


def _named(screen: Screen, element: Element) -> str:
    quotable = element.text and not any(quote in element.text for quote in "“”") and len(element.text) <= 60
    name = f" “{element.text}”" if quotable else ""
    return f"{NAMES[element.role][0]}{name} at {list(_at(screen, element))}"


def _count(ask: Ask, screen: Screen) -> Derivation:
    found = [element for element in screen.elements if element.role == ask.value]
    found.sort(key=lambda element: (element.box[1], element.box[0], element.id))
    many = NAMES[ask.value][1]
    return Derivation(
        plan=f"Go over the screen from top to bottom and point at each of the {many}.",
        steps=tuple(_named(screen, element) for element in found),
        check=f"no box is listed twice, and there are {len(found)} of them",
        answer=str(len(found)),
    )


def _locate(ask: Ask, screen: Screen) -> Derivation:
    element = screen.element(ask.ids[0])
    return Derivation(
        plan="Find the control by its kind and text.",
        steps=(_named(screen, element),),
        check="no other control of this kind has this text",
        answer=f"[{list(_at(screen, element))}]",
    )


def _read(ask: Ask, screen: Screen) -> Derivation:
    element = screen.element(ask.ids[0])
    return Derivation(
        plan="Look at the region and read what stands there.",
        steps=(_named(screen, element),),
        check="nothing else stands in the region",
        answer=element.text,
    )


def _compare(ask: Ask, screen: Screen) -> Derivation:
    one, other = (screen.element(element_id) for element_id in ask.ids)
    boxes = [_at(screen, one), _at(screen, other)]
    steps = [f"{letter} is the {_named(screen, element)}" for letter, element in zip("AB", (one, other), strict=True)]
    if ask.value == "larger":
        sizes = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes]
        steps += [
            f"{letter} covers ({x1} - {x0}) * ({y1} - {y0}) = {size}"
            for letter, (x0, y0, x1, y1), size in zip("AB", boxes, sizes, strict=True)
        ]
        plan, first = "Work out the area of both boxes and compare.", sizes[0] > sizes[1]
    else:
        axis = 0 if ask.value == "further left" else 1
        sizes = [box[axis] for box in boxes]
        edge = "left" if axis == 0 else "top"
        plan, first = f"Compare the {edge} edges of both boxes: the smaller number is {ask.value}.", sizes[0] < sizes[1]
    sign = "=" if sizes[0] == sizes[1] else "<" if sizes[0] < sizes[1] else ">"
    check = f"{sizes[0]} {sign} {sizes[1]}, so {'A' if first else 'B'} is {ask.value}"
    return Derivation(plan=plan, steps=tuple(steps), check=check, answer="A" if first else "B")


def _order(ask: Ask, screen: Screen) -> Derivation:
    axis = 1 if ask.value == "from top to bottom" else 0
    placed = sorted((screen.element(one) for one in ask.ids), key=lambda element: (_at(screen, element)[axis], element.id))
    starts = [_at(screen, element)[axis] for element in placed]
    chain = str(starts[0]) + "".join(f" {'=' if before == after else '<'} {after}" for before, after in pairwise(starts))
    return Derivation(
        plan=f"Find each control and sort the {'top' if axis else 'left'} edges.",
        steps=tuple(_named(screen, element) for element in placed),
        check=chain,
        answer=", ".join(element.text for element in placed),
    )


_DERIVATIONS: dict[str, Callable[[Ask, Screen], Derivation]] = {
    "reason.gui.compare": _compare,
    "reason.gui.count": _count,
    "reason.gui.locate": _locate,
    "reason.gui.order": _order,
    "reason.gui.read": _read,
}
