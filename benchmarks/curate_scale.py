"""Does an item cost the same among many as among few? Curates 1, 10 and 100 times as many inputs; time and memory per item.

    python benchmarks/curate_scale.py --unit 30

Inputs are made from the example corpus and are all distinct, so that no duplicate is dropped: pictures cut at random from two
photographs, texts whose words are drawn anew, short films that pan over a photograph. A run of one picture tells what starting
costs, which is taken off; what is left is divided by the number of inputs. Processor seconds are compared, because they do not
depend on what else the machine does; wall seconds are shown beside them. Memory is the peak of the sum of resident sizes of the
process tree (shared pages counted in each), with the peak of the driver alone and of its largest reader beside it; the pages
that the system caches belong to no process and are not in it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples" / "corpus"
FLAT = 0.15


def picture(rng: random.Random, photographs: list[Image.Image]) -> Image.Image:
    """Pieces of two photographs, side by side."""
    made = Image.new("RGB", (480, 320))
    for left in (0, 240):
        photograph = rng.choice(photographs)
        width, height = (rng.randrange(size // 3, size) for size in photograph.size)
        x, y = (rng.randrange(whole - part) for whole, part in zip(photograph.size, (width, height), strict=True))
        piece = photograph.crop((x, y, x + width, y + height)).resize((240, 320))
        made.paste(piece.rotate(rng.choice([0, 180])), (left, 0))
    return made


def film(path: Path, rng: random.Random, photographs: list[Image.Image]) -> None:
    """Four seconds over three pictures."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for _ in range(3):
            scene = picture(rng, photographs)
            for step in range(14):
                frame = av.VideoFrame.from_image(scene.crop((step * 4, step, step * 4 + 400, step + 300)).resize((320, 240)))
                container.mux(stream.encode(frame))
        container.mux(stream.encode())


def make(folder: Path, count: int) -> None:
    """Writes ``count`` distinct inputs: of ten, six pictures with captions, three texts and one film."""
    photographs = [Image.open(path).convert("RGB") for path in sorted((EXAMPLES / "images").glob("*.jpg"))[:12]]
    words = " ".join(path.read_text(errors="replace") for path in sorted((EXAMPLES / "documents").glob("*.md"))[:8]).split()
    folder.mkdir()
    for number in range(count):
        rng = random.Random(f"scale/{number}")
        stem = folder / f"{number:06d}"
        if number % 10 == 9:
            film(stem.with_suffix(".mp4"), rng, photographs)
        elif number % 10 >= 6:
            lines = [" ".join(rng.choices(words, k=12)) + "." for _ in range(60)]
            stem.with_suffix(".txt").write_text("\n".join(lines))
        else:
            data = io.BytesIO()
            picture(rng, photographs).save(data, "JPEG", quality=90)
            stem.with_suffix(".jpg").write_bytes(data.getvalue())
            caption = {"caption": f"Two pieces of photographs, number {number}: {' '.join(rng.choices(words, k=6))}."}
            stem.with_suffix(".caption.json").write_text(json.dumps(caption))


@dataclass(kw_only=True)
class Peaks:
    """Largest resident bytes: of all processes together, of the driver, of any of its children."""

    tree: int = 0
    driver: int = 0
    child: int = 0


def curate(folder: Path, out: Path) -> tuple[float, float, Peaks, dict[str, int]]:
    """Curates; returns wall seconds, processor seconds, memory, and the figures."""
    before, begun, peaks = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic(), Peaks()
    command = [sys.executable, "-m", "longreel", "curate", str(folder), "--out", str(out), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ})
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.2):
            total = 0
            with contextlib.suppress(psutil.Error):
                parent = psutil.Process(process.pid)
                total = parent.memory_info().rss
                peaks.driver = max(peaks.driver, total)
                for child in parent.children(recursive=True):
                    with contextlib.suppress(psutil.Error):
                        resident = child.memory_info().rss
                        peaks.child = max(peaks.child, resident)
                        total += resident
            peaks.tree = max(peaks.tree, total)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    said, _ = process.communicate()
    ended.set()
    watcher.join()
    if process.returncode:
        raise RuntimeError(f"curation of {folder} ended with {process.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    return time.monotonic() - begun, seconds, peaks, json.loads(said)


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--unit", type=int, default=30, help="inputs of the smallest run")
    parser.add_argument("--largest", type=int, default=100, help="how many times the unit the largest run has")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder / "one", 1)
        start_wall, start_cpu, _, _ = curate(folder / "one", folder / "one-corpus")
        print(f"starting (1 input): {start_wall:.1f} s, {start_cpu:.1f} processor s")
        costs, peaks = [], []
        for times in (1, 10, 100):
            if times > arguments.largest:
                break
            count = times * arguments.unit
            make(folder / f"x{times}", count)
            wall, cpu, peak, counts = curate(folder / f"x{times}", folder / f"corpus-{times}")
            if counts["used"] < 0.95 * count:  # among thousands of pieces of twelve photographs, some are alike
                raise RuntimeError(f"{counts['used']} of {count} inputs were used: they are not distinct")
            costs.append((cpu - start_cpu) / (count - 1))
            peaks.append(peak.tree)
            each = f"{costs[-1] * 1000:.0f} processor ms and {(wall - start_wall) / (count - 1) * 1000:.0f} ms an input"
            memory = ", ".join(f"{name} {value / 2**20:,.0f}" for name, value in vars(peak).items())
            print(f"{times:>4} x: {count} inputs in {wall:.1f} s: {each}; peak MiB: {memory}", flush=True)
    if len(costs) > 1:
        print(f"largest run against the one before: cost {costs[-1] / costs[-2]:.2f} x, memory {peaks[-1] / peaks[-2]:.2f} x")
        return int(costs[-1] > costs[-2] * (1 + FLAT) or peaks[-1] > peaks[-2] * (1 + FLAT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
