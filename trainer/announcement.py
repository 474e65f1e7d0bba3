"""What a stage says when it starts: which parts train, how fast they learn, and what it will cost.

    stage 2 verified                  indexer warm-up        sparse
      vision            1,234,567              -            1.0e-04
      ...
      trained parameters                  126,336         5,315,072
      attention                            warmup            sparse
      steps                                    28                54
      tokens                               41,000            79,000
      operations                          1.2e+13           3.4e+13
      memory for tensors, at most         0.1 GiB           0.2 GiB
      expected                               12 s              43 s

Operations and memory are `trainer.estimate`'s and `trainer.memory`'s; memory is an upper bound, for a sequence as long as the
context. The time is the operations over the rate of the latest measured steps, this stage's or an earlier one's: a first guess
where the next phase works differently, better than tokens a second, which fall as contexts grow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from manifests.recipe import Recipe
from model.config import ModelConfig
from model.costs import parameters
from trainer.estimate import training_flops
from trainer.layout import Layout
from trainer.memory import memory
from trainer.stage_manifest import StageManifest
from trainer.stages import Phase, trained_parts

# Steps that the measured rate is taken over.
RATE_STEPS = 20


def announcement(
    recipe: Recipe,
    config: ModelConfig,
    manifest: StageManifest,
    phases: Sequence[Phase],
    *,
    counted: Mapping[str, Any],
    layout: Layout,
    lines: Sequence[Mapping[str, Any]],
) -> str:
    """The table of a stage, several lines.

    Args:
        counted: the stage's figures (`trainer.figures.planned_figures`).
        layout: how its ranks share the work.
        lines: of ``metrics.jsonl``, what was trained before.
    """
    sizes = parameters(config)
    rows = [(f"stage {manifest.spec.number} {manifest.spec.name}", "", [phase.spec.name for phase in phases])]
    for part, size in sizes.items():
        rates = [_rate(phase, part) for phase in phases]
        rows.append((f"  {part}", f"{size:,}", rates))
    trained = [sum(sizes[part] for part in trained_parts(phase.spec)) for phase in phases]
    rows.append(("  trained parameters", f"of {sum(sizes.values()):,}", [f"{count:,}" for count in trained]))
    rows.append(("  attention", "", [phase.spec.attention for phase in phases]))
    shares = [(phase.last - phase.first) / max(manifest.steps, 1) for phase in phases]
    rows.append(("  steps", f"{manifest.steps:,}", [f"{phase.last - phase.first:,}" for phase in phases]))
    rows.append(("  tokens", f"{counted['tokens']:,}", [f"{share * counted['tokens']:,.0f}" for share in shares]))
    flops = [share * training_flops(recipe, config, phase.spec, counted) for share, phase in zip(shares, phases, strict=True)]
    rows.append(("  operations", f"{sum(flops):.2g}", [f"{count:.2g}" for count in flops]))
    held = [memory(recipe, config, manifest.spec, phase.spec, layout).total for phase in phases]
    rows.append(("  memory for tensors, at most", "", [f"{size / 2**30:,.2f} GiB" for size in held]))
    rate = measured_rate(lines)
    times = ["not measured yet" if rate is None else duration(count / rate) for count in flops]
    rows.append(("  expected time", "" if rate is None else duration(sum(flops) / rate), times))
    widths = [max(len(row[0]) for row in rows), max(len(row[1]) for row in rows)]
    columns = [max(len(row[2][index]) for row in rows) for index in range(len(phases))]
    return "\n".join(
        f"{label:<{widths[0]}}  {whole:>{widths[1]}}  "
        + "  ".join(f"{value:>{width}}" for value, width in zip(values, columns, strict=True))
        for label, whole, values in rows
    )


def _rate(phase: Phase, part: str) -> str:
    """A part's peak learning rate in a phase, or a dash where it is frozen."""
    if part not in trained_parts(phase.spec):
        return "-"
    return f"{phase.spec.learning_rates.given.get(part, phase.spec.learning_rate):.1e}"


def measured_rate(lines: Sequence[Mapping[str, Any]]) -> float | None:
    """Operations a second over the latest steps; None before the first."""
    latest = [line for line in lines if line.get("flops") and line.get("seconds")][-RATE_STEPS:]
    seconds = sum(line["seconds"] for line in latest)
    return sum(line["flops"] for line in latest) / seconds if seconds else None


def duration(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
