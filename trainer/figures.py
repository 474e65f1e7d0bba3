"""The figures of a plan that its cost follows from: counted in a corpus, or assumed where there is none yet.

Assumed of a stage: its whole budget of tokens, in sequences that are `FILL` of the context long, each of them one sample, whose
pictures take `VISUAL` of the visual budget. One sample a sequence is the dearest that a sequence can be: attention inside
short samples is cheaper.
"""

from __future__ import annotations

import math
from typing import Any

from manifests.catalog import Catalog
from manifests.errors import UsageError
from manifests.recipe import Recipe
from model.costs import visible_pairs

FILL, VISUAL = 0.97, 0.5


def planned_figures(catalog: Catalog, recipe: Recipe) -> list[dict[str, Any]]:
    """Of the plan of a recipe, by stage, from its training segments.

    Raises:
        UsageError: nothing is planned for the recipe.
    """
    rows = catalog.connection.execute(
        "WITH placed AS (SELECT stage, token_end - token_start AS n, least(token_end - token_start, ?) AS near, "
        "visual_tokens FROM segments WHERE recipe = ? AND split = 'train') "
        "SELECT stage, any_value(stages.sequences), sum(n), sum(placed.visual_tokens), sum(n * (n + 1) // 2), "
        "sum(near * (near + 1) // 2 + ? * (n - near)) FROM placed JOIN stages USING (stage) "
        "WHERE stages.recipe = ? GROUP BY stage ORDER BY stage",
        [recipe.model.top_k, recipe.name, recipe.model.top_k, recipe.name],
    ).fetchall()
    folder = catalog.corpus.folder
    if not rows:
        raise UsageError(
            f"{folder} has no plan for recipe {recipe.name!r}: run `longreel plan {folder} --recipe {recipe.name}`, "
            f"or leave CORPUS out to estimate the recipe alone"
        )
    names = ("stage", "sequences", "tokens", "visual_tokens", "visible_pairs", "read_pairs")
    found = [dict(zip(names, map(int, row), strict=True)) for row in rows]
    return [f | {"steps": -(-f["sequences"] // recipe.stages[f["stage"]].sequences_per_step)} for f in found]


def assumed_figures(recipe: Recipe, *, fill: float = FILL, visual: float = VISUAL) -> list[dict[str, Any]]:
    """What the recipe alone says, by stage; see the module's assumptions.

    Raises:
        UsageError: a share that is none.
    """
    if not 0 < fill <= 1 or not 0 <= visual <= 1:
        raise UsageError(f"fill={fill} must be in (0, 1] and the share of the visual budget, {visual}, in [0, 1]")
    figures = []
    for stage in recipe.stages:
        length = max(1, round(fill * stage.context))
        sequences = max(1, round(stage.tokens / length))
        figures.append({
            "stage": stage.number,
            "sequences": sequences,
            "steps": math.ceil(sequences / stage.sequences_per_step),
            "tokens": sequences * length,
            "visual_tokens": round(sequences * min(visual * stage.visual_budget, length)),
            "visible_pairs": sequences * visible_pairs(length),
            "read_pairs": sequences * visible_pairs(length, recipe.model.top_k),
        })  # fmt: skip
    return figures
