"""The terminal side of every command: consoles, progress, options that several share, results for people and programs."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table

from manifests.printable import printable, printable_json

EXIT_CODES = "Exit codes: 0 done; 1 failed; 2 wrong usage; 3 done, but more was lost than the limit allows."

out = Console()
err = Console(stderr=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
CorpusArgument = Annotated[Path, typer.Argument(metavar="CORPUS", help="A corpus folder, as `longreel curate` makes it.")]
EXTRA = {"allow_extra_args": True, "ignore_unknown_options": True}


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


def say(line: str) -> None:
    """One line for the person at the terminal."""
    err.print(printable(line), markup=False, highlight=False, soft_wrap=True)


def emit(value: Any, as_json: bool, text: Callable[[], None]) -> None:
    """Prints a result: JSON for programs, ``text()`` for people."""
    if as_json:
        print(printable_json(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, default=str)))
    else:
        text()


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


def shortfalls(stages: list[dict[str, Any]]) -> Iterator[str]:
    """A line for every stage that misses tokens of its mixture."""
    for stage in stages:
        short = [entry for entry in stage["shortfall"]["ingredients"] if entry["wanted"] - entry["placed"] > stage["context"]]
        if short:
            names = ", ".join(f"{entry['task']} {entry['placed'] / max(entry['wanted'], 1):.1%}" for entry in short)
            yield f"stage {stage['stage']} has less than its mixture wants: {names}"


def figures_table(*columns: str) -> Table:
    """A table whose figures stand to the right."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right", overflow="fold")
    return table


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
