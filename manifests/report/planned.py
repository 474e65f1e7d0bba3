"""The stages as they are planned: mixture beside what was wanted, packing beside its lower bound, cost step by step.

All figures are sums that DuckDB makes over ``sequences`` and ``segments``; no row of either is read into Python.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from manifests.catalog import Catalog

FILL_BINS = 20
POINTS = 240
SHORT = 0.02
"""Share of what an ingredient wants, above which its shortfall is named."""


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

    @property
    def short(self) -> bool:
        """Whether enough is missing to be named."""
        return self.missing > SHORT * self.wanted


@dataclass(frozen=True, kw_only=True)
class Packing:
    """How a stage is packed.

    Attributes:
        fill: training sequences whose fill lies in each of `FILL_BINS` equal parts of 0 to 100%.
        fill_min: the emptiest training sequence, 0 to 1.
        bound: sequences that any packing needs; from the plan, or tokens over context, whichever is known.
        longest: tokens of the longest sample placed.
        most_samples: samples of the sequence that holds most.
        distinct: different samples placed.
        epochs: how often a sample was placed: times, samples placed so often, at least.
    """

    fill: list[int]
    fill_min: float
    bound: int
    longest: int
    most_samples: int
    distinct: int
    epochs: list[tuple[int, int]]


@dataclass(frozen=True, kw_only=True)
class Balance:
    """How even the steps of a stage are, in the cost model of the plan; whole steps only.

    Attributes:
        per_step: sequences of an optimiser step.
        planned, chance: dearest over mean step, as planned and in an order by hash.
        visual: most over mean visual tokens of a step, as planned; None without pictures.
        ranks, planned_ranks, chance_ranks: the same within a step over this many ranks; None where the plan does not say.
        curve, chance_curve: dearest step over the mean, in up to `POINTS` equal runs of steps.
    """

    per_step: int
    planned: float | None
    chance: float | None
    visual: float | None
    ranks: int | None
    planned_ranks: float | None
    chance_ranks: float | None
    curve: list[float]
    chance_curve: list[float]


@dataclass(frozen=True, kw_only=True)
class PlannedStage:
    """One stage of one recipe.

    Attributes:
        figures: the columns of the ``stages`` table but the specification.
        mixture: its ingredients.
        shares: what, tokens wanted, tokens placed: of long samples and of text alone, where the stage has such shares.
        left_out: training samples left out, by reason.
        over_cap: samples passed over because their source had given its share.
        top_share: share of the stage's tokens that its largest source gives; None where the plan does not say.
    """

    figures: dict[str, Any]
    mixture: list[Ingredient]
    shares: list[tuple[str, int, int]]
    left_out: dict[str, int]
    over_cap: int
    top_share: float | None
    packing: Packing
    balance: Balance


def read_stages(catalog: Catalog) -> dict[str, list[PlannedStage]]:
    """The planned stages of every recipe; empty when nothing is planned."""
    relation = catalog.connection.execute("SELECT * FROM stages ORDER BY recipe, stage")
    names = [column[0] for column in relation.description or []]
    stages: dict[str, list[PlannedStage]] = {}
    for row in relation.fetchall():
        figures = dict(zip(names, row, strict=True))
        report = json.loads(figures.pop("shortfall"))
        specification = json.loads(figures.pop("specification"))
        per_step = next(
            (int(stage["sequences_per_step"]) for stage in specification["stages"] if stage["number"] == figures["stage"]), 1
        )
        stages.setdefault(figures["recipe"], []).append(
            PlannedStage(
                figures=figures,
                mixture=_mixture(report.get("ingredients", [])),
                shares=_shares(report),
                left_out={reason: count for reason, count in report.get("left_out", {}).items() if count},
                over_cap=int(report.get("over_source_cap") or 0),
                top_share=_top_share(figures),
                packing=_packing(catalog, figures),
                balance=_balance(catalog, figures, max(1, per_step)),
            )
        )
    return stages


def _shares(report: dict[str, Any]) -> list[tuple[str, int, int]]:
    found = []
    if share := report.get("long"):
        found.append((f"samples above {share['above']:,} tokens", share["wanted"], share["placed"]))
    if share := report.get("text"):
        found.append(("samples without pictures", share["wanted"], share["placed"]))
    return found


def _top_share(figures: dict[str, Any]) -> float | None:
    """Tokens of the source that gives most, over all tokens."""
    try:
        top = json.loads(figures.get("top_sources") or "null")
        return float(top[0]["tokens"]) / int(figures["tokens"]) if top else None
    except (ValueError, TypeError, KeyError, ZeroDivisionError):
        return None


def _packing(catalog: Catalog, figures: dict[str, Any]) -> Packing:
    stage = [figures["recipe"], figures["stage"]]
    rows = catalog.connection.execute(
        f"""
        SELECT least(floor(tokens::BIGINT * {FILL_BINS} / capacity), {FILL_BINS - 1})::INT AS part, count(*),
               min(tokens / capacity), max(segments)
        FROM sequences WHERE recipe = ? AND stage = ? AND split = 'train' GROUP BY part ORDER BY part
        """,
        stage,
    ).fetchall()
    bins = [0] * FILL_BINS
    for part, count, _, _ in rows:
        bins[part] = count
    placed = catalog.connection.execute(
        "SELECT epoch, count(*), max(token_end - token_start) FROM segments "
        "WHERE recipe = ? AND stage = ? AND split = 'train' GROUP BY epoch ORDER BY epoch",
        stage,
    ).fetchall()
    simple = -(-int(figures["tokens"]) // max(1, int(figures["context"])))
    return Packing(
        fill=bins,
        fill_min=min((emptiest for _, _, emptiest, _ in rows), default=0.0),
        bound=max(simple, int(figures.get("bound") or 0)),
        longest=max((longest for _, _, longest in placed), default=0),
        most_samples=max((most for _, _, _, most in rows), default=0),
        distinct=placed[0][1] if placed else 0,
        epochs=[(epoch + 1, count) for epoch, count, _ in placed],
    )


def _balance(catalog: Catalog, figures: dict[str, Any], per_step: int) -> Balance:
    columns = {row[0] for row in catalog.connection.execute("DESCRIBE sequences").fetchall()}
    price = "coalesce(flops, attention_cost)" if "flops" in columns else "attention_cost"
    rows = catalog.connection.execute(
        f"""
        WITH numbered AS (
            SELECT position, {price} AS cost, visual_tokens,
                   row_number() OVER (ORDER BY md5(sequence_id), sequence_id) - 1 AS by_chance
            FROM sequences WHERE recipe = $recipe AND stage = $stage AND split = 'train'
        ), steps AS (
            SELECT 'planned' AS kind, position // $per AS step, sum(cost) AS cost, sum(visual_tokens) AS visual FROM numbered
            GROUP BY step HAVING count(*) = $per
            UNION ALL SELECT 'chance', by_chance // $per AS step, sum(cost), sum(visual_tokens) FROM numbered
            GROUP BY step HAVING count(*) = $per
        ), shared AS (
            SELECT kind, step, cost / avg(cost) OVER (PARTITION BY kind) AS load,
                   visual / nullif(avg(visual) OVER (PARTITION BY kind), 0) AS pictures,
                   count(*) OVER (PARTITION BY kind) AS steps
            FROM steps
        )
        SELECT kind, step * least({POINTS}, steps) // steps AS run, max(load)::DOUBLE, max(pictures)::DOUBLE
        FROM shared GROUP BY kind, run ORDER BY kind, run
        """,
        {"recipe": figures["recipe"], "stage": figures["stage"], "per": per_step},
    ).fetchall()
    curves = {kind: [row[2] for row in rows if row[0] == kind and row[2] is not None] for kind in ("planned", "chance")}
    said = _said(figures.get("unevenness"))
    return Balance(
        per_step=per_step,
        planned=max(curves["planned"], default=None),
        chance=max(curves["chance"], default=None),
        visual=max((row[3] for row in rows if row[0] == "planned" and row[3] is not None), default=None),
        ranks=said.get("ranks"),
        planned_ranks=said.get("planned_ranks"),
        chance_ranks=said.get("shuffled_ranks"),
        curve=curves["planned"],
        chance_curve=curves["chance"],
    )


def _said(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _mixture(entries: list[dict[str, Any]]) -> list[Ingredient]:
    wanted = sum(entry["wanted"] for entry in entries) or 1
    placed = sum(entry["placed"] for entry in entries) or 1
    return [
        Ingredient(**{key: entry[key] for key in ("task", "wanted", "placed", "available", "epochs")},
                   share_wanted=entry["wanted"] / wanted, share_placed=entry["placed"] / placed)
        for entry in entries
    ]  # fmt: skip
