"""Packed batches a second beside MosaicML Streaming, WebDataset and Energon, which packs.

    python benchmarks/loader_vs_peers.py --demo out/demo/corpus --work FOLDER

The peers get an environment of their own (`--peers`; made there the first time, with torch about 6 GB; any Python that has
the packages of `PEERS` will do). The material is made once in `--work` and kept.

Three settings, the same samples and the same 8,192 tokens for all sides, `--workers` processes each:

- text: tokens are stored. Ours reads `trainer.token_store`, packed when it was planned; Energon packs on-line.
- tokenise: text is stored, and tokenised while it is loaded, by the same tokenizer.
- pictures: tokens and JPEGs are stored; decoded, resized and cut into patches while they are loaded. All sides hand over bytes
  (ours makes floats of them for a CPU, and leaves that to a GPU). Ours checks the SHA-256 of every picture.

Every run is a process of its own; sides alternate; a rate is that of the last nine tenths of a run's tokens, so that starting
is left out for all, and stands beside it (seconds to the first batch). `CPU` is processor time of all processes of a side over
the same nine tenths: on a busy machine it says more than the rate. Files are in the page cache for all; the pictures of a pass
are several times what our readers keep decoded, so that no pass helps the next.
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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

PEERS = ("torch", "mosaicml-streaming==0.13.0", "webdataset==1.0.2", "megatron-energon==7.4.1", "tokenizers", "pillow")
SIDES = ("longreel", "energon", "streaming", "webdataset")
SETTINGS = {"text": (12_000, 60_000_000), "tokenise": (12_000, 9_000_000), "pictures": (3_000, 2_600_000)}
"""By setting: samples, and tokens of a run (several passes)."""


def ready_peers(folder: Path) -> Path:
    """The peers' Python."""
    python = folder / "bin" / "python"
    if not python.is_file():
        print(f"installing {' '.join(PEERS)} into {folder} (minutes) ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(folder / "bin" / "pip"), "install", "--quiet", *PEERS], check=True)
    return python


def prepare(setting: str, folder: Path, demo: Path, samples: int, peer: Path) -> None:
    """The material of a setting, whole or not at all."""
    from loader_material import pictures, texts, write_corpus, write_tars

    if (folder / "fill.json").is_file():
        return
    shutil.rmtree(folder, ignore_errors=True)
    begun = time.perf_counter()
    pieces = list(pictures(demo, samples) if setting == "pictures" else texts(demo, samples, seed=0))
    fill = write_corpus(folder / "corpus", pieces)
    write_tars(folder, pieces, setting)
    subprocess.run([str(peer), str(ROOT / "benchmarks" / "loader_peers.py"), "prepare", str(folder)], check=True)
    (folder / "fill.json").write_text(json.dumps(fill))
    print(f"material of {setting}: {len(pieces):,} samples in {time.perf_counter() - begun:.0f} s", flush=True)


def ours(setting: str, folder: Path, tokens: int, workers: int) -> None:
    """Our side, in a process of its own."""
    from loader_material import STAGE
    from loader_peers import measure

    import trainer.collate
    from manifests.catalog import Catalog
    from trainer.launch import Launch
    from trainer.loader import Loader
    from trainer.stage_manifest import read_stages

    trainer.collate.normalised = lambda pixels: pixels

    def batches() -> Iterator[dict[str, Any]]:
        catalog = Catalog(folder / "corpus")
        recipe = read_stages(catalog, "keye_vl_2")[STAGE].recipe
        launch = Launch(workers=workers, tokens=None if setting == "tokenise" else str(folder / "kept"))
        with Loader(catalog, recipe, launch=launch) as loader:
            sequences = loader.sequences(stage=STAGE, split="train")
            while True:
                with loader.steps(sequences, per_step=1, first=0, last=len(sequences)) as steps:
                    for step in steps:
                        yield {"input_ids": step.batches[0][0].input_ids}

    print(json.dumps(measure(batches(), tokens)), flush=True)


def run(side: str, setting: str, folder: Path, tokens: int, workers: int, peer: Path) -> dict[str, Any]:
    """One run of one side."""
    if side == "longreel":
        command = [sys.executable, str(Path(__file__).resolve()), "--child", setting, "--work", str(folder.parent)]
        command += ["--tokens", str(tokens), "--workers", str(workers)]
    else:
        script = ROOT / "benchmarks" / "loader_peers.py"
        command = [str(peer), str(script), side, setting, str(folder), str(tokens), str(workers)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        said, wrong = process.communicate()
        if process.returncode:
            raise SystemExit(f"{side}, {setting}: {wrong.strip().splitlines()[-1:]}")
    return dict(json.loads(said.strip().splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, default=ROOT / "out" / "demo" / "corpus", help="a curated corpus")
    parser.add_argument("--work", type=Path, default=ROOT / "out" / "loader", help="material, kept")
    parser.add_argument("--peers", type=Path, default=ROOT / "out" / "loader" / "peers", help="environment of the peers")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--share", type=float, default=1.0, help="of the material and the tokens of a run, for a first look")
    parser.add_argument("--child", choices=SETTINGS, help=argparse.SUPPRESS)
    parser.add_argument("--tokens", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        ours(options.child, options.work / options.child, options.tokens, options.workers)
        return
    peer = ready_peers(options.peers)
    for setting in options.settings:
        samples, tokens = SETTINGS[setting]
        folder = options.work / setting
        prepare(setting, folder, options.demo, int(samples * options.share), peer)
        wanted = int(tokens * options.share)
        results: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
        run("longreel", setting, folder, wanted // 10, options.workers, peer)  # tokens are kept, files are in memory
        for number in range(options.rounds):
            for side in SIDES if number % 2 == 0 else SIDES[::-1]:
                results[side].append(run(side, setting, folder, wanted, options.workers, peer))
        show(setting, folder, results, options)


def show(setting: str, folder: Path, results: dict[str, list[dict[str, Any]]], options: argparse.Namespace) -> None:
    """A table of medians."""
    about = json.loads((folder / "about.json").read_text())
    print(
        f"\n{setting}: {about['samples']:,} samples, {about['tokens']:,} tokens; {options.workers} workers, "
        f"{options.rounds} rounds, load {os.getloadavg()[0]:.1f}"
    )
    print(f"{'':<12}{'Mtok/s':>8}{'CPU s/Mtok':>12}{'fill':>8}{'first batch s':>15}")
    middle = {
        side: {name: statistics.median(run[name] for run in runs) for name in ("rate", "cpu", "fill", "first_s")}
        for side, runs in results.items()
    }
    for side, figures in middle.items():
        fill = f"{figures['fill']:.1%}" if side in ("longreel", "energon") else "no"
        print(f"{side:<12}{figures['rate'] / 1e6:>8.2f}{figures['cpu']:>12.3f}{fill:>8}{figures['first_s']:>15.2f}")
    ours_, packs = middle["longreel"], middle["energon"]
    fastest = max(figures["rate"] for side, figures in middle.items() if side != "longreel")
    print(
        f"ours is {ours_['rate'] / packs['rate']:.2f}x the one that packs, {ours_['rate'] / fastest:.2f}x the fastest; "
        f"in processor time {packs['cpu'] / ours_['cpu']:.2f}x"
    )


if __name__ == "__main__":
    main()
