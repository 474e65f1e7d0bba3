"""Questions about a screen that its elements answer (`gui.qa`), each with one right answer.

- what a person asked, in the sidecar's ``questions``;
- a state that the tree tells: is it checked, is it disabled;
- how many controls of a kind there are, when there are 2 to `COUNTED_MAX` and none covers another;
- what the highest or the lowest control of a kind says, when it stands clear of the others.

An element is named only when no other has its role and text.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from manifests.fingerprint import unit_hash
from pipelines.screens import STATES, Box, Element, Screen

COUNTED_MAX = 20
STATE_QUESTIONS_MAX = 4
PLURALS = {
    "button": "buttons", "checkbox": "checkboxes", "combobox": "drop-down lists", "link": "links", "menuitem": "menu items",
    "option": "options", "radio": "radio buttons", "slider": "sliders", "switch": "switches", "tab": "tabs",
    "textbox": "text fields",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ScreenQuestion:
    """A question, its answer and where on the screen the answer is seen; ``box`` in pixels, None for the whole screen."""

    question: str
    answer: str
    box: Box | None = None


def name(element: Element) -> str:
    """How questions and answers call an element: its role, and its text in quotes."""
    return f"{element.role} {json.dumps(element.text, ensure_ascii=False)}"


def screen_questions(screen: Screen, seed: str) -> list[ScreenQuestion]:
    """The questions that the elements answer, in a fixed order; ``seed`` decides which states are asked for."""
    return [*_states(screen, seed), *_counts(screen), *_ends(screen)]


def _states(screen: Screen, seed: str) -> Iterator[ScreenQuestion]:
    found = [
        (element, state.removeprefix("not "), not state.startswith("not "))
        for element in screen.unique_names()
        for state in element.states
        if state.removeprefix("not ") in STATES
    ]
    # Of what can be told, the exception says most: that a button is enabled is what one expects.
    rare = [each for each in found if each[1] != "disabled" or each[2]]
    for element, state, holds in sorted(rare, key=lambda each: unit_hash("state", seed, each[0].id, each[1]))[
        :STATE_QUESTIONS_MAX
    ]:
        yield ScreenQuestion(
            question=f"Is the {name(element)} {state}? Answer yes or no.", answer="yes" if holds else "no", box=element.box
        )


def _by_role(screen: Screen) -> dict[str, list[Element]]:
    found: dict[str, list[Element]] = defaultdict(list)
    for element in screen.elements:
        if element.role in PLURALS:
            found[element.role].append(element)
    return dict(sorted(found.items()))


def overlapping(one: Box, other: Box) -> bool:
    """Whether two boxes share any area."""
    return min(one[2], other[2]) > max(one[0], other[0]) and min(one[3], other[3]) > max(one[1], other[1])


def _counts(screen: Screen) -> Iterator[ScreenQuestion]:
    for role, elements in _by_role(screen).items():
        if not 2 <= len(elements) <= COUNTED_MAX:
            continue
        if any(overlapping(one.box, other.box) for one, other in combinations(elements, 2)):
            continue
        yield ScreenQuestion(
            question=f"How many {PLURALS[role]} are on this screen? Answer with a number.", answer=str(len(elements))
        )


def _ends(screen: Screen) -> Iterator[ScreenQuestion]:
    for role, elements in _by_role(screen).items():
        if len(elements) < 2:
            continue
        by_top = sorted(elements, key=lambda element: (element.box[1], element.box[3]))
        by_bottom = sorted(elements, key=lambda element: (element.box[3], element.box[1]))
        ends = (
            ("highest", by_top[0], by_top[1].box[1] >= by_top[0].box[3]),
            ("lowest", by_bottom[-1], by_bottom[-2].box[3] <= by_bottom[-1].box[1]),
        )
        for which, element, clear in ends:
            if clear and element.text:
                yield ScreenQuestion(
                    question=f"Which text has the {which} of the {PLURALS[role]} on this screen?",
                    answer=element.text,
                    box=element.box,
                )
