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
    long = _part(stage, stage.long_share, wanted, there[:, 2] + there[:, 3])
    text = _part(stage, stage.text_share, wanted, there[:, 1] + there[:, 3])
    reach = np.minimum(wanted, there.sum(axis=1))
    low = np.maximum.reduce([long - there[:, 2], text - there[:, 1], long + text - wanted, np.zeros_like(wanted)])
    high = np.minimum.reduce([long, text, there[:, 3], there[:, 0] - reach + long + text])
    high = np.maximum(high, 0)
    both = np.clip(long * text / np.maximum(wanted, 1.0), np.minimum(low, high), high)
    return np.stack([np.maximum(wanted - long - text + both, 0), text - both, long - both, both], axis=1)


def _part(stage: StageSpec, share: float | None, wanted: Tokens, there: Tokens) -> Tokens:
    """What each ingredient gives to a share of the stage's tokens."""
    if share is None:
        return np.zeros_like(wanted)
    return shared_out(stage.tokens * share, wanted, np.minimum(wanted, there))


def shared_out(amount: float, weights: Tokens, limits: Tokens) -> Tokens:
    """Shares ``amount`` in proportion to ``weights``, none above its limit: what one cannot bear, the others do."""
    shares = np.zeros(len(weights))
    for _ in range(len(weights)):
        open_ = shares < limits
        left = amount - shares.sum()
        if left <= 0 or not open_.any():
            break
        shares[open_] = np.minimum(limits[open_], shares[open_] + left * weights[open_] / weights[open_].sum())
    return shares
