"""What a terminal shows while a model trains: six lines that stay in place, or a plain line now and then where nobody watches.

Decided here: the view is told, it asks nothing: `trainer.watching.Watch` for steps, `manifests.progress.Progress` for what lies
between them. It fits 80 columns. Without a terminal a line comes every ten seconds, and at the end of a phase.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from longreel_terminal import err, say
from manifests.printable import printable
from trainer.charts import sparkline

if TYPE_CHECKING:
    from trainer.step_line import StepLine
    from trainer.watching import PhaseView

PLAIN_EVERY_S = 10.0
CURVE_WIDTH = 48
BAR_WIDTH = 20
# Parts of a step, the character that draws each, and its colour.
PARTS = (("wait", "░", "red"), ("forward", "█", "cyan"), ("backward", "▓", "blue"), ("optimiser", "▒", "magenta"))


class TrainingView:
    """Both a `Progress` and a `Watch`.

    Args:
        quiet: show nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet, self.live = quiet, err.is_terminal and not quiet
        self.screen: Live | None = None
        self.view: PhaseView | None = None
        self.losses: list[float] = []
        self.recent: deque[float] = deque(maxlen=20)
        self.line: StepLine | None = None
        self.recall: float | None = None
        self.saved: str = "none yet"
        self.skipped = 0
        self.other: tuple[str, float, float | None, str] | None = None
        self.said = time.monotonic()

    def __call__(self, label: str, done: float, total: float | None, detail: str = "") -> None:
        """Work between steps: evaluation, reading. Steps come by `step`."""
        if self.quiet or label.startswith("stage "):
            return
        self.other = None if total is not None and done >= total else (label, done, total, detail)
        if self.live:
            self._refresh()
        elif self._due():
            of = f" of {total:g}" if total is not None else ""
            say(f"  {label}: {done:g}{of}  {detail}".rstrip())

    def phase(self, view: PhaseView, earlier: list[float]) -> None:
        """See `Watch`."""
        self.view, self.line, self.recall, self.other = view, None, None, None
        self.losses = list(earlier)
        self.recent.clear()

    def step(self, line: StepLine) -> None:
        """See `Watch`."""
        self.line, self.other = line, None
        self.recent.append(line.seconds)
        self.recall = line.indexer_recall if line.indexer_recall is not None else self.recall
        if line.skipped is not None:
            self.skipped += 1
        else:
            self.losses.append(line.loss)
        if self.live:
            self._refresh()
        elif not self.quiet and (self._due() or (self.view is not None and line.step == self.view.last)):
            say(self.plain())

    def checkpoint(self, stage: int, steps: int) -> None:
        """See `Watch`."""
        self.saved = f"stage {stage}, step {steps:,}"
        if self.live:
            self._refresh()

    def plain(self) -> str:
        """The step as one line."""
        line, view = self.line, self.view
        if line is None or view is None:
            return ""
        kl = "" if line.indexer_loss is None else f"  KL {line.indexer_loss:.3f}"
        mfu = "" if line.mfu is None else f"  MFU {line.mfu:.1%}"
        skipped = f"  skipped {self.skipped}" if self.skipped else ""
        return (
            f"  stage {line.stage}/{line.phase}: step {line.step} of {view.steps}  loss {line.loss:.3f}{kl}"
            f"  {line.tokens_per_s:,.0f} tok/s{mfu}  {self._left()}{skipped}"
        )

    def rendered(self) -> Group:
        """The view as it stands."""
        pieces: list[Text | Table] = []
        view, line = self.view, self.line
        if view is not None:
            done, span = line.step if line is not None else view.first, view.last - view.first
            title = Text(f"stage {view.stage} {printable(view.name)}", style="bold")
            title.append(f"  step {done:,} of {view.steps:,}", style="not bold")
            if span < view.steps:
                title.append(f"  {view.phase}: {done - view.first:,} of {span:,}", style="not bold")
            title.append(f"  ({view.attention}, trains {view.trains})", style="not bold")
            pieces.append(title)
        if view is not None and line is not None:
            pieces.append(self._figures(view, line))
        if self.other is not None:
            label, count, total, detail = self.other
            of = f" of {total:g}" if total is not None else ""
            pieces.append(Text(printable(f"{label}: {count:g}{of}  {detail}")))
        for piece in pieces:
            if isinstance(piece, Text):
                piece.no_wrap, piece.overflow = True, "crop"
        return Group(*pieces)

    def _figures(self, view: PhaseView, line: StepLine) -> Table:
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(no_wrap=True, overflow="crop")
        curve = Text(f"{line.loss:<8.3f}")
        curve.append(sparkline(self.losses, CURVE_WIDTH), style="cyan")
        table.add_row("loss", curve)
        indexer = "not used" if line.indexer_loss is None else f"KL {line.indexer_loss:.4f}"
        if self.recall is not None:
            indexer += f", recall {self.recall:.1%}"
        unused = sum(line.experts_unused)
        busiest = max(line.expert_load, default=0.0)
        table.add_row("indexer", f"{indexer}   experts: busiest {busiest:.1f} x the mean, {unused} unused")
        mfu = "" if line.mfu is None else f", MFU {line.mfu:.1%} of the {view.peak_source} peak"
        table.add_row("speed", f"{line.tokens_per_s:,.0f} tok/s{mfu}, {line.memory_bytes / 2**30:.1f} GiB")
        table.add_row("time", self._bar(line))
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        table.add_row("left", f"{self._left()}   checkpoint: {self.saved}{skipped}")
        return table

    def _bar(self, line: StepLine) -> Text:
        """Where the step's time went: a bar, and the shares in words."""
        spent = (line.data_wait_s, line.forward_s, line.backward_s, line.optimiser_s)
        whole = max(line.seconds, sum(spent), 1e-9)
        bar, words, drawn, so_far = Text(), [], 0, 0.0
        for (name, mark, style), seconds in zip(PARTS, spent, strict=True):
            so_far += seconds
            cells = round(so_far / whole * BAR_WIDTH) - drawn
            drawn += cells
            bar.append(mark * cells, style=style)
            words.append(f"{name} {seconds / whole:.0%}")
        return bar.append("·" * (BAR_WIDTH - drawn), style="dim").append("  " + " ".join(words))

    def _left(self) -> str:
        """An estimate for this stage, from the last steps of this phase."""
        if self.view is None or self.line is None or not self.recent:
            return ""
        seconds = sum(self.recent) / len(self.recent) * (self.view.steps - self.line.step)
        if seconds < 90:
            return f"{seconds:.0f} s left in stage"
        return f"{seconds / 60:.0f} min left in stage" if seconds < 5400 else f"{seconds / 3600:.1f} h left in stage"

    def _due(self) -> bool:
        if time.monotonic() - self.said < PLAIN_EVERY_S:
            return False
        self.said = time.monotonic()
        return True

    def _refresh(self) -> None:
        if self.screen is not None:
            self.screen.update(self.rendered())


@contextlib.contextmanager
def training(*, quiet: bool = False) -> Iterator[TrainingView]:
    """A view for as long as the block runs."""
    view = TrainingView(quiet=quiet)
    if not view.live:
        yield view
        return
    with Live(console=err, transient=True, refresh_per_second=4) as view.screen:
        yield view
