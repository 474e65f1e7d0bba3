"""The commands that look at training: runs, which shows and compares runs, and evaluate, which examines a model."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from longreel_terminal import EXIT_CODES, CorpusArgument, JsonOption, emit, figures_table, out, say, showing
from manifests.errors import UsageError
from manifests.printable import printable

if TYPE_CHECKING:
    from trainer.runs import RunRead

app = typer.Typer()

# Of the lines of a chart, in the order of the runs.
COLOURS = ("cyan", "magenta", "yellow", "green", "red", "blue")
CHART = (78, 14)
SKIPPED_SHOWN = 5


@app.command(epilog=EXIT_CODES)
def runs(
    folders: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders that `longreel train --out` wrote, finished or not.")
    ],
    figure: Annotated[
        str,
        typer.Option(metavar="NAME", help="The curve: loss, indexer_loss, indexer_recall, grad_norm, tokens_per_s, mfu, ..."),
    ] = "loss",
    by: Annotated[
        str | None, typer.Option("--by", metavar="AXIS", help="Tell losses apart by task, modality, context or duration.")
    ] = None,
    stage: Annotated[int | None, typer.Option(metavar="N", help="Only this stage.")] = None,
    points: Annotated[int, typer.Option(metavar="N", min=1, help="With several runs: points at which they are compared.")] = 8,
    as_json: JsonOption = False,
) -> None:
    """Show a run's stages and curves, or compare runs at the same number of trained tokens.

    `longreel runs RUN`

    `longreel runs RUN --by task --stage 2`

    `longreel runs RUN OTHER --figure indexer_recall`
    """
    from trainer.runs import AXES, at_same_tokens, read_run

    if by is not None and by not in AXES:
        raise UsageError(f"--by {by!r} is no axis: {', '.join(AXES)}")
    read = [read_run(folder) for folder in folders]
    for run in read:
        if stage is not None and stage not in {each.stage for each in run.stages}:
            has = ", ".join(str(each.stage) for each in run.stages) or "none"
            raise UsageError(f"{run.folder} has no stage {stage}: it has {has}")
    curves = [run.curve(figure, stage=stage) for run in read]
    if not any(curves):
        raise UsageError(f"no step has a figure {figure!r}{known_figures(read)}")
    compared = at_same_tokens(read, points=points, figure=figure) if len(read) > 1 else []

    def show() -> None:
        from trainer.charts import chart

        for number, run in enumerate(read):
            _show_run(run, COLOURS[number % len(COLOURS)] if len(read) > 1 else "bold")
        out.print()
        out.print(Text(f"{figure} against trained tokens", style="bold"))
        width, height = min(CHART[0], out.width), CHART[1]
        marks = [edge for edge in _stage_edges(read[0]) if len(read) == 1 and stage is None]
        for row in chart(curves, width=width, height=height, x_label="tokens", marks=marks):
            line = Text(no_wrap=True, overflow="crop")
            for piece, owner in row:
                line.append(piece, style="dim" if owner is None else COLOURS[owner % len(COLOURS)])
            out.print(line)
        if by is not None:
            for run in read:
                out.print()
                _show_split(run, by, stage)
        if compared:
            out.print()
            _show_compared(read, compared, figure)

    value: dict[str, Any] = {"runs": [_value(run, figure, by, stage) for run in read]}
    if compared:
        value["compared"] = {"figure": figure, "points": [{"tokens": tokens, "values": row} for tokens, row in compared]}
    emit(value, as_json, show)


@app.command(epilog=EXIT_CODES)
def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A RUN, or a model's folder with config.json.")],
    corpus: CorpusArgument,
    recipe: Annotated[
        str | None, typer.Option("--recipe", "-r", metavar="NAME", help="The plan that is asked about, if there are several.")
    ] = None,
    stage: Annotated[int | None, typer.Option("--stage", "-s", metavar="N", help="Of a RUN: this stage's model.")] = None,
    folder: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="For the answers; default: RUN/evaluation/stageN.")
    ] = None,
    only: Annotated[str | None, typer.Option(metavar="WHAT", help="heldout or needle; default: both.")] = None,
    attention: Annotated[str, typer.Option(metavar="LIST", help="Ways of attention, compared.")] = "dense,sparse",
    kinds: Annotated[str, typer.Option("--haystacks", metavar="LIST", help="text, video.")] = "text,video",
    lengths: Annotated[
        str | None, typer.Option(metavar="LIST", help="Tokens of a haystack; default: 1/8 to all of the context.")
    ] = None,
    depths: Annotated[str, typer.Option(metavar="LIST", help="Percent of the haystack before it.")] = "0,25,50,75,100",
    repeats: Annotated[int, typer.Option(metavar="N", min=1, help="Cases of each length and depth.")] = 4,
    answers: Annotated[int, typer.Option(metavar="N", min=2, help="Answers to choose from; chance is 1 / N.")] = 8,
    seed: Annotated[int, typer.Option(metavar="N", help="What the cases are drawn from.")] = 17,
    as_json: JsonOption = False,
) -> None:
    """Examine a model on held-out data: loss by group, and needles in haystacks by depth and length, dense against sparse.

    A needle is a sentence with a code in real held-out text, or a shape drawn over one of many real held-out frames. It is
    found when the model thinks the right answer the likeliest; what the model writes is checked by a verifier beside it. Stop
    it whenever you like: the same command goes on.
    """
    from trainer.examination import Examination, default_lengths, find_model, only_plan
    from trainer.needle import NeedleSpec

    if only not in (None, "heldout", "needle"):
        raise UsageError(f"--only {only!r} must be heldout or needle")
    found = find_model(model, stage)
    if folder is None and found.folder == model:
        raise UsageError(f"{model} is one model and no run: say with --out where its answers go")
    place = folder if folder is not None else model / "evaluation" / found.folder.parent.name
    ways = _words("--attention", attention, ("dense", "sparse"))
    examined = Examination(found, corpus, recipe or only_plan(corpus))
    try:
        spec = NeedleSpec(
            kinds=_words("--haystacks", kinds, ("text", "video")),
            lengths=_numbers("--lengths", lengths) if lengths is not None else default_lengths(examined.recipe),
            depths=tuple(value / 100 for value in _numbers("--depths", depths)),
            repeats=repeats,
            answers=answers,
            seed=seed,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    value: dict[str, Any] = {"model": str(found.folder), "out": str(place)}
    with showing() as terminal:
        if only != "needle":
            value["heldout"] = examined.heldout(place, ways, terminal)
        if only != "heldout":
            value["needle"] = examined.needles(place, spec, ways, terminal)

    def show() -> None:
        from longreel_evaluation import show_heldout, show_needles

        if "heldout" in value:
            show_heldout(value["heldout"])
        if "needle" in value:
            show_needles(value["needle"])
        print(place)

    emit(value, as_json, show)


def _words(option: str, given: str, known: tuple[Any, ...]) -> tuple[Any, ...]:
    words = tuple(word.strip() for word in given.split(",") if word.strip())
    strange = [word for word in words if word not in known]
    if strange or not words:
        raise UsageError(f"{option} {given!r} must name some of {', '.join(known)}")
    return words


def _numbers(option: str, given: str) -> tuple[int, ...]:
    try:
        return tuple(int(word.replace("_", "")) for word in given.split(",") if word.strip())
    except ValueError:
        raise UsageError(f"{option} {given!r} must be whole numbers with commas between") from None


def known_figures(read: list[RunRead]) -> str:
    """What could have been asked for, as the end of an error."""
    from trainer.runs import figure_of

    changed = [[line for line in run.steps if not line.get("skipped")] for run in read]
    last = [lines[-1] for lines in changed if lines]
    names = sorted(
        {
            name
            for line in last
            for name in line
            if name not in ("stage", "step", "at", "sequences") and figure_of(line, name) is not None
        }
    )
    groups = sorted({f"{axis}:{group}" for line in last for axis, of in (line.get("losses") or {}).items() for group in of})
    return f"; the last step has {', '.join(names + groups)}" if names else ": no step is done yet"


def _value(run: RunRead, figure: str, by: str | None, stage: int | None) -> dict[str, Any]:
    value: dict[str, Any] = {
        "run": str(run.folder),
        "recipe": run.recipe,
        "tokens": run.tokens,
        "seconds": run.seconds,
        "stages": [dataclasses.asdict(each) for each in run.stages],
        "skipped": [{key: line[key] for key in ("stage", "step", "skipped")} for line in run.steps if line.get("skipped")],
        "evaluations": run.evaluations,
        "curve": run.curve(figure, stage=stage),
    }
    return value | ({"by": run.split(by, stage=stage)} if by is not None else {})


def _stage_edges(run: RunRead) -> list[float]:
    """Tokens at which a stage begins, but the first."""
    return [
        float(before["at"])
        for before, after in zip(run.steps[:-1], run.steps[1:], strict=True)
        if before["stage"] != after["stage"]
    ]


def _show_run(run: RunRead, style: str) -> None:
    skipped = sum(stage.skipped for stage in run.stages)
    name = Text(printable(str(run.folder)), style=style)
    words = f"  {printable(run.recipe or 'not finished')}, {run.tokens:,} tokens in {_duration(run.seconds)}"
    out.print(name.append(words + (f", {skipped} steps skipped" if skipped else ""), style="not bold default"), soft_wrap=True)
    held = ("held-out\nbefore", "after")
    table = figures_table("stage", "steps", "tokens", "first\nloss", "last\nloss", *held, "recall", "tok/s", "MFU", "wait")
    for stage in run.stages:
        losses = (stage.first_loss, stage.last_loss, stage.heldout_before, stage.heldout_after)
        table.add_row(
            f"{stage.stage}{'' if stage.finished else ' *'}",
            f"{stage.steps:,}",
            f"{stage.tokens:,}",
            *(_figure(value, ".3f") for value in losses),
            _figure(stage.indexer_recall, ".1%"),
            _figure(stage.tokens_per_s, ",.0f"),
            _figure(stage.mfu, ".1%"),
            _figure(stage.waited, ".1%"),
        )
    out.print(table)
    left_out = [line for line in run.steps if line.get("skipped")]
    for line in left_out[:SKIPPED_SHOWN]:
        say(f"stage {line['stage']}, step {line['step']} changed nothing: {line['skipped']}")
    if len(left_out) > SKIPPED_SHOWN:
        say(f"and {len(left_out) - SKIPPED_SHOWN:,} more; {run.folder / 'skipped.jsonl'} has their samples")
    if any(not stage.finished for stage in run.stages):
        out.print(Text("* not finished", style="dim"))


def _show_split(run: RunRead, axis: str, stage: int | None) -> None:
    from trainer.charts import sparkline

    groups = run.split(axis, stage=stage)
    where = "" if stage is None else f", stage {stage}"
    out.print(Text(f"loss by {axis}{where} ({printable(str(run.folder))})", style="bold"), soft_wrap=True)
    if not groups:
        say("its steps were written by a version that told no groups apart")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column(axis, overflow="fold")
    for name in ("targets", "first", "last"):
        table.add_column(name, justify="right")
    table.add_column("", no_wrap=True)
    for group, seen in groups.items():
        curve = sparkline([loss for _, loss in seen["curve"]], 24)
        table.add_row(
            Text(printable(group)), f"{seen['targets']:,}", _figure(seen["first"], ".3f"), _figure(seen["last"], ".3f"), curve
        )
    out.print(table)


def _show_compared(read: list[RunRead], compared: list[tuple[int, list[float | None]]], figure: str) -> None:
    out.print(Text(f"{figure} at the same tokens (mean since the line before; + against run 1)", style="bold"))
    table = figures_table("tokens", *(f"run {number}" for number in range(1, len(read) + 1)))
    for tokens, row in compared:
        table.add_row(f"{tokens:,}", *_against(row, ".4g"))
    for name in sorted({name for run in read for name in run.evaluations}, key=lambda name: (name != "start", name)):
        held = [run.evaluations.get(name, {}).get("loss") for run in read]
        table.add_row(f"held-out {'at the start' if name == 'start' else f'after {name}'}", *_against(held, ".4f"))
        if any(run.evaluations.get(name, {}).get("recall") is not None for run in read):
            recall = [run.evaluations.get(name, {}).get("recall") for run in read]
            table.add_row(f"recall after {name}", *_against(recall, ".1%"))
    table.add_row("seconds", *(f"{run.seconds:,.0f}" for run in read))
    out.print(table)


def _against(row: list[float | None], form: str) -> list[str]:
    """Values, each after the first with its difference from it."""
    words = [_figure(value, form) for value in row]
    for place, value in enumerate(row):
        if place and value is not None and row[0] is not None:
            words[place] += f" ({value - row[0]:+{form}})"
    return words


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
