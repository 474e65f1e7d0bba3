"""Every named question on a planned corpus: seconds of a fresh connection, opening the corpus included.

    python benchmarks/scale_corpus.py --samples 10000000 --out FOLDER && longreel plan FOLDER
    python benchmarks/named_queries.py --corpus FOLDER

Look-ups ask for what is hardest to find: of the packed sequences the one with the most samples, of the sources one in the
middle and the one with the most samples. DuckDB runs on ``--threads`` threads. Each question is asked once to bring its files
into the page cache, then ``--rounds`` times on a new `Catalog` each; the median counts against the limit. `cpu s` is the
processor time of all threads: on a machine that does other things, half of it is what two free cores would take. Exits with 1
when one misses it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

from manifests.catalog import Catalog
from manifests.queries import QUESTIONS

LIMIT_S = 1.0


def cases(corpus: Path) -> list[tuple[str, str, dict[str, str | int]]]:
    """Label, question and parameters."""
    catalog = Catalog(corpus)

    def first(query: str) -> tuple[str | int, ...]:
        return tuple(catalog.sql(query).fetchall()[0])

    (samples,) = first("SELECT count(*) FROM sources WHERE samples > 0")
    heavy, heavy_samples = first("SELECT source_id, samples FROM sources ORDER BY samples DESC, source_id LIMIT 1")
    typical, typical_samples = first(
        "SELECT source_id, samples FROM sources WHERE samples > 0 ORDER BY samples, source_id "
        f"LIMIT 1 OFFSET {int(samples) // 2}"
    )
    stage, position, held = first(
        "SELECT stage, position, segments FROM sequences WHERE split = 'train' ORDER BY segments DESC, stage, position LIMIT 1"
    )
    (sample,) = first(f"SELECT sample_id FROM segments WHERE stage = {stage} AND position = {position} LIMIT 1")
    (picture,) = first("SELECT coalesce(min(media_id), '') FROM media")
    given: dict[str, list[tuple[str, dict[str, str | int]]]] = {
        "lineage-of-sample": [("", {"sample_id": sample})],
        "lineage-of-source": [
            (f" ({typical_samples} samples)", {"source": typical}),
            (f" ({heavy_samples}, the first 100)", {"source": heavy}),
            (f" ({heavy_samples}, all)", {"source": heavy, "limit": 10**9}),
        ],
        "lineage-of-span": [
            (" (1,000 tokens)", {"stage": stage, "position": position, "from": 1_000, "to": 2_000}),
            (f" (whole, {held} samples)", {"stage": stage, "position": position}),
        ],
        "lineage-of-picture": [("", {"media_id": picture})],
    }
    return [(name + label, name, values) for name in QUESTIONS for label, values in given.get(name, [("", {})])]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    ((samples, sequences),) = (
        Catalog(arguments.corpus).sql("SELECT (SELECT count(*) FROM samples), (SELECT count(*) FROM sequences)").fetchall()
    )
    print(f"{samples:,} samples, {sequences:,} sequences, {arguments.threads} threads, load {os.getloadavg()[0]:.1f}")
    print(f"{'question':<38} {'rows':>7} {'open s':>7} {'total s':>8} {'cpu s':>6}  limit {LIMIT_S:g} s")
    missed = 0
    for label, name, values in cases(arguments.corpus):
        opening, totals, processor, rows = [], [], [], 0
        for _ in range(arguments.rounds + 1):
            begun, used = time.perf_counter(), time.process_time()
            catalog = Catalog(arguments.corpus)
            catalog.connection.execute(f"SET threads = {arguments.threads}")
            opening.append(time.perf_counter() - begun)
            rows = len(catalog.named(name, values).fetchall())
            totals.append(time.perf_counter() - begun)
            processor.append(time.process_time() - used)
        total = statistics.median(totals[1:])
        missed += total >= LIMIT_S
        figures = f"{rows:>7,} {statistics.median(opening[1:]):>7.3f} {total:>8.3f} {statistics.median(processor[1:]):>6.2f}"
        print(f"{label:<38} {figures}  {'ok' if total < LIMIT_S else 'MISSED'}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
