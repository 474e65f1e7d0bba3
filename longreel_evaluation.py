"""What `longreel evaluate` shows: held-out losses, dense beside sparse, and how needles were found by depth and length."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from longreel_terminal import figures_table, out
from manifests.printable import printable


def show_heldout(measured: dict[str, Any]) -> None:
    """Losses by group, a column for each way of attention."""
    ways = list(measured)
    first = measured[ways[0]]
    out.print(Text(f"held-out loss, nats a token ({first['sequences']} sequences, {first['targets']:,} targets)", style="bold"))
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("")
    for name in ("targets", *ways, *(["difference"] if len(ways) == 2 else [])):
        table.add_column(name, justify="right")

    def row(name: str, targets: int, losses: list[float | None]) -> None:
        words = ["-" if loss is None else f"{loss:.4f}" for loss in losses]
        if len(losses) == 2:
            one, two = losses
            words.append("-" if not one or two is None else f"{two / one - 1:+.2%}")
        table.add_row(Text(printable(name)), f"{targets:,}", *words)

    row("all", first["targets"], [measured[way]["loss"] for way in ways])
    for axis in ("context", "duration", "modality", "task"):
        for group, (_, targets) in first["losses"].get(axis, {}).items():
            row(f"{axis} {group}", targets, [measured[way]["losses"][axis][group][0] for way in ways])
    out.print(table)
    recall = [evaluation["recall"] for evaluation in measured.values() if evaluation["recall"] is not None]
    if recall:
        out.print(f"indexer recall {recall[0]:.1%}: dense attention mass on the keys that sparse attention reads")


def show_needles(summary: dict[str, Any]) -> None:
    """A table a kind: depths down, lengths across, each way of attention in each cell; then the sums with their intervals."""
    ways, chance = summary["attentions"], summary["chance"]
    cells = {(c["kind"], c["attention"], c["length"], c["depth"]): c for c in summary["cells"]}
    spec = summary["spec"]
    for kind in spec["kinds"]:
        out.print()
        title = f"needles found in {kind}, {' / '.join(ways)}; chance {chance:.1%}, {spec['repeats']} cases a cell"
        out.print(Text(title, style="bold"), soft_wrap=True)
        table = figures_table("depth", *(f"{length:,}" for length in sorted(spec["lengths"])))
        for depth in spec["depths"]:
            row = [
                " / ".join(f"{cells[kind, way, length, depth]['found']:.0%}" for way in ways)
                for length in sorted(spec["lengths"])
            ]
            table.add_row(f"{depth:.0%}", *row)
        out.print(table)
    out.print()
    for total in summary["totals"]:
        close = total["low"] <= chance <= total["high"]
        out.print(
            f"{total['kind']}, {total['attention']}: found {total['found']:.1%} of {total['cases']} "
            f"(95 %: {total['low']:.1%} to {total['high']:.1%}{', no different from chance' if close else ''}), "
            f"written {total['written_right']:.1%}",
            highlight=False,
        )
    if summary["repeated"]:
        out.print(f"in {summary['repeated']} of these the held-out material was shorter than the haystack and came again")
