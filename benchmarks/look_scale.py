"""What looking costs: the report of a synthetic corpus, and the difference between it and a changed copy.

    python benchmarks/look_scale.py --samples 1000000 --work FOLDER

Makes the corpus (`scale_corpus.py`), plans it, copies it, changes the copy (a hundredth of the samples gone, a hundredth under
another licence, one source in 500 on the other side of the split, one in 500 gone), plans it anew, and runs `longreel report`
and `longreel diff` as processes of their own. Beside them, in the same run: hashing every row of every table once in DuckDB,
which is what anything that looks at all rows has to pay. Times are medians of `ROUNDS`, in processor seconds, because they
travel better than wall time; peak memory is the process's own.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from manifests import files, schemas
from manifests.fingerprint import sha256_file

ROUNDS = 3
ROOT = Path(__file__).parent.parent
LIGHT = """
import os, sys
pid = os.posix_spawn(sys.executable, [sys.executable, *sys.argv[1:]], os.environ)
_, status, usage = os.wait4(pid, 0)
print(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""Starts a command from a process that is small itself: the peak memory of a child begins with that of its parent."""
HASH_ALL = """
import sys
from manifests.catalog import Catalog
catalog = Catalog(sys.argv[1])
for table in ("samples", "lineage", "segments", "sequences", "sources", "dropped", "quarantine"):
    names = [row[0] for row in catalog.connection.execute(f"DESCRIBE {table}").fetchall()]
    columns = ", ".join(name for name in names if name != "messages")
    catalog.connection.execute(f"SELECT sum(hash({columns})) FROM {table}").fetchall()
"""


def changed_copy(a: Path, b: Path) -> None:
    """Copies corpus ``a`` to ``b`` and changes samples and sources there; the copy's record says what its files are."""
    shutil.copytree(a, b, ignore=shutil.ignore_patterns("_work", "runs", "sequences", "segments", "stages", "plan-*.json"))
    record = json.loads((b / "steps" / "curate.json").read_text())
    for table, identity, column in (("samples", "sample_id", "licence"), ("sources", "source_id", "split")):
        for path in sorted((b / table).rglob("*.parquet")):
            rows = pq.ParquetFile(path).read()
            part = np.array([int(text[-4:], 16) for text in rows[identity].to_pylist()], dtype=np.int64)
            every = 100 if table == "samples" else 500
            old = rows[column].to_pylist()
            other = {"train": "heldout", "heldout": "train"}
            new = [
                (value if chosen % every != 1 else "CC0-1.0" if table == "samples" else other.get(value))
                for value, chosen in zip(old, part.tolist(), strict=True)
            ]
            position = rows.schema.get_field_index(column)
            rows = rows.set_column(position, rows.schema.field(position), pa.array(new, type=pa.string()))
            files.write_rows(path, rows.filter(pa.array(part % every != 0)), schemas.TABLES[table])
            record["files"][path.relative_to(b).as_posix()] = sha256_file(path)
    (b / "steps" / "curate.json").write_text(json.dumps(record))


def measured(*words: str) -> tuple[float, float, float, str]:
    """Processor and wall seconds (medians), peak MiB and last output of a command of this project."""
    cpu, wall, peak, said = [], [], [], ""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for _ in range(ROUNDS):
        started = time.monotonic()
        command = [sys.executable, "-c", LIGHT, *words]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1):
            raise SystemExit(f"{words[:2]} failed: {done.stderr[-400:]}")
        wall.append(time.monotonic() - started)
        seconds, mib = done.stderr.split()[-2:]
        cpu.append(float(seconds))
        peak.append(float(mib))
        said = done.stdout
    return statistics.median(cpu), statistics.median(wall), max(peak), said


def main() -> None:
    """Prints one line a side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--work", type=Path, default=Path("out/look_scale"))
    arguments = parser.parse_args()
    a, b = arguments.work / "a", arguments.work / "b"
    script = str(ROOT / "benchmarks" / "scale_corpus.py")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if not (a / "steps" / "plan-keye_vl_2.json").is_file():
        command = [sys.executable, script, "--samples", str(arguments.samples), "--out", str(a)]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    if not (b / "steps" / "plan-keye_vl_2.json").is_file():
        shutil.rmtree(b, ignore_errors=True)
        changed_copy(a, b)
    for corpus in (a, b):
        command = [sys.executable, "longreel.py", "plan", str(corpus.resolve()), "--recipe", "keye_vl_2"]
        subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    a, b = a.resolve(), b.resolve()
    page, other = arguments.work.resolve() / "report.html", arguments.work.resolve() / "diff.html"
    rows = [
        ("hash every row once", *measured("-c", HASH_ALL, str(a))[:3]),
        ("report", *measured("longreel.py", "report", str(a), "-o", str(page))[:3]),
        ("diff with itself", *measured("longreel.py", "diff", str(a), str(a), "--json")[:3]),
    ]
    cpu, wall, peak, said = measured("longreel.py", "diff", str(a), str(b), "--json", "--html", str(other))
    rows.append(("diff with the copy", cpu, wall, peak))
    found = json.loads(said)
    print(
        f"{arguments.samples:,} samples; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}"
    )
    print(f"{'':<22}{'CPU s':>8}{'of hashing':>12}{'wall s':>8}{'peak MiB':>10}")
    for name, cpu, wall, peak in rows:
        print(f"{name:<22}{cpu:>8.1f}{cpu / rows[0][1]:>11.2f}x{wall:>8.1f}{peak:>10,.0f}")
    print(f"page {page.stat().st_size / 1000:,.0f} kB; pages of the difference {other.stat().st_size / 1000:,.0f} kB")
    samples, sources = found["samples"], found["sources"]
    print(f"found: {samples['removed']:,} samples removed, {samples['relicensed']:,} relicensed; sources {sources['counts']}, "
          f"crossed {sources['crossings']}")  # fmt: skip


if __name__ == "__main__":
    main()
