"""Tables and plots of `learning_proof.py`'s runs, for docs/learning-proof.md.

Decided here: a comparison is made within a seed (same weights at the start, same steps, orders of the same seed), and what is
shown is the mean of the paired differences, each of them, and their spread. With three seeds a difference is called one only
when all three have one sign and their mean is more than twice its standard error; anything else is "no difference seen".

Run: `python benchmarks/learning_proof_report.py --work out/learning-proof`. It draws the plots, writes the runs beside them
(docs/learning-proof/runs.json) and puts its tables and what they allow to say into docs/learning-proof.md, between its marks.
It takes what is there: arms and seeds that have not run are left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import matplotlib as mpl
import matplotlib.pyplot as plt

mpl.use("svg")
mpl.rcParams.update({"svg.hashsalt": "longreel", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})

BEGIN, END = "<!-- results: written by benchmarks/learning_proof_report.py -->", "<!-- end of results -->"
ARMS = ("curriculum", "shuffled", "order", "dense")
COLOURS = {"curriculum": "#1f5fa8", "shuffled": "#c8561b", "order": "#7a7a7a", "dense": "#2d8a57"}
BUCKETS = ("32k", "64k", "256k")

Run = dict[str, Any]


class Runs:
    """The chosen runs by (arm, seed), the sweep, and the held-out samples."""

    def __init__(self, work: Path) -> None:
        self.setup = json.loads((work / "set.json").read_text())
        chosen = work / "scales.json"
        every = [json.loads(path.read_text()) for path in sorted(work.glob("*-seed*-x*.json"))]
        self.sweep = sorted((run for run in every if run["seed"] == 0), key=lambda run: (run["arm"], run["scale"]))
        self.scales = json.loads(chosen.read_text()) if chosen.is_file() else self._best()
        self.of = {(run["arm"], run["seed"]): run for run in every if run["scale"] == self.scales.get(run["arm"])}
        self.test = self.setup["sets"]["test"]

    def _best(self) -> dict[str, float]:
        """The rates of a search that has not ended yet."""
        best = {}
        for arm in ("curriculum", "shuffled"):
            tried = [run for run in self.sweep if run["arm"] == arm]
            if tried:
                best[arm] = min(tried, key=lambda run: run["tuning"])["scale"]
        return best

    def seeds(self, *arms: str) -> list[int]:
        """Seeds that all these arms have run."""
        return sorted({seed for _, seed in self.of if all((arm, seed) in self.of for arm in arms)})

    def loss(self, run: Run, mode: str | None = None, keep: Callable[[Run], bool] = lambda sample: True) -> float:
        """Mean test loss in nats a token; `mode` None is the attention the run ended with."""
        pairs = [pair for pair, row in zip(run["test"][mode or run["attention"]], self.test, strict=True) if keep(row)]
        return sum(loss for loss, _ in pairs) / sum(targets for _, targets in pairs)

    def loss_by_samples(self, run: Run) -> float:
        """The mean over samples of their mean losses: no long sample outweighs the others."""
        return statistics.mean(loss / targets for loss, targets in run["test"][run["attention"]])


def spread(values: list[float]) -> str:
    """Mean and standard deviation."""
    deviation = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{deviation}"


def verdict(differences: list[float]) -> str:
    """What paired differences allow to say."""
    if len(differences) < 3:
        return "too few seeds"
    error = statistics.stdev(differences) / len(differences) ** 0.5
    if len({value > 0 for value in differences}) == 1 and abs(statistics.mean(differences)) > 2 * error:
        return "higher" if differences[0] > 0 else "lower"
    return "no difference seen"


def groups(runs: Runs) -> dict[str, Callable[[Run], bool]]:
    """How the test samples are told apart."""
    by_bucket = {f"bucket {name}": (lambda row, name=name: row["bucket"] == name) for name in BUCKETS}
    return {
        "all": lambda row: True,
        **by_bucket,
        "text only": lambda row: not row["visual"],
        "with pictures": lambda row: bool(row["visual"]),
    }


QUESTIONS = (
    ("curriculum", "shuffled", "The curriculum against the same steps shuffled"),
    ("curriculum", "dense", "Sparse attention in stages 2 and 3 against dense"),
    ("order", "shuffled", "The curriculum's phases and schedules over the random order, against the plain shuffled run"),
    ("curriculum", "order", "The curriculum's order against the random one, phases and schedules alike"),
)


def sentences(runs: Runs) -> list[str]:
    """What the runs so far answer."""
    lines = []
    for first, second, question in QUESTIONS:
        seeds = runs.seeds(first, second)
        if not seeds:
            lines.append(f"- {question}: not run yet.")
            continue
        apart = [runs.loss(runs.of[first, seed]) - runs.loss(runs.of[second, seed]) for seed in seeds]
        base = statistics.mean(runs.loss(runs.of[second, seed]) for seed in seeds)
        mean = statistics.mean(apart)
        each = ", ".join(f"{value:+.3f}" for value in apart)
        lines.append(
            f"- {question}: test loss {mean:+.3f} nats ({mean / base:+.1%}) over {len(seeds)} seed{'s' * (len(seeds) > 1)} "
            f"({each}): **{verdict(apart)}**."
        )
    return lines


def losses_table(runs: Runs) -> list[str]:
    """Mean and spread over seeds, by arm and group."""
    arms = [arm for arm in ARMS if runs.seeds(arm)]
    lines = ["| test samples | tokens | " + " | ".join(arms) + " |", "|---|---|" + "---|" * len(arms)]
    for name, keep in groups(runs).items():
        tokens = sum(row["tokens"] for row in runs.test if keep(row))
        cells = [spread([runs.loss(runs.of[arm, seed], keep=keep) for seed in runs.seeds(arm)]) for arm in arms]
        lines.append(f"| {name} | {tokens:,} | " + " | ".join(cells) + " |")
    cells = [spread([runs.loss_by_samples(runs.of[arm, seed]) for seed in runs.seeds(arm)]) for arm in arms]
    lines.append("| all, each sample counted alike | | " + " | ".join(cells) + " |")
    for mode in ("dense", "sparse"):
        cells = [spread([runs.loss(runs.of[arm, seed], mode) for seed in runs.seeds(arm)]) for arm in arms]
        lines.append(f"| all, read with {mode} attention | | " + " | ".join(cells) + " |")
    return lines


def pairs_table(runs: Runs) -> list[str]:
    """Paired differences of the questions."""
    lines = ["| test loss, first less second | samples | each seed | mean | |", "|---|---|---|---|---|"]
    for first, second, _ in QUESTIONS:
        seeds = runs.seeds(first, second)
        if not seeds:
            continue
        for name, keep in groups(runs).items():
            apart = [runs.loss(runs.of[first, s], keep=keep) - runs.loss(runs.of[second, s], keep=keep) for s in seeds]
            each = ", ".join(f"{value:+.3f}" for value in apart)
            lines.append(f"| {first} - {second} | {name} | {each} | {statistics.mean(apart):+.3f} | {verdict(apart)} |")
        apart = [runs.loss_by_samples(runs.of[first, s]) - runs.loss_by_samples(runs.of[second, s]) for s in seeds]
        each = ", ".join(f"{value:+.3f}" for value in apart)
        lines.append(f"| {first} - {second} | samples alike | {each} | {statistics.mean(apart):+.3f} | {verdict(apart)} |")
    return lines


def sweep_table(runs: Runs) -> list[str]:
    """What was tried to choose the rates."""
    lines = ["| arm | rates x | tuning loss | |", "|---|---|---|---|"]
    for run in runs.sweep:
        if run["arm"] in ("curriculum", "shuffled"):
            chosen = "chosen" if runs.scales.get(run["arm"]) == run["scale"] else ""
            lines.append(f"| {run['arm']} | {run['scale']:g} | {run['tuning']:.4f} | {chosen} |")
    return lines


def plot_curves(runs: Runs, path: Path) -> None:
    """Held-out loss while training: a line a seed, the first seed's stages marked."""
    figure, axes = plt.subplots(figsize=(6.4, 3.6))
    for arm in ARMS:
        for seed in runs.seeds(arm):
            curve = runs.of[arm, seed]["curve"]
            label = arm if seed == runs.seeds(arm)[0] else None
            axes.plot(
                [point["tokens"] / 1000 for point in curve], [point["loss"] for point in curve],
                color=COLOURS[arm], marker=".", markersize=4, linewidth=1, alpha=0.8, label=label,
            )  # fmt: skip
    reached = 0
    for stage, (_, tokens) in runs.setup["stages"].items():
        reached += tokens
        axes.axvline(reached / 1000, color="#bbbbbb", linewidth=0.6, zorder=0)
        axes.text((reached - tokens / 2) / 1000, 0.99, stage, color="#888888", ha="center", va="top",
                  transform=axes.get_xaxis_transform())  # fmt: skip
    axes.set(xlabel="thousand training tokens (grey: the curriculum's stages)", ylabel="held-out loss, nats a token")
    axes.legend(frameon=False)
    _write(figure, path)


def plot_buckets(runs: Runs, path: Path) -> None:
    """Test loss by bucket, a point a seed."""
    figure, axes = plt.subplots(figsize=(6.4, 3.2))
    arms = [arm for arm in ARMS if runs.seeds(arm)]
    named = list(groups(runs).items())
    for place, (_, keep) in enumerate(named):
        for shift, arm in enumerate(arms):
            values = [runs.loss(runs.of[arm, seed], keep=keep) for seed in runs.seeds(arm)]
            at = place + (shift - (len(arms) - 1) / 2) * 0.18
            axes.plot([at] * len(values), values, ".", color=COLOURS[arm], markersize=5, label=arm if place == 0 else None)
            axes.plot([at - 0.07, at + 0.07], [statistics.mean(values)] * 2, color=COLOURS[arm], linewidth=1.2)
    axes.set_xticks(range(len(named)), [name for name, _ in named])
    axes.set(ylabel="test loss, nats a token")
    axes.legend(frameon=False)
    _write(figure, path)


def _write(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("out/learning-proof"))
    parser.add_argument("--out", type=Path, default=Path("docs/learning-proof"))
    parser.add_argument("--page", type=Path, default=Path("docs/learning-proof.md"))
    arguments = parser.parse_args()
    runs = Runs(arguments.work)
    arguments.out.mkdir(parents=True, exist_ok=True)
    plot_curves(runs, arguments.out / "curves.svg")
    plot_buckets(runs, arguments.out / "buckets.svg")
    kept = [runs.of[key] for key in sorted(runs.of)]
    sweep = [{key: run[key] for key in ("arm", "seed", "scale", "tuning")} for run in runs.sweep]
    values = {"share": runs.setup["share"], "stages": runs.setup["stages"], "test": runs.test, "sweep": sweep, "runs": kept}
    (arguments.out / "runs.json").write_text(json.dumps(values, separators=(",", ":")) + "\n")
    steps = ", ".join(f"{count} ({tokens:,} tokens)" for count, tokens in runs.setup["stages"].values())
    text = [
        f"{runs.setup['share']:.0%} of the plan's steps, by stage: {steps}. Rates, times the recipe's: "
        + ", ".join(f"{arm} {scale:g}" for arm, scale in runs.scales.items())
        + ".",
        "",
        *sentences(runs),
    ]
    for table in (losses_table(runs), pairs_table(runs), sweep_table(runs)):
        text += ["", *table]
    print("\n".join(text))
    if arguments.page.is_file():
        before, rest = arguments.page.read_text().split(BEGIN)
        arguments.page.write_text(before + BEGIN + "\n" + "\n".join(text) + "\n" + END + rest.split(END)[1])


if __name__ == "__main__":
    main()
