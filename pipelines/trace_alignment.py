"""Whether a recording's screenshots belong to its actions: their order, and what each action changed.

What is looked for is what a person would see. After an action that acts (anything but `STILL`), the next screenshot must show a
change; after text was typed or an option chosen, the change must touch the element. One step without is possible (a click into
a field that has the focus); when most steps that should show something do not, the screenshots are not those of the actions,
and the recording is quarantined.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageChops

from pipelines.items import Quarantined
from pipelines.screens import Box

STILL = frozenset({"done", "wait", "screenshot", "fail"})
WRITING = frozenset({"type", "select"})
LEVELS_MIN = 8
PIXELS_MIN = 4
MISALIGNED_SHARE = 0.5
JUDGED_MIN = 2
REACH_PIXELS = 4

Change = Literal["seen", "none", "elsewhere", "resized"]


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What a step changed on the screen, as the next screenshot shows it.

    Attributes:
        step: its place, from 0.
        expected: whether the action should have changed what is looked at.
        change: ``none``, ``elsewhere`` than on the element that was written to, ``resized`` (another screen), ``seen``.
    """

    step: int
    expected: bool
    change: Change

    @property
    def aligned(self) -> bool:
        """Whether action and screenshots fit together."""
        return not self.expected or self.change in ("seen", "resized")


def effect(step: int, action: str, box: Box | None, before: Image.Image, after: Image.Image) -> Effect:
    """Compares two screenshots.

    Args:
        action: its type.
        box: pixels of the element that it is about; None when it names none.
    """
    expected = action not in STILL
    if before.size != after.size:
        return Effect(step=step, expected=expected, change="resized")
    changed = np.asarray(ImageChops.difference(before, after)).max(axis=2) >= LEVELS_MIN
    if int(changed.sum()) < PIXELS_MIN:
        return Effect(step=step, expected=expected, change="none")
    if action in WRITING and box is not None:
        x0, y0 = (max(0, int(side) - REACH_PIXELS) for side in box[:2])
        x1, y1 = (int(side) + REACH_PIXELS for side in box[2:])
        if not changed[y0:y1, x0:x1].any():
            return Effect(step=step, expected=expected, change="elsewhere")
    return Effect(step=step, expected=expected, change="seen")


def check_effects(effects: Sequence[Effect]) -> None:
    """Refuses a recording most of whose actions changed nothing where they should have.

    Raises:
        Quarantined: ``misaligned``, with the steps.
    """
    judged = [each for each in effects if each.expected]
    wrong = [each for each in judged if not each.aligned]
    if len(judged) >= JUDGED_MIN and len(wrong) > MISALIGNED_SHARE * len(judged):
        steps = ", ".join(f"{each.step} ({each.change})" for each in wrong[:8])
        detail = f"{len(wrong)} of {len(judged)} actions did not change the screen where they act: steps {steps}"
        raise Quarantined("check", "misaligned", detail, "trace")


def check_order(names: Sequence[str], actions: Sequence[str]) -> None:
    """Refuses steps that are out of order.

    Args:
        names: file names of the screenshots, step by step.
        actions: types of the actions.

    Raises:
        Quarantined: ``step_order``: numbers in the names fall, or something follows ``done``.
    """
    numbers = [re.fullmatch(r"\D*(\d+)\.\w+", name) for name in names]
    told = [(place, int(found[1])) for place, found in enumerate(numbers) if found]
    for (_, before), (place, after) in itertools.pairwise(told):
        if after < before:
            detail = f"step {place} shows {names[place]}, which comes before {names[place - 1]}"
            raise Quarantined("check", "step_order", detail, "trace")
    if "done" in actions[:-1]:
        place = actions.index("done")
        raise Quarantined("check", "step_order", f"step {place} is done, but {len(actions) - place - 1} follow", "trace")
