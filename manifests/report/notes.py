"""What a data lead should look at first: sums that do not hold, losses, shortfalls, uneven steps, split changes.

Thresholds are stated in the text of each note, so that it can be judged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from manifests.diff.difference import Difference
from manifests.report.contents import Contents
from manifests.report.intake import Intake
from manifests.report.planned import PlannedStage
from manifests.report.training import Training

LOST, FULL, ABOVE_BOUND, EVEN, RISE = 0.05, 0.95, 0.01, 1.1, 0.01


@dataclass(frozen=True, kw_only=True)
class Note:
    """One line, with the section that says more."""

    level: Literal["bad", "note"]
    text: str
    section: str


def read_notes(
    intake: Intake,
    contents: Contents,
    plans: dict[str, list[PlannedStage]],
    training: Training | None,
    runs: list[dict[str, Any]],
    difference: Difference | None,
) -> list[Note]:
    """The worst first."""
    notes: list[Note] = []

    def say(level: Literal["bad", "note"], text: str, section: str) -> None:
        notes.append(Note(level=level, text=text, section=section))

    if difference and difference.sources:
        for way, count in difference.sources.crossings.items():
            say("bad", f"{count:,} sources moved {way} since the other corpus", "changes")
    for proof in intake.proofs:
        if not proof.holds:
            say("bad", f"a sum does not hold: {proof.what}: {proof.left:,} is not {proof.right:,}", "intake")
    if intake.files and intake.inputs["quarantined"] > LOST * intake.files:
        share = intake.inputs["quarantined"] / intake.files
        say("note", f"{share:.1%} of the inputs are quarantined (above {LOST:.0%})", "losses")
    if intake.unknown:
        say("note", f"{intake.unknown:,} files have no known licence", "intake")
    splits = {row[0] for row in contents.splits}
    if contents.samples and "heldout" not in splits:
        say("note", "no sample is held out: nothing can be evaluated", "contents")
    for recipe, stages in plans.items():
        for stage in stages:
            _stage_notes(say, recipe, stage)
    for row in training.stages if training else []:
        before, after = row.get("heldout_before"), row.get("heldout_after")
        if isinstance(before, int | float) and isinstance(after, int | float) and after > before + RISE:
            say("note", f"stage {row.get('stage')}: the held-out loss rose from {before:.3f} to {after:.3f}", "training")
    if runs and runs[0].get("outcome") == "failed":
        say("note", f"the last run failed: {runs[0]['step']}", "log")
    return sorted(notes, key=lambda note: note.level)


def _stage_notes(say: Any, recipe: str, stage: PlannedStage) -> None:
    f, name = stage.figures, f"{recipe} stage {stage.figures['stage']}"
    short = [entry for entry in stage.mixture if entry.short]
    if short:
        listed = ", ".join(f"{entry.task} {entry.missing / max(1, entry.wanted):.0%}" for entry in short[:6])
        say("note", f"{name} is short of what its mixture wants: {listed}{' …' if len(short) > 6 else ''}", "mixture")
    for what, wanted, placed in stage.shares:
        if placed < (1 - 0.02) * wanted:
            say("note", f"{name} has {placed / max(1, wanted):.0%} of the tokens wanted in {what}", "mixture")
    if f["fill"] < FULL:
        say("note", f"{name} is {f['fill']:.1%} full (below {FULL:.0%})", "packing")
    above = f["sequences"] - stage.packing.bound
    if above > ABOVE_BOUND * f["sequences"] and above > 1:
        say("note", f"{name} has {above:,} sequences above the lower bound of {stage.packing.bound:,}", "packing")
    if stage.balance.per_step > 1 and stage.balance.planned is not None and stage.balance.planned > EVEN:
        say("note", f"{name}: the dearest step costs {stage.balance.planned:.2f} x the mean (above {EVEN:g})", "balance")
    if not f["heldout_sequences"]:
        say("note", f"{name} has no held-out sequence", "mixture")
