"""Runs of neighbouring pages: what the families about documents show."""

from __future__ import annotations

from synth_cot.known import Page, Paper

SHORTEST, LONGEST = 3, 6
CHARACTERS = 12_000


def run_around(paper: Paper, index: int) -> list[Page]:
    """Three to six pages that hold the page at ``index`` somewhere, of at most 12,000 characters; [] when there are fewer."""
    page = paper.pages[index]
    # The page asked for stands anywhere in its run: where, is a matter of its number.
    first = max(0, min(index - page.number % LONGEST, len(paper.pages) - LONGEST))
    run = list(paper.pages[first : first + LONGEST])
    while len(run) > SHORTEST and sum(len(one.text) for one in run) > CHARACTERS:
        run.pop(0 if run[-1] is page or (len(run[0].text) > len(run[-1].text) and run[0] is not page) else -1)
    return run if len(run) >= SHORTEST else []


def chosen(paper: Paper, ids: tuple[str, ...]) -> list[Page]:
    """The pages of those numbers."""
    return [page for page in paper.pages if str(page.number) in ids]


def unfit(run: list[Page]) -> tuple[str, str] | None:
    """Reason and detail when a run cannot be shown, or None."""
    if any(not page.text for page in run):
        return "no_page_text", "the corpus holds no text of a page in the run"
    if sum(len(" ".join(page.text.split())) for page in run) > CHARACTERS:
        return "too_long", f"the run holds more than {CHARACTERS} characters"
    return None
