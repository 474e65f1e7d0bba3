"""How many tokens a stage wants of each ingredient in each kind of sample: short or long, with pictures or only text.

A kind that no share tells apart is the first one. Decided here: an ingredient's own share comes first and is never exceeded.
A share over kinds (``long_share``, ``text_share``) is then spread over the ingredients in proportion to what they want, as
far as they have such samples. Within one ingredient the two splits are made as independent as its samples allow: the long
text part is the product of both shares, moved into the range that the four kinds' tokens leave (the Frechet bounds of a 2 x 2
table). What still does not exist is left to the other kinds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from manifests.stage_spec import StageSpec

KINDS = ("short with pictures", "short text", "long with pictures", "long text")

Tokens = NDArray[np.float64]


def targets(stage: StageSpec, wanted: Tokens, available: Tokens) -> Tokens:
    """Tokens wanted by ingredient and kind, float64 [ingredients, 4].

    Args:
        wanted: tokens each ingredient wants in all, [ingredients].
        available: tokens there are once, by ingredient and kind, [ingredients, 4].
    """
    there = available * stage.epochs_max
    reach = np.minimum(wanted, there.sum(axis=1))
    long = _part(stage, stage.long_share, wanted, reach, there, (2, 3))
    text = _part(stage, stage.text_share, wanted, reach, there, (1, 3))
    low = np.maximum.reduce([long - there[:, 2], text - there[:, 1], long + text - reach, np.zeros_like(reach)])
    high = np.minimum.reduce([long, text, there[:, 3], there[:, 0] - reach + long + text])
    high = np.maximum(high, 0)
    both = np.clip(long * text / np.maximum(reach, 1.0), np.minimum(low, high), high)
    return np.stack([np.maximum(wanted - long - text + both, 0), text - both, long - both, both], axis=1)


def _part(
    stage: StageSpec, share: float | None, wanted: Tokens, reach: Tokens, there: Tokens, kinds: tuple[int, int]
) -> Tokens:
    """What each ingredient gives to a share of the stage's tokens: at least what its samples of other kinds leave open."""
    if share is None:
        return np.zeros_like(wanted)
    of_kind = there[:, kinds].sum(axis=1)
    least = np.maximum(0, reach - (there.sum(axis=1) - of_kind))
    return shared_out(stage.tokens * share, wanted, least, np.minimum(reach, of_kind))


def shared_out(amount: float, weights: Tokens, least: Tokens, most: Tokens) -> Tokens:
    """Shares ``amount`` in proportion to ``weights``, each between its limits: what one cannot bear, the others do.

    The sum is nearest to ``amount`` that the limits allow. Found by bisection of the factor that all weights are scaled by.
    """
    low, high = 0.0, float((most / weights).max(initial=0.0))
    for _ in range(200):
        middle = (low + high) / 2
        if np.clip(weights * middle, least, most).sum() < amount:
            low = middle
        else:
            high = middle
    return np.clip(weights * high, least, most)
