"""The stages as they are planned: figures, how full the sequences are, and the mixture beside what was wanted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from manifests.catalog import Catalog

FILL_BINS = 20


@dataclass(frozen=True, kw_only=True)
class Ingredient:
    """One line of a stage's mixture, in tokens."""

    task: str
    wanted: int
    placed: int
    available: int
    epochs: float
    share_wanted: float
    share_placed: float

    @property
    def missing(self) -> int:
        """Tokens wanted and not found."""
        return max(0, self.wanted - self.placed)


@dataclass(frozen=True, kw_only=True)
class PlannedStage:
    """One stage of one recipe.

    Attributes:
        figures: the columns of the ``stages`` table.
        fill: training sequences whose fill lies in each of `FILL_BINS` equal parts of 0 to 100%.
        fill_min: the emptiest training sequence, 0 to 1.
        mixture: its ingredients.
        long: tokens ``wanted`` and ``placed`` in samples ``above`` so many tokens; None when the stage has no such share.
        left_out: training samples left out, by reason.
    """

    figures: dict[str, Any]
    fill: list[int]
    fill_min: float
    mixture: list[Ingredient]
    long: dict[str, int] | None
    left_out: dict[str, int]


def read_stages(catalog: Catalog) -> dict[str, list[PlannedStage]]:
    """The planned stages of every recipe; empty when nothing is planned."""
    relation = catalog.connection.execute("SELECT * EXCLUDE (specification) FROM stages ORDER BY recipe, stage")
    names = [column[0] for column in relation.description or []]
    stages: dict[str, list[PlannedStage]] = {}
    for row in relation.fetchall():
        figures = dict(zip(names, row, strict=True))
        report = json.loads(figures.pop("shortfall"))
        bins, emptiest = _fill(catalog, figures["recipe"], figures["stage"])
        stages.setdefault(figures["recipe"], []).append(
            PlannedStage(
                figures=figures,
                fill=bins,
                fill_min=emptiest,
                mixture=_mixture(report.get("ingredients", [])),
                long=report.get("long"),
                left_out={reason: count for reason, count in report.get("left_out", {}).items() if count},
            )
        )
    return stages


def _fill(catalog: Catalog, recipe: str, stage: int) -> tuple[list[int], float]:
    query = f"""
        SELECT least(floor(tokens::BIGINT * {FILL_BINS} / capacity), {FILL_BINS - 1})::INT AS part, count(*),
               min(tokens / capacity)
        FROM sequences WHERE recipe = ? AND stage = ? AND split = 'train' GROUP BY part ORDER BY part
    """
    bins = [0] * FILL_BINS
    rows = catalog.connection.execute(query, [recipe, stage]).fetchall()
    for part, count, _ in rows:
        bins[part] = count
    return bins, min((emptiest for _, _, emptiest in rows), default=0.0)


def _mixture(entries: list[dict[str, Any]]) -> list[Ingredient]:
    wanted = sum(entry["wanted"] for entry in entries) or 1
    placed = sum(entry["placed"] for entry in entries) or 1
    return [
        Ingredient(**{key: entry[key] for key in ("task", "wanted", "placed", "available", "epochs")},
                   share_wanted=entry["wanted"] / wanted, share_placed=entry["placed"] / placed)
        for entry in entries
    ]  # fmt: skip
