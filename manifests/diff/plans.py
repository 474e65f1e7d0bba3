"""Two plans, stage by stage: which packed sequences stayed, how full and how even they are, and the mixture.

A sequence's id is the hash of its stage and samples in order, so two plans share a sequence when they train on
the same row.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from manifests.diff.fields import FieldChange, changed_fields
from manifests.diff.sides import Side, Sides


@dataclass(frozen=True, kw_only=True)
class SequenceChange:
    """Packed sequences of one split of a stage.

    Attributes:
        same: in both plans; ``moved`` of them stand elsewhere in the order.
        new, gone: only in B, only in A.
    """

    split: str
    a: int
    b: int
    same: int
    moved: int
    new: int
    gone: int


@dataclass(frozen=True, kw_only=True)
class IngredientChange:
    """Tokens of one ingredient of the mixture; None where a plan does not name it."""

    task: str
    wanted_a: int | None
    wanted_b: int | None
    placed_a: int | None
    placed_b: int | None


@dataclass(frozen=True, kw_only=True)
class StageFigures:
    """A stage as one plan has it. ``unevenness``: dearest over mean step, in attention cost; None without a whole step."""

    name: str
    context: int
    sequences: int
    tokens: int
    fill: float
    steps: int
    unevenness: float | None


@dataclass(frozen=True, kw_only=True)
class StageChange:
    """One stage; a side is None where its plan has no such stage.

    Attributes:
        samples_same, samples_new, samples_gone: distinct training samples placed by both, only by B, only by A.
    """

    stage: int
    a: StageFigures | None
    b: StageFigures | None
    sequences: list[SequenceChange]
    samples_same: int
    samples_new: int
    samples_gone: int
    mixture: list[IngredientChange]


@dataclass(frozen=True, kw_only=True)
class PlanChange:
    """One plan beside another."""

    recipe_a: str
    recipe_b: str
    fields: list[FieldChange]
    stages: list[StageChange]


def planned_recipes(sides: Sides, side: Side) -> list[str]:
    """Recipes that a corpus is planned with."""
    return [row[0] for row in sides.rows(f"SELECT DISTINCT recipe FROM {side}.stages ORDER BY recipe")]


def compare_plans(sides: Sides, recipe_a: str, recipe_b: str) -> PlanChange:
    """Compares the plan of ``recipe_a`` in A with that of ``recipe_b`` in B."""
    chosen: dict[Side, str] = {"a": recipe_a, "b": recipe_b}
    stages: dict[Side, dict[int, dict[str, Any]]] = {side: _stages(sides, side, chosen[side]) for side in ("a", "b")}
    sequences = _sequences(sides, recipe_a, recipe_b)
    numbers = sorted(stages["a"].keys() | stages["b"].keys())
    samples = {number: _samples(sides, chosen, number) for number in numbers}
    specifications: dict[Side, dict[str, Any]] = {
        side: next((json.loads(row["specification"]) for row in rows.values()), {}) for side, rows in stages.items()
    }
    return PlanChange(
        recipe_a=recipe_a,
        recipe_b=recipe_b,
        fields=changed_fields(specifications["a"], specifications["b"]),
        stages=[
            StageChange(
                stage=number,
                a=_figures(sides, "a", stages["a"].get(number)),
                b=_figures(sides, "b", stages["b"].get(number)),
                sequences=sequences.get(number, []),
                samples_same=samples[number][0],
                samples_new=samples[number][1],
                samples_gone=samples[number][2],
                mixture=_mixture(stages["a"].get(number), stages["b"].get(number)),
            )
            for number in numbers
        ],
    )


def _stages(sides: Sides, side: Side, recipe: str) -> dict[int, dict[str, Any]]:
    names = ("stage", "name", "context", "sequences", "tokens", "fill", "steps", "shortfall", "specification")
    rows = sides.rows(f"SELECT {', '.join(names)} FROM {side}.stages WHERE recipe = ? ORDER BY stage", [recipe])
    return {row[0]: dict(zip(names, row, strict=True)) for row in rows}


def _figures(sides: Sides, side: Side, row: dict[str, Any] | None) -> StageFigures | None:
    if row is None:
        return None
    recipe = json.loads(row["specification"])
    per_step = next((int(stage["sequences_per_step"]) for stage in recipe["stages"] if stage["number"] == row["stage"]), 0)
    names = ("name", "context", "sequences", "tokens", "fill", "steps")
    figures = {name: row[name] for name in names}
    return StageFigures(**figures, unevenness=_unevenness(sides, side, recipe["name"], row["stage"], per_step))


def _unevenness(sides: Sides, side: Side, recipe: str, stage: int, per_step: int) -> float | None:
    """Dearest step over mean step, whole steps only, in the cost that the plan balanced."""
    if per_step < 1:
        return None
    price = "coalesce(flops, attention_cost)" if "flops" in sides.columns(side, "sequences") else "attention_cost"
    ((value,),) = sides.rows(
        f"""
        SELECT max(cost) / avg(cost) FROM (
            SELECT sum({price}) AS cost FROM {side}.sequences WHERE recipe = ? AND stage = ? AND split = 'train'
            GROUP BY position // ? HAVING count(*) = ?)
        """,
        [recipe, stage, per_step, per_step],
    )
    return None if value is None else round(float(value), 4)


def _sequences(sides: Sides, recipe_a: str, recipe_b: str) -> dict[int, list[SequenceChange]]:
    rows = sides.rows(
        """
        SELECT coalesce(a.stage, b.stage) AS stage, coalesce(a.split, b.split) AS split, count(a.stage), count(b.stage),
               count(*) FILTER (a.stage IS NOT NULL AND b.stage IS NOT NULL), count(*) FILTER (a.position <> b.position)
        FROM (SELECT stage, split, sequence_id, position FROM a.sequences WHERE recipe = ?) a
        FULL JOIN (SELECT stage, split, sequence_id, position FROM b.sequences WHERE recipe = ?) b
             ON a.stage = b.stage AND a.split = b.split AND a.sequence_id = b.sequence_id
        GROUP BY ALL ORDER BY stage, split DESC
        """,
        [recipe_a, recipe_b],
    )
    found: dict[int, list[SequenceChange]] = {}
    for stage, split, a, b, same, moved in rows:
        change = SequenceChange(split=split, a=a, b=b, same=same, moved=moved, new=b - same, gone=a - same)
        found.setdefault(stage, []).append(change)
    return found


def _samples(sides: Sides, recipes: dict[Side, str], stage: int) -> tuple[int, int, int]:
    """Distinct training samples of a stage that both plans place, only B, only A; one stage at a time keeps the join small."""
    placed = (
        "SELECT sample_id FROM {side}.segments WHERE recipe = $recipe_{side} AND stage = $stage AND split = 'train' "
        "AND epoch = 0"
    )
    a, b = placed.format(side="a"), placed.format(side="b")
    ((in_a, in_b, same),) = sides.rows(
        f"SELECT (SELECT count(*) FROM ({a})), (SELECT count(*) FROM ({b})), "
        f"(SELECT count(*) FROM ({a}) SEMI JOIN ({b}) USING (sample_id))",
        {"recipe_a": recipes["a"], "recipe_b": recipes["b"], "stage": stage},
    )
    return same, in_b - same, in_a - same


def _mixture(a: dict[str, Any] | None, b: dict[str, Any] | None) -> list[IngredientChange]:
    old, new = ({row["task"]: row for row in json.loads(side["shortfall"])["ingredients"]} if side else {} for side in (a, b))
    return [
        IngredientChange(
            task=task,
            wanted_a=old.get(task, {}).get("wanted"),
            wanted_b=new.get(task, {}).get("wanted"),
            placed_a=old.get(task, {}).get("placed"),
            placed_b=new.get(task, {}).get("placed"),
        )
        for task in dict.fromkeys([*old, *new])
    ]
