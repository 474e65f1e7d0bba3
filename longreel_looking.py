"""The commands that look at what came out: report, diff, query, sql, check; and publish, which copies it elsewhere."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from longreel_terminal import EXIT_CODES, EXTRA, CorpusArgument, JsonOption, beam_arguments, emit, out, say, showing
from manifests.errors import UsageError
from manifests.printable import printable

if TYPE_CHECKING:
    from manifests.corpus import Corpus

app = typer.Typer()


def write_page(corpus: Path, page: Path, training: Path | None, against: Path | None = None) -> None:
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
    write_page(corpus, page, training, against)
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
