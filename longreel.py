"""The front door: one command line, each subcommand one call into one package, imported when it is used.

``longreel query`` never loads torch and ``longreel train`` never loads Beam. Results go to standard output (as JSON with
``--json``), progress and errors to standard error. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done but more was lost than
the limit allows; ``diff`` has its own: 0 same, 1 different, 2 trouble. A failure is one line that says what to do; ``--debug``
shows the traceback.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import enum
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table

from manifests.errors import LongreelError, LossLimitError, OtherPlanError, UsageError
from manifests.printable import printable, printable_json

if TYPE_CHECKING:
    from manifests.corpus import Corpus
    from manifests.recipe import Recipe

VERSION = "0.1.0"
EXIT_CODES = "Exit codes: 0 done; 1 failed; 2 wrong usage; 3 done, but more was lost than the limit allows."

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    epilog=EXIT_CODES + " A failure prints one line; add --debug for the traceback.",
    help="From raw video, documents and GUI recordings to a trained long-context multimodal model.\n\n"
    "The road: **curate** raw files into a corpus, **synthesize** verified reasoning, **plan** four packed stages, **train** "
    "them; **run** does all of it. **query**, **sql**, **check**, **report** and **diff** look at what came out.",
)
out = Console()
err = Console(stderr=True)


class Stage(enum.StrEnum):
    """What ``--stage`` takes."""

    S0 = "0"
    S1 = "1"
    S2 = "2"
    S3 = "3"
    ALL = "all"

    @property
    def numbers(self) -> list[int]:
        """The stages in order."""
        return [0, 1, 2, 3] if self is Stage.ALL else [int(self.value)]


RecipeOption = Annotated[
    str, typer.Option("--recipe", "-r", metavar="NAME", help="laptop or keye_vl_2; `longreel recipes NAME` prints every field.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Change one field of the recipe, e.g. `--set stage3.context=4096`. May be repeated.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
CorpusArgument = Annotated[Path, typer.Argument(metavar="CORPUS", help="A corpus folder, as `longreel curate` makes it.")]


class Terminal:
    """Shows progress: live bars on a terminal, a line every ten seconds elsewhere."""

    def __init__(self) -> None:
        self.live = err.is_terminal
        self.bars = Bars(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
            console=err,
            transient=True,
        )
        self.tasks: dict[str, TaskID] = {}
        self.last = time.monotonic()

    def __call__(self, label: str, done: float, total: float | None, detail: str = "") -> None:
        """A `manifests.progress.Progress`."""
        detail = printable(detail)
        if self.live:
            if label not in self.tasks:
                for task in self.tasks.values():
                    self.bars.update(task, visible=False)
                self.tasks[label] = self.bars.add_task(label, total=total, detail="")
            self.bars.update(self.tasks[label], completed=done, total=total, detail=detail[:26])
        elif time.monotonic() - self.last >= 10:
            self.last = time.monotonic()
            of = f" of {total:g}" if total is not None else ""
            print(f"  {label}: {done:g}{of}  {detail}".rstrip(), file=sys.stderr, flush=True)


@contextlib.contextmanager
def showing() -> Iterator[Terminal]:
    """Progress for as long as the block runs."""
    terminal = Terminal()
    with terminal.bars if terminal.live else contextlib.nullcontext():
        yield terminal


def load_recipe(name: str, changes: list[str] | None) -> Recipe:
    """The recipe that ``--recipe`` and ``--set`` describe."""
    from curriculum.overrides import apply
    from curriculum.recipes import named

    return apply(named(name), changes or [])


def say(line: str) -> None:
    """One line for the person at the terminal."""
    err.print(printable(line), markup=False, highlight=False, soft_wrap=True)


def emit(value: Any, as_json: bool, text: Callable[[], None]) -> None:
    """Prints a result: JSON for programs, ``text()`` for people."""
    if as_json:
        print(printable_json(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, default=str)))
    else:
        text()


def logged(step: str, corpus: Path, recipe: Recipe, work: Callable[[], Any]) -> Any:
    """Runs one step and appends it to the corpus's log of runs."""
    from manifests.corpus import Corpus

    Corpus(corpus).require_local()
    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()

    def log(outcome: str, counts: dict[str, Any]) -> None:
        target = Corpus(corpus)
        if (corpus / "steps").is_dir():
            record = target.record("plan-" + recipe.name if step == "plan" else step) if step != "train" else None
            target.log_run(
                step=step,
                recipe=recipe.name,
                started=started,
                seconds=time.monotonic() - clock,
                fingerprint=record.fingerprint if record else "",
                outcome=outcome,
                counts=counts,
            )

    try:
        result = work()
    except LongreelError as error:
        log("failed", {"error": str(error)})
        raise
    log("unchanged" if result.unchanged else "done", result.counts)
    return result


def summarise(label: str, result: Any, figures: str) -> None:
    """One line per finished step."""
    state = "unchanged, nothing to do" if result.unchanged else f"{result.seconds:.1f} s"
    say(f"{label:<11} {figures}  ({state})")


EXTRA = {"allow_extra_args": True, "ignore_unknown_options": True}


def beam_arguments(words: list[str]) -> tuple[list[Path], list[str]]:
    """Parts a command's words into input paths and Beam options (``--name=value``).

    Raises:
        UsageError: an option is none of Beam's.
    """
    options = [word for word in words if word.startswith("-")]
    if options:
        from pipelines.options import refuse_unknown

        refuse_unknown(options)
    return [Path(word) for word in words if not word.startswith("-")], options


InputsArgument = Annotated[
    list[str],
    typer.Argument(metavar="INPUT...", help="Files or folders of raw data. Beam options pass through as `--name=value`."),
]


def _curate(inputs: list[str], corpus: Path, recipe: Recipe) -> Any:
    from pipelines import curate as run_curation

    paths, options = beam_arguments(inputs)
    if not paths:
        raise UsageError("no INPUT: name files or folders of raw data")
    with showing() as terminal:
        work = lambda: run_curation(paths, corpus, recipe, beam_options=options, progress=terminal)  # noqa: E731
        result = logged("curate", corpus, recipe, work)
    c = result.counts
    parts = " + ".join(f"{c[key]} {key}" for key in ("used", "filtered", "quarantined"))
    summarise("curate", result, f"{c['inputs']} inputs = {parts}; {c['samples']:,} samples")
    return result


@app.command(context_settings=EXTRA, epilog=EXIT_CODES)
def curate(
    inputs: InputsArgument,
    corpus: Annotated[Path, typer.Option("--out", "-o", metavar="CORPUS", help="Folder for the corpus.")],
    recipe: RecipeOption = "laptop",
    changes: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Raw videos, documents and GUI recordings to a corpus of samples and media shards.

    Whatever cannot be read is a row in `quarantine`, whatever is not wanted a row in `dropped`; every input is in exactly one
    place. Stop it whenever you like: the same command goes on where it stopped, and ends with the same bytes.

    Sidecars are picked up by name: `clip.captions.json` beside `clip.mp4`, `photo.caption.json`, `screen.gui.json`;
    `SOURCES.json` at the top of an input gives licences. Local runs use all cores; a cluster is a Beam option away, e.g.
    `--runner=FlinkRunner --flink_master=HOST:8081`.
    """
    result = _curate(inputs, corpus, load_recipe(recipe, changes))
    emit({**result.counts, "digest": result.digest}, as_json, lambda: print(corpus))


def _synthesize(corpus: Path, recipe: Recipe, options: list[str] | None = None) -> Any:
    from synth_cot import synthesize as run_synthesis

    def beam(build: Callable[[Any], object]) -> None:
        from pipelines.running import run_beam

        run_beam(build, corpus, options or [], lambda: None, "synthesis")

    with showing() as terminal:
        work = lambda: run_synthesis(corpus, recipe, beam=beam if options else None, progress=terminal)  # noqa: E731
        result = logged("synthesize", corpus, recipe, work)
    c = result.counts
    summarise("synthesize", result, f"{c['asked']:,} questions, {c['accepted']:,} verified over {len(c['by_task'])} tasks")
    return result


def corpus_recipe(corpus: Path, name: str | None, changes: list[str] | None) -> Recipe:
    """The named recipe, or the one the corpus was curated with."""
    from manifests.corpus import Corpus
    from manifests.fingerprint import canonical_json
    from manifests.recipe_json import recipe_from_json

    if name is not None:
        return load_recipe(name, changes)
    from curriculum.overrides import apply

    return apply(recipe_from_json(canonical_json(Corpus.open(corpus).identity()["recipe"])), changes or [])


OwnRecipeOption = Annotated[
    str | None,
    typer.Option(
        "--recipe", "-r", metavar="NAME", help="laptop or keye_vl_2; default: the recipe the corpus was curated with."
    ),
]


@app.command(context_settings=EXTRA, epilog=EXIT_CODES)
def synthesize(
    context: typer.Context,
    corpus: CorpusArgument,
    recipe: OwnRecipeOption = None,
    changes: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add reasoning samples whose answers were computed and then checked by separate verifier code.

    Questions come from what is known for certain: boxes of screenshots, scenes of videos, pages and tables of documents,
    pictures and films that are drawn, generated STEM problems, and your own files of questions. Answers are worked out, or
    written by the models that `synth.teachers` names; what a check does not accept is a row in `dropped`.

    This process does it all, unless Beam's options name a runner, as for `curate`: `--runner=DirectRunner`.
    """
    extra, options = beam_arguments(context.args)
    if extra:
        raise UsageError(f"synthesize takes one CORPUS, and {extra[0]} is a second")
    result = _synthesize(corpus, corpus_recipe(corpus, recipe, changes), options)
    emit({**result.counts, "digest": result.digest}, as_json, lambda: print(corpus))


def _plan(corpus: Path, recipe: Recipe, *, previous: Path | None = None, dry_run: bool = False) -> Any:
    from curriculum import plan as run_planning

    with showing() as terminal:
        work = lambda: run_planning(corpus, recipe, previous=previous, dry_run=dry_run, progress=terminal)  # noqa: E731
        result = work() if dry_run else logged("plan", corpus, recipe, work)
    sequences = sum(stage["sequences"] for stage in result.counts["stages"])
    tokens = sum(stage["tokens"] for stage in result.counts["stages"])
    summarise("plan", result, f"{sequences:,} packed sequences, {tokens:,} tokens in 4 stages")
    return result


@app.command(epilog=EXIT_CODES)
def plan(
    corpus: CorpusArgument,
    recipe: OwnRecipeOption = None,
    changes: SetOption = None,
    previous: Annotated[
        Path | None,
        typer.Option(metavar="CORPUS", help="Keep what still holds of this corpus's plan (may be CORPUS itself)."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would be planned and cost; write nothing.")] = False,
    gpu: Annotated[str, typer.Option(metavar="NAME", help="With --dry-run: a100, h100, h200 or b200.")] = "h100",
    gpus: Annotated[int, typer.Option(metavar="N", help="With --dry-run: how many GPUs train.")] = 8,
    mfu: Annotated[
        float, typer.Option(metavar="SHARE", help="With --dry-run: share of the GPUs' peak that is reached.")
    ] = 0.35,
    as_json: JsonOption = False,
) -> None:
    """Plan four stages: mixture, packing and balance, written as stage manifests the trainer consumes.

    The recipe must count tokens as the corpus was counted; stages, mixtures and budgets may differ. A corpus that has grown
    can be planned from its previous plan with `--previous CORPUS`: sequences whose samples are all there and wanted stay.
    """
    chosen = corpus_recipe(corpus, recipe, changes)
    result = _plan(corpus, chosen, previous=previous, dry_run=dry_run)
    costs = []
    if dry_run:
        from trainer.estimate import estimate

        costs = estimate(chosen, result.counts["stages"], gpu=gpu, gpus=gpus, mfu=mfu)

    def show() -> None:
        table = figures_table("stage", "context", "sequences", "bound", "kept", "held out", "tokens", "fill", "steps")
        for s in result.counts["stages"]:
            row = (
                s["stage"],
                s["context"],
                s["sequences"],
                s["bound"],
                s["kept_sequences"],
                s["heldout_sequences"],
                s["tokens"],
            )
            table.add_row(*(f"{value:,}" for value in row), f"{s['fill']:.1%}", f"{s['steps']:,}")
        out.print(table)
        for line in shortfalls(result.counts["stages"]):
            say(line)
        if costs:
            show_costs(costs, gpu, gpus, mfu)

    rows = [dataclasses.asdict(cost) | {"too_large": cost.too_large} for cost in costs]
    emit({**result.counts, "digest": result.digest} | ({"costs": rows} if rows else {}), as_json, show)


def shortfalls(stages: list[dict[str, Any]]) -> Iterator[str]:
    """A line for every stage that misses tokens of its mixture."""
    for stage in stages:
        short = [entry for entry in stage["shortfall"]["ingredients"] if entry["wanted"] - entry["placed"] > stage["context"]]
        if short:
            names = ", ".join(f"{entry['task']} {entry['placed'] / max(entry['wanted'], 1):.1%}" for entry in short)
            yield f"stage {stage['stage']} has less than its mixture wants: {names}"


def show_costs(costs: list[Any], gpu: str, gpus: int, mfu: float) -> None:
    """What training would take, a row a phase, and a line for each that does not fit."""
    table = figures_table("stage", "phase", "FLOPs", "GPU-hours", "days", "weights", "states", "activ.", "fits")
    for cost in costs:
        sizes = (f"{size / 2**30:,.1f}" for size in (cost.weights + cost.gradients, cost.optimiser, cost.activations))
        figures = (f"{cost.flops:.1e}", f"{cost.gpu_hours:,.1f}", f"{cost.wall_hours / 24:,.1f}")
        table.add_row(str(cost.stage), cost.phase, *figures, *sizes, "yes" if cost.too_large is None else "no")
    out.print(table)
    say(f"on {gpus:,} x {gpu} at {mfu:.0%} of their peak; GiB a GPU, at most; weights with gradients, states of the optimiser")
    for cost in costs:
        if cost.too_large is not None:
            say(
                f"stage {cost.stage} ({cost.phase}) does not fit: {cost.memory / 2**30:,.0f} of {cost.room / 2**30:,.0f} GiB, "
                f"most of it {cost.too_large}"
            )


def figures_table(*columns: str) -> Table:
    """A table whose figures stand to the right."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right", overflow="fold")
    return table


def _train(corpus: Path, recipe: Recipe, stages: list[int], run: Path, resume: bool) -> Any:
    from trainer import train as run_training

    with showing() as terminal:
        work = lambda: run_training(corpus, recipe, stages=stages, out=run, resume=resume, progress=terminal)  # noqa: E731
        result = logged("train", corpus, recipe, work)
    summarise("train", result, f"stages {', '.join(map(str, stages))} in {run}")
    return result


@app.command(epilog=EXIT_CODES)
def train(
    corpus: CorpusArgument,
    run: Annotated[Path, typer.Option("--out", "-o", metavar="RUN", help="Folder for checkpoints and metrics.")],
    recipe: OwnRecipeOption = None,
    stage: Annotated[Stage, typer.Option("--stage", "-s", help="One stage, or all four in order.")] = Stage.ALL,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest whole checkpoint in RUN.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train the model on planned stages, one after the other.

    A stage starts from the checkpoint the stage before it left. Everything it needs is in the stage manifest. Start it under
    `torchrun` for several processes.
    """
    result = _train(corpus, corpus_recipe(corpus, recipe, None), stage.numbers, run, resume)
    emit({"stages": result.stages}, as_json, lambda: stage_table(result.stages))


def stage_table(stages: list[dict[str, Any]]) -> None:
    """What training did, a line per stage."""

    def figure(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    table = figures_table(
        "stage", "seqs", "fill", "tokens", "first\nloss", "last\nloss", "held-out\nbefore", "held-out\nafter", "indexer\nrecall"
    )
    for s in stages:
        losses = (s["first_loss"], s["last_loss"], s["heldout_before"], s["heldout_after"])
        table.add_row(
            str(s["stage"]),
            f"{s['sequences']:,}",
            figure(s["fill"], ".1%"),
            f"{s['tokens']:,}",
            *(figure(value, ".3f") for value in losses),
            figure(s["indexer_recall"], ".1%"),
        )
    out.print(table)


@app.command(context_settings=EXTRA, epilog=EXIT_CODES)
def run(
    inputs: InputsArgument,
    folder: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for corpus/, run/ and report.html.")],
    recipe: RecipeOption = "laptop",
    changes: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """The whole road: curate, synthesize, plan, train all stages, report.

    Run it again after an interruption and it goes on; run it again after success and it redoes nothing. When inputs or recipe
    have changed, what depends on them is made anew, and the run trained before is kept beside the new one.
    """
    begun = time.monotonic()
    chosen = load_recipe(recipe, changes)
    corpus, training, page = folder / "corpus", folder / "run", folder / "report.html"
    lost: LossLimitError | None = None
    try:
        curated = _curate(inputs, corpus, chosen)
    except LossLimitError as error:
        lost, curated = error, None
        say(f"longreel: {error}")
    options = beam_arguments(inputs)[1]
    named = options if any(option.startswith("--runner") for option in options) else []
    results = [curated, _synthesize(corpus, chosen, named), _plan(corpus, chosen)]
    try:
        trained = _train(corpus, chosen, [0, 1, 2, 3], training, resume=True)
    except OtherPlanError:
        kept = next(path for path in (folder / f"run-{n}" for n in itertools.count(1)) if not path.exists())
        training.rename(kept)
        say(f"the plan has changed: the run trained from the earlier one is kept in {kept}")
        trained = _train(corpus, chosen, [0, 1, 2, 3], training, resume=True)
    unchanged = page.is_file() and all(result is not None and result.unchanged for result in [*results, trained])
    if not unchanged:
        _report(corpus, page, training)
    say(f"{'nothing redone: all of it was current' if unchanged else 'done'} in {time.monotonic() - begun:.0f} s")

    def show() -> None:
        out.print()
        stage_table(trained.stages)
        out.print()
        print(f"corpus  {corpus}")
        print(f"run     {training}")
        print(f"report  {page}")

    emit({"stages": trained.stages, "corpus": str(corpus), "run": str(training), "report": str(page)}, as_json, show)
    if lost is not None:
        raise typer.Exit(lost.exit_code)


def _report(corpus: Path, page: Path, training: Path | None, against: Path | None = None) -> None:
    from manifests.report import write_report

    with showing() as terminal:
        terminal("report", 0, 1)
        write_report(corpus, page, run=training, against=against)


@app.command(epilog=EXIT_CODES)
def report(
    corpus: CorpusArgument,
    page: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The page to write.")] = Path("report.html"),
    training: Annotated[Path | None, typer.Option("--run", metavar="RUN", help="A training run, for its losses.")] = None,
    against: Annotated[
        Path | None, typer.Option("--against", metavar="OTHER", help="An earlier corpus, for what changed since.")
    ] = None,
) -> None:
    """Write one self-contained HTML page: what to look at, what came in, what was lost and why, stages, samples, losses."""
    if training is None and (corpus.parent / "run" / "summary.json").is_file():
        training = corpus.parent / "run"
    _report(corpus, page, training, against)
    print(page)


@app.command(epilog="Exit codes: 0 same; 1 different; 2 trouble.")
def diff(
    a: Annotated[Path, typer.Argument(metavar="A", help="A corpus folder.")],
    b: Annotated[Path | None, typer.Argument(metavar="[B]", help="Another; without it A's two plans are compared.")] = None,
    plan: Annotated[
        list[str] | None,
        typer.Option(
            "--plan", metavar="RECIPE", help="A plan to compare; given twice: A's, then B's. Default: all that both have."
        ),
    ] = None,
    page: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Also write it as a page.")] = None,
    limit: Annotated[int, typer.Option("--limit", help="Examples in every list, at most; 0 for all.", min=0)] = 20,
    as_json: JsonOption = False,
) -> None:
    """What differs between two corpora, or two plans: sources, samples, losses, recipe fields, sequences, mixture.

    Only content counts: the same corpus made anew by other code is the same. A source that moved between train and held-out
    comes first.

    Example: `longreel diff CORPUS --plan laptop --plan wide`
    """
    try:
        if len(plan or []) > 2:
            raise UsageError(f"--plan is given {len(plan or [])} times: once for both corpora, or twice for A's and B's")
        if b is None and len(plan or []) < 2:
            raise UsageError("name a second corpus, or two plans of this one with --plan A --plan B")
        from manifests.diff import compare

        with showing() as terminal:
            terminal("diff", 0, 1)
            plans = (plan[0], plan[-1]) if plan else None
            difference = compare(a, b or a, plans=plans, shown=limit or sys.maxsize)
            if page is not None:
                from manifests.report import write_difference

                write_difference(difference, page)
    except Exception as error:
        error.exit_code = 2  # type: ignore[attr-defined]  # 1 says that the corpora differ
        raise

    def show() -> None:
        from manifests.diff.terminal import rendered

        for piece in rendered(difference, limit):
            out.print(piece)

    emit({"same": difference.same, **dataclasses.asdict(difference)}, as_json, show)
    if not difference.same:
        raise typer.Exit(1)


@app.command(epilog=EXIT_CODES)
def query(
    corpus: CorpusArgument,
    asked: Annotated[
        str | None,
        typer.Argument(metavar="[SQL]", help="One SELECT; with --named or --tables the name of a question or table."),
    ] = None,
    named: Annotated[bool, typer.Option("--named", help="Ask a ready question by its name; without one, list them.")] = False,
    tables: Annotated[
        bool, typer.Option("--tables", help="Describe a table's columns; without a name, list the tables.")
    ] = False,
    parameters: Annotated[
        list[str] | None, typer.Option("--param", metavar="NAME=VALUE", help="With --named: a parameter. May be repeated.")
    ] = None,
    as_json: JsonOption = False,
    limit: Annotated[int, typer.Option("--limit", help="Rows shown, at most; 0 for all. JSON is never cut.", min=0)] = 100,
) -> None:
    """Ask a corpus in SQL (DuckDB, in place), or one of the ready questions. CORPUS may be an address, e.g. `s3://BUCKET/CORPUS`.

    `longreel query CORPUS "SELECT context_bucket, task, count(*) FROM samples GROUP BY ALL ORDER BY ALL"`

    `longreel query CORPUS --named mixture`

    `longreel query CORPUS --named lineage-of-sample --param sample_id=ID`

    `longreel query CORPUS --tables samples`
    """
    from manifests.catalog import Catalog
    from manifests.corpus import Corpus

    if (named and tables) or (parameters and not (named and asked)) or not (asked or named or tables):
        raise UsageError("give one SELECT, or --named [QUESTION] with its --param NAME=VALUE, or --tables [TABLE]")
    if not asked or tables:
        _documentation(Corpus.open(corpus), asked, named=named, as_json=as_json)
        return
    catalog = Catalog(corpus)
    relation = catalog.named(asked, dict(map(_parameter, parameters or []))) if named else catalog.sql(asked)
    names, rows = relation.columns, catalog.rows(relation)

    def show() -> None:
        from manifests.terminal import rows_shown

        out.print(rows_shown(names, rows[: limit or None], out), highlight=False)
        if limit and len(rows) > limit:
            say(f"{len(rows) - limit:,} more rows; --limit 0 shows all")

    emit([dict(zip(names, row, strict=True)) for row in rows], as_json, show)


def _parameter(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals:
        raise UsageError(f"--param {word!r} is no NAME=VALUE")
    return name, value


def _documentation(corpus: Corpus, table: str | None, *, named: bool, as_json: bool) -> None:
    from manifests import schema_docs, terminal

    if named:
        emit(schema_docs.questions_value(), as_json, lambda: out.print(terminal.questions_shown(), highlight=False))
        return
    shown = terminal.table_shown(table) if table else terminal.tables_shown(corpus)
    emit(schema_docs.tables_value(corpus, table), as_json, lambda: out.print(shown, highlight=False))


@app.command(context_settings=EXTRA, epilog=EXIT_CODES)
def publish(
    corpus: CorpusArgument,
    words: Annotated[list[str], typer.Argument(metavar="ADDRESS", help="For example s3://bucket/corpus; then Beam options.")],
    as_json: JsonOption = False,
) -> None:
    """Copy the finished steps of a corpus to an address of Beam's file systems, so that a reader never sees half of one.

    Only what changed is sent; run it again after another step, or when it was interrupted. Needs apache-beam[aws] or [gcp].
    """
    from pipelines.publishing import publish as run_publication

    _, options = beam_arguments(words)
    targets = [word for word in words if not word.startswith("-")]  # as words: a path folds the slashes of an address
    if len(targets) != 1:
        raise UsageError("name one ADDRESS")
    with showing() as terminal:
        done = run_publication(corpus, targets[0], options, lambda sent, total: terminal("send files", sent, total))
    line = f"{done.sent:,} files sent ({done.sent_bytes:,} bytes), {done.kept:,} were there, {done.removed:,} taken away"
    emit(dataclasses.asdict(done), as_json, lambda: print(line))


@app.command(epilog=EXIT_CODES)
def sql(
    corpus: CorpusArgument,
    plain: Annotated[bool, typer.Option("--plain", help="The built-in prompt, even if DuckDB's client is installed.")] = False,
) -> None:
    """Open an SQL shell over a corpus that can only read.

    With DuckDB's client installed (`pip install duckdb-cli`, or any `duckdb` on the PATH) it is that client, with the tables as
    views; otherwise, and for an address, a plain prompt: statements end with `;`, Ctrl-D leaves.
    """
    from manifests import shell
    from manifests.corpus import Corpus

    opened = Corpus.open(corpus)
    client = None if plain or not isinstance(opened.folder, Path) else shell.find_client()
    if client is not None:
        raise typer.Exit(shell.run_client(client, opened))
    if not plain:
        say("DuckDB's own shell opens here when its client is there (`pip install duckdb-cli`); this is a plain prompt")
    from manifests.catalog import Catalog

    shell.prompt(Catalog(corpus), out)


@app.command(epilog=EXIT_CODES)
def check(corpus: CorpusArgument, as_json: JsonOption = False) -> None:
    """Prove the promises of a corpus from its bytes: sums, hashes, media, token counts, splits, lineage, packing.

    Exits with 1 when one does not hold, naming shard, sample and source.
    """
    from manifests.check import check as run_checks

    with showing() as terminal:
        findings = run_checks(corpus, progress=terminal)

    def show() -> None:
        for finding in findings:
            mark = "ok  " if finding.holds else "FAIL"
            print(f"{mark}  {finding.promise}: {finding.counted}")
            for problem in finding.problems:
                print(f"      {printable(problem)}")
            if finding.problem_count > len(finding.problems):
                print(f"      and {finding.problem_count - len(finding.problems):,} more")

    value = [
        {"promise": f.promise, "holds": f.holds, "counted": f.counted, "problems": f.problems, "problem_count": f.problem_count}
        for f in findings
    ]
    emit(value, as_json, show)
    if not all(finding.holds for finding in findings):
        raise typer.Exit(1)


@app.command(epilog=EXIT_CODES)
def recipes(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="The recipe to print; without it, the names.")] = None,
    changes: SetOption = None,
) -> None:
    """List the recipes, or print every field of one, as `--set` names them."""
    from curriculum.recipes import RECIPES

    if name is None:
        for each, function in RECIPES.items():
            print(f"{each:<10} {(function.__doc__ or '').strip().splitlines()[0]}")
        return
    from manifests.fingerprint import canonical_json

    print(json.dumps(json.loads(canonical_json(load_recipe(name, changes))), indent=2))


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"longreel {VERSION}")
        raise typer.Exit


def main() -> None:
    """Runs the command line and ends the process with a documented exit code."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    sys.argv = [sys.argv[0], *(word for word in arguments if word != "--debug")]
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Threads that spin while they wait slow a shared machine: a training step of 2.2 s took 0.45 s with this (2 busy cores).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except LongreelError as error:
        if debug:
            raise
        say(f"longreel: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        say("longreel: stopped; the same command goes on where it stopped")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        if debug:
            raise
        first = (str(error).splitlines() or [""])[0]
        say(f"longreel: unexpected {type(error).__name__}: {first} (a defect; --debug shows where)")
        sys.exit(getattr(error, "exit_code", 1))


if __name__ == "__main__":
    main()
