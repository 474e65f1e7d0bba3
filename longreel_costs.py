"""What training would cost, before anything is trained: `longreel train --dry-run`, and the last tables of `plan --dry-run`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from longreel_terminal import emit, figures_table, out, say

if TYPE_CHECKING:
    from manifests.recipe import Recipe
    from trainer.estimate import PhaseEstimate

GIB = 2**30


def dry_run(
    corpus: Path | None, recipe: Recipe, stages: list[int], given: dict[str, int | None], *, gpu: str, gpus: int, mfu: float,
    network: float | None, as_json: bool,
) -> None:  # fmt: skip
    """Prints what training stages would cost; a plan that cannot fit ends the process with 1."""
    from trainer.estimate import estimate

    recipe, figures, where = figures_of(corpus, recipe)
    figures = [counted for counted in figures if counted["stage"] in stages]
    costs = estimate(recipe, figures, gpu=gpu, gpus=gpus, mfu=mfu, network=network, **given)
    refused = refusals(recipe, figures, costs, gpu=gpu, gpus=gpus, given=given)
    values = {"figures": where, "gpu": gpu, "gpus": gpus, "phases": rows(costs), "refused": refused}
    emit(values, as_json, lambda: show_costs(costs, gpu, mfu, network, where))
    for line in refused:
        say(line)
    if refused:
        raise typer.Exit(1)


def figures_of(corpus: Path | None, recipe: Recipe) -> tuple[Recipe, list[dict[str, Any]], str]:
    """The recipe as planned, its figures by stage, and where they come from. Without a corpus they are assumed."""
    from trainer.figures import FILL, VISUAL, assumed_figures, planned_figures

    if corpus is None:
        return recipe, assumed_figures(recipe), (
            f"no CORPUS: assumed is each stage's whole budget of tokens, in sequences {FILL:.0%} full\n"
            f"of one sample each (the dearest there are), pictures in {VISUAL:.0%} of the visual budget"
        )  # fmt: skip
    from manifests.catalog import Catalog
    from trainer.stage_manifest import read_stages

    catalog = Catalog(corpus)
    planned = next(iter(read_stages(catalog, recipe.name).values())).recipe
    return planned, planned_figures(catalog, planned), f"as planned in {corpus}"


def rows(costs: Sequence[PhaseEstimate]) -> list[dict[str, Any]]:
    """For programs."""
    return [
        dataclasses.asdict(cost)
        | {
            "step_s": cost.step_s,
            "wall_hours": cost.wall_hours,
            "gpu_hours": cost.gpu_hours,
            "memory_total": cost.memory.total,
            "too_large": cost.too_large,
            "options": cost.layout.options,
        }
        for cost in costs
    ]


def refusals(
    recipe: Recipe, figures: Sequence[Mapping[str, Any]], costs: Sequence[PhaseEstimate], *, gpu: str, gpus: int,
    given: Mapping[str, int | None],
) -> list[str]:  # fmt: skip
    """For each phase that does not fit why, and for each such stage what would fit."""
    from trainer.refusal import remedy, why

    lines = []
    for stage in sorted({cost.stage for cost in costs if not cost.fits}):
        lines += [line for cost in costs if cost.stage == stage and not cost.fits for line in why(cost)]
        lines.append(f"  {remedy(recipe, figures, stage, gpu=gpu, gpus=gpus, given=given)}")
    return lines


def show_costs(costs: Sequence[PhaseEstimate], gpu: str, mfu: float, network: float | None, where: str) -> None:
    """Plan, time and memory, a row a phase, at most 80 columns wide."""
    from trainer.gpus import GPUS_A_NODE, gpu_named
    from trainer.traffic import with_network

    kind = with_network(gpu_named(gpu), network)
    for line in where.splitlines():
        say(line)
    say(f"on {costs[0].layout.ranks:,} x {gpu} at {mfu:.0%} of their peak; while a GPU sends, at {kind.near / 1e9:,.0f} GB/s")
    say(f"in a node of {GPUS_A_NODE} and {kind.far / 1e9:,.0f} GB/s beyond, it computes nothing")
    out.print()
    plan = figures_table("stage", "phase", "ZeRO", "share a\nsequence", "share\nexperts", "checkpoint\nGiB", "model\nGiB")
    time = figures_table(
        "stage", "phase", "steps", "micro-\nsteps", "tokens a\nGPU, step", "compute\ns", "GiB\nsent", "send\ns", "days"
    )
    space = figures_table("stage", "phase", "weights", "gathered", "grads", "optim.", "activ.", "GiB a\nGPU", "room")
    for cost in costs:
        which = (str(cost.stage), cost.phase)
        shared = (str(size) if size > 1 else "-" for size in (cost.layout.sequence, cost.layout.expert))
        plan.add_row(*which, str(cost.layout.zero), *shared, *(_figure(size / GIB) for size in (cost.checkpoint, cost.model)))
        seconds = (_figure(cost.compute_s), _figure(cost.traffic.total / GIB), _figure(cost.traffic.seconds))
        time.add_row(
            *which, f"{cost.steps:,}", f"{cost.passes:,}", f"{cost.step_tokens:,.0f}", *seconds, _figure(cost.wall_hours / 24)
        )
        m = cost.memory
        parts = (m.weights, m.gathered, m.gradients, m.optimiser, m.activations, m.total)
        space.add_row(*which, *(_figure(size / GIB) for size in (*parts, cost.room)))
    for table in (plan, time, space):
        out.print(table)
        out.print()
    say("GiB a GPU, at most: activations of one sample that is as long as the context")


def _figure(value: float) -> str:
    """Three digits where they say something."""
    if value == 0:
        return "-"
    if value < 0.01:
        return "<0.01"
    return f"{value:,.2f}" if value < 1 else f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"
