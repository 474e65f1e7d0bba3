"""Planning by number of samples: seconds, processor seconds and memory, and how they grow.

    python benchmarks/plan_scale.py --samples 1000000 10000000 --work FOLDER

For each size a synthetic corpus (`benchmarks/scale_corpus.py`) is written below FOLDER unless it is there, then planned by
recipe `keye_vl_2` in a process of its own, four stages chosen, packed, balanced, written and hashed; then planned once more
from its own plan after nothing has changed. Goals: 10 million samples in 180 s and 4 GiB on 2 cores, 1 million in 20 s,
growth no worse than n log n. The last line extrapolates to 100 million with the measured exponent; it is no measurement.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from pathlib import Path

GOALS = {1_000_000: 20.0, 10_000_000: 180.0}


def plan_one(folder: str) -> None:
    """Plans and prints the figures of this process as JSON."""
    from curriculum import plan
    from curriculum.recipes import keye_vl_2

    record = Path(folder) / "steps" / "plan-keye_vl_2.json"
    record.unlink(missing_ok=True)
    started, processor = time.monotonic(), time.process_time()
    result = plan(Path(folder), keye_vl_2())
    stages = result.counts["stages"]
    figures = {
        "wall": time.monotonic() - started,
        "cpu": time.process_time() - processor,
        "gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "sequences": sum(stage["sequences"] for stage in stages),
        "segments": sum(stage["segments"] for stage in stages),
        "over_bound": max(stage["sequences"] / max(stage["bound"], 1) - 1 for stage in stages),
    }
    print(json.dumps(figures))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--work", type=Path, required=True, help="where the synthetic corpora lie: 0.2 GB a million samples")
    options = parser.parse_args()
    here = Path(__file__)
    rows = []
    print(
        f"{'samples':>12} {'wall':>9} {'goal':>7} {'CPU':>9} {'GiB':>6} {'sequences':>11} {'segments':>12} {'over bound':>11}"
    )
    for samples in sorted(options.samples):
        folder = options.work / f"samples-{samples}"
        if not (folder / "steps" / "curate.json").is_file():
            command = [sys.executable, str(here.with_name("scale_corpus.py")), "--samples", str(samples), "--out", str(folder)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        done = subprocess.run([sys.executable, str(here), "--one", str(folder)], check=True, capture_output=True, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        rows.append((samples, found))
        goal = f"{GOALS[samples]:.0f} s" if samples in GOALS else "-"
        print(
            f"{samples:>12,} {found['wall']:>7.1f} s {goal:>7} {found['cpu']:>7.1f} s {found['gib']:>6.2f} "
            f"{found['sequences']:>11,} {found['segments']:>12,} {found['over_bound']:>11.4%}"
        )
    if len(rows) > 1:
        (few, small), (many, large) = rows[0], rows[-1]
        exponent = math.log(large["cpu"] / small["cpu"]) / math.log(many / few)
        sorting = math.log(many * math.log(many) / (few * math.log(few))) / math.log(many / few)
        print(f"processor time grows with the power {exponent:.2f} of the samples; n log n would be {sorting:.2f} here")
        each = (large["gib"] - small["gib"]) / (many - few)
        print(
            f"100,000,000 on paper: {large['cpu'] * (100_000_000 / many) ** exponent:,.0f} s of one core, "
            f"{large['gib'] + each * (100_000_000 - many):.0f} GiB if memory keeps growing by {each * 2**30:.0f} bytes a sample"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        plan_one(sys.argv[2])
    else:
        main()
