"""How an answer about a document or a table is worked out: page by page, or cell by cell, then the aggregate."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise

from synth_cot.derivation import Derivation
from synth_cot.known import Grid, Page, Paper
from synth_cot.question import Ask
from synth_cot.questions.cells import numbers


def derive_paper(ask: Ask, paper: Paper) -> Derivation:
    """Steps and answer for a question of the ``reason.document`` tasks.

    Raises:
        KeyError: the task is none of them.
    """
    return _PAPER[ask.task](ask, [page for page in paper.pages if str(page.number) in ask.ids])


def derive_grid(ask: Ask, grid: Grid) -> Derivation:
    """Steps and answer for a question of the ``reason.table`` tasks.

    Raises:
        KeyError: the task is none of them.
    """
    return _GRID[ask.task](ask, grid)


def _begins(page: Page, line: str) -> bool:
    return " ".join(page.text.split()).casefold().startswith(line.casefold())


def _page(ask: Ask, run: list[Page]) -> Derivation:
    line = " ".join(ask.value.split())
    found = [page.number for page in run if _begins(page, line)]
    return Derivation(
        plan="Look at how each page begins.",
        steps=tuple(
            f"page {page.number} {'begins' if _begins(page, line) else 'does not begin'} with “{line}”" for page in run
        ),
        check=f"{len(found)} page begins so",
        answer=", ".join(map(str, found)),
    )


def _mentions(ask: Ask, run: list[Page]) -> Derivation:
    word = re.compile(rf"(?<!\w){re.escape(ask.value)}(?!\w)", re.IGNORECASE)
    found = [page.number for page in run if word.search(page.text)]
    return Derivation(
        plan="Read page after page and note where the word stands.",
        steps=tuple(f"page {page.number} {'holds' if page.number in found else 'does not hold'} “{ask.value}”" for page in run),
        check=f"{len(found)} of {len(run)} pages hold it",
        answer=", ".join(map(str, found)),
    )


def _order(ask: Ask, run: list[Page]) -> Derivation:
    options = [next(page for page in run if str(page.number) == number) for number in ask.value.split("|")]
    lines = [" ".join(page.first_line.split()) for page in options]
    places = [next(page.number for page in run if _begins(page, line)) for line in lines]
    first = places[0] < places[1]
    return Derivation(
        plan="Find the page on which each line stands and compare the numbers.",
        steps=tuple(f"page {place} begins with “{line}”" for place, line in zip(places, lines, strict=True)),
        check=f"{places[0]} {'<' if first else '>'} {places[1]}, so {'A' if first else 'B'} comes first",
        answer="A" if first else "B",
    )


def _read(grid: Grid, row: int, column: int) -> str:
    return f"“{grid.rows[row][0]}” under “{grid.columns[column]}”: “{grid.rows[row][column]}”"


def _cell(ask: Ask, grid: Grid) -> Derivation:
    row, column = (int(one) for one in ask.ids)
    return Derivation(
        plan="Find the row, then the column.",
        steps=(_read(grid, row, column),),
        check="no other row and column have these names",
        answer=grid.rows[row][column],
    )


def _sum(ask: Ask, grid: Grid) -> Derivation:
    column = int(ask.ids[0])
    found = numbers(grid, grid.columns[column]) or []
    steps, total = [_read(grid, row, column) for row in range(len(grid.rows))], found[0]
    for value in found[1:]:
        steps.append(f"{total} + {value} = {total + value}")
        total += value
    return Derivation(
        plan="Read the column from top to bottom and keep a running total.",
        steps=tuple(steps),
        check=f"all at once: {' + '.join(map(str, found))} = {total}",
        answer=str(total),
    )


def _most(ask: Ask, grid: Grid) -> Derivation:
    column = int(ask.ids[0])
    found = numbers(grid, grid.columns[column]) or []
    ordered = sorted(found, reverse=ask.value == "largest")
    sign = " > " if ask.value == "largest" else " < "
    chain = str(ordered[0])
    for before, after in pairwise(ordered):
        chain += f" = {after}" if before == after else f"{sign}{after}"
    return Derivation(
        plan=f"Read the column from top to bottom and look for the {ask.value} number.",
        steps=tuple(_read(grid, row, column) for row in range(len(grid.rows))),
        check=f"in order: {chain}",
        answer=grid.rows[found.index(ordered[0])][0],
    )


_PAPER: dict[str, Callable[[Ask, list[Page]], Derivation]] = {
    "reason.document.mentions": _mentions,
    "reason.document.order": _order,
    "reason.document.page": _page,
}
_GRID: dict[str, Callable[[Ask, Grid], Derivation]] = {
    "reason.table.cell": _cell,
    "reason.table.most": _most,
    "reason.table.sum": _sum,
}
