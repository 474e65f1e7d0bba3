"""The front door: one command line, each subcommand one call into one package, imported when it is used.

``longreel query`` never loads torch and ``longreel train`` never loads Beam. Results go to standard output (as JSON with
``--json``), progress and errors to standard error. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done but more was lost than
the limit allows; ``diff`` has its own: 0 same, 1 different, 2 trouble. A failure is one line that says what to do; ``--debug``
shows the traceback.
"""

from __future__ import annotations

import datetime
import enum
import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import longreel_costs
import longreel_looking
import longreel_training
from longreel_looking import write_page
from longreel_terminal import (
    EXIT_CODES,
    EXTRA,
    CorpusArgument,
    JsonOption,
    beam_arguments,
    emit,
    figures_table,
    out,
    say,
    shortfalls,
    showing,
    stage_table,
)
from manifests.errors import LongreelError, LossLimitError, OtherPlanError, UsageError

if TYPE_CHECKING:
    from manifests.recipe import Recipe

VERSION = "0.1.0"

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    epilog=EXIT_CODES + " A failure prints one line; add --debug for the traceback.",
    help="From raw video, documents and GUI recordings to a trained long-context multimodal model.\n\n"
    "The road: **curate** raw files into a corpus, **synthesize** verified reasoning, **plan** four packed stages, **train** "
    "them; **run** does all of it. **query**, **sql**, **check**, **report** and **diff** look at what came out, "
    "**runs** and **evaluate** at what was trained.",
)


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


def load_recipe(name: str, changes: list[str] | None) -> Recipe:
    """The recipe that ``--recipe`` and ``--set`` describe."""
    from curriculum.overrides import apply
    from curriculum.recipes import named

    return apply(named(name), changes or [])


def logged(step: str, corpus: Path, recipe: Recipe, work: Callable[[], Any]) -> Any:
    """Runs one step and appends it to the corpus's log of runs."""
    from manifests.corpus import Corpus
    from manifests.places import address

    if step == "train" and address(corpus) is not None:
        return work()  # only read: its log stays as it is
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


GpuOption = Annotated[str, typer.Option(metavar="NAME", help="With --dry-run: a100, h100, h200 or b200.")]
GpusOption = Annotated[int, typer.Option(metavar="N", help="With --dry-run: how many GPUs train.")]
MfuOption = Annotated[float, typer.Option(metavar="SHARE", help="With --dry-run: share of the GPUs' peak that is reached.")]
NetworkOption = Annotated[
    float | None, typer.Option(metavar="GB/S", help="With --dry-run: what a GPU sends to another node; default: as is usual.")
]
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
    gpu: GpuOption = "h100",
    gpus: GpusOption = 8,
    mfu: MfuOption = 0.35,
    network: NetworkOption = None,
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

        costs = estimate(chosen, result.counts["stages"], gpu=gpu, gpus=gpus, mfu=mfu, network=network)

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
            longreel_costs.show_costs(costs, gpu, mfu, network, "what training this plan would cost")
            given: dict[str, int | None] = {}
            for line in longreel_costs.refusals(chosen, result.counts["stages"], costs, gpu=gpu, gpus=gpus, given=given):
                say(line)

    rows = longreel_costs.rows(costs)
    emit({**result.counts, "digest": result.digest} | ({"costs": rows} if rows else {}), as_json, show)


def _train(
    corpus: Path, recipe: Recipe, stages: list[int], run: Path, resume: bool, *, quiet: bool = False, **choices: Any
) -> Any:
    from longreel_live import training
    from trainer import train as run_training
    from trainer.launch import Launch

    launch = Launch(**choices)

    with training(quiet=quiet or not _leads()) as view:
        work = lambda: run_training(  # noqa: E731
            corpus, recipe, stages=stages, out=run, resume=resume, launch=launch, progress=view, watch=view
        )
        result = logged("train", corpus, recipe, work) if _leads() else work()
    if _leads():
        summarise("train", result, f"stages {', '.join(map(str, stages))} in {run}")
    return result


def _leads() -> bool:
    """Whether this process speaks for a training run that a launcher started several of."""
    return os.environ.get("RANK", "0") == "0"


@app.command(epilog=EXIT_CODES)
def train(
    corpus: Annotated[
        Path | None, typer.Argument(metavar="CORPUS", help="A planned corpus; may be left out with --dry-run.")
    ] = None,
    run: Annotated[Path | None, typer.Option("--out", "-o", metavar="RUN", help="Folder for checkpoints and metrics.")] = None,
    recipe: OwnRecipeOption = None,
    stage: Annotated[Stage, typer.Option("--stage", "-s", help="One stage, or all four in order.")] = Stage.ALL,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest whole checkpoint in RUN.")] = False,
    zero_stage: Annotated[
        int | None, typer.Option("--zero", min=0, max=3, help="DeepSpeed ZeRO stage; default: the recipe's.")
    ] = None,
    sequence_parallel: Annotated[
        int | None, typer.Option("--sequence-parallel", metavar="N", min=1, help="Ranks that share one packed sequence; 1.")
    ] = None,
    expert_parallel: Annotated[
        int | None, typer.Option("--expert-parallel", metavar="N", min=1, help="Ranks that share the experts; 1.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", metavar="N", min=0, help="Reader processes a rank; 0: a thread. Default: by the machine."),
    ] = None,
    on_bad_media: Annotated[
        str,
        typer.Option("--on-bad-media", metavar="stop|replace", help="Stop with the sample's id, or show grey and record."),
    ] = "stop",
    tokens: Annotated[
        Path | None, typer.Option("--tokens", metavar="DIR", help="Keep sequences as tokens here, for this and later runs.")
    ] = None,
    media_cache: Annotated[
        Path | None,
        typer.Option("--media-cache", metavar="DIR", help="Keep media fetched from an address here."),
    ] = None,
    media_cache_gb: Annotated[
        float, typer.Option("--media-cache-size", metavar="GIB", min=0.0625, help="What that folder holds at most.")
    ] = 20.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print memory, time and parallel plan of each stage; train nothing.")
    ] = False,
    gpu: GpuOption = "h100",
    gpus: GpusOption = 8,
    mfu: MfuOption = 0.35,
    network: NetworkOption = None,
    checkpoint_in_background: Annotated[
        bool, typer.Option("--checkpoint-in-background", help="Write checkpoints while training goes on, from a copy.")
    ] = False,
    recall_steps: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=0, help="Measure the indexer's recall every N steps; 0: never. Default: with checkpoints."
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train the model on planned stages, one after the other.

    A stage starts from the checkpoint the stage before it left. Everything it needs is in the stage manifest. Start it under
    `torchrun` for several processes.

    With `--dry-run` nothing is trained: it says what each stage takes on `--gpus` GPUs, chooses the cheapest parallel plan
    that fits unless `--zero`, `--sequence-parallel` or `--expert-parallel` say otherwise, and ends with 1 where none fits. It
    needs a planned CORPUS, or `--recipe` alone.
    """
    if dry_run:
        if corpus is None and recipe is None:
            raise UsageError("name a CORPUS, or a --recipe to estimate without one")
        chosen = load_recipe(recipe or "", None) if corpus is None else corpus_recipe(corpus, recipe, None)
        given = {"zero": zero_stage, "sequence": sequence_parallel, "expert": expert_parallel}
        longreel_costs.dry_run(
            corpus, chosen, stage.numbers, given, gpu=gpu, gpus=gpus, mfu=mfu, network=network, as_json=as_json
        )
        return
    if corpus is None or run is None:
        raise UsageError("name a planned CORPUS, and with --out a folder for the run; without them there is --dry-run")
    result = _train(
        corpus,
        corpus_recipe(corpus, recipe, None),
        stage.numbers,
        run,
        resume,
        zero_stage=zero_stage,
        sequence_parallel=sequence_parallel or 1,
        expert_parallel=expert_parallel or 1,
        workers=workers,
        on_bad_media=on_bad_media,
        tokens=None if tokens is None else str(tokens),
        media_cache=None if media_cache is None else str(media_cache),
        media_cache_bytes=int(media_cache_gb * 2**30),
        checkpoint_in_background=checkpoint_in_background,
        recall_steps=recall_steps,
        quiet=quiet,
    )
    if _leads():
        emit({"stages": result.stages}, as_json, lambda: stage_table(result.stages))


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
        write_page(corpus, page, training)
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


app.add_typer(longreel_looking.app)
app.add_typer(longreel_training.app)


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
