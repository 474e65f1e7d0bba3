"""A joined 15-minute video and a joined 2-hour one: are their frames' times true, and what does curating them cost?

Decided here:
- The films are the example corpus's clips, re-encoded once to one size and 25 frames a second (x264 medium, CRF 23, its default
  keyframe distance of 250), joined without re-encoding in rounds that begin with another clip each time, and cut at the
  wanted second. Real pictures, artificial joins; what is repeated is stored once, but decoded and encoded anew every time.
  The clips' captions come along, moved to where their clip lies.
- The truth about times is ffprobe's list of packets, another program than the libav inside PyAV. Of every frame of every sample
  the stored presentation time must be the last one not later than its grid point.
- A run is the command `longreel curate` in a process of its own, start-up included, on at most two cores. CPU seconds are of it
  and all its children; memory is sampled over the whole tree five times a second: the sum of resident sizes, which counts
  shared pages more than once, and of proportional sizes, which does not.
- Other work on the machine slows the wall clock, not the CPU seconds: the load average stands beside the result.

Run: `python benchmarks/long_video.py [--quick] [--size 1280x720]`. About 10 minutes; --quick: the 15-minute film alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import ffmpeg
import psutil
import pyarrow.dataset

from curriculum.recipes import named

CLIPS = Path(__file__).resolve().parents[1] / "examples" / "corpus" / "videos"
BINARIES = Path(ffmpeg.__path__[0]) / "binaries"
RATE = 25
LENGTHS = {"15 min": 900, "2 h": 7_200}
RECIPES = ("keye_vl_2", "laptop")
GOAL_SHARE, GOAL_BYTES = 1 / 20, 2 * 2**30
SAMPLED_S = 0.2


@dataclass(kw_only=True)
class Cost:
    """What a run cost: wall and CPU seconds, peak bytes of the process tree, load average at its end."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    resident: int = 0
    proportional: int = 0
    load: float = 0.0


def main() -> None:
    """Builds the films, curates each with both recipes, checks and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the 15-minute film alone")
    parser.add_argument("--size", default="640x360", help="pixels of the films")
    parser.add_argument("--recipe", choices=RECIPES, help="one recipe alone")
    parser.add_argument("--work", type=Path, default=Path("out/long-video"), help="where films and corpora go")
    chosen = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, cores)
    print(f"{platform.machine()}, {len(cores)} cores, load {os.getloadavg()[0]:.1f}; films of {chosen.size}, {RATE} fps")
    print(f"{'film':8}{'recipe':12}{'wall s':>8}{'of film':>9}{'CPU s':>8}{'RSS MiB':>9}{'PSS MiB':>9}{'load':>6}", end="")
    print(f"{'samples':>9}{'frames':>9}  worst time error")
    failed = False
    for name, seconds in LENGTHS.items():
        if chosen.quick and seconds > 900:
            continue
        film = build(chosen.work / chosen.size, seconds, chosen.size)
        truth = presentation_times(film)
        for recipe in [chosen.recipe] if chosen.recipe else RECIPES:
            corpus = chosen.work / chosen.size / f"corpus-{seconds}-{recipe}"
            shutil.rmtree(corpus, ignore_errors=True)
            cost = curate(film.parent, corpus, recipe)
            samples, frames, worst = worst_error(corpus, truth, named(recipe).visual.fps)
            share = cost.wall_s / seconds
            print(f"{name:8}{recipe:12}{cost.wall_s:8.1f}{f'1/{1 / share:.1f}':>9}{cost.cpu_s:8.1f}", end="")
            print(f"{cost.resident / 2**20:9,.0f}{cost.proportional / 2**20:9,.0f}{cost.load:6.1f}", end="")
            print(f"{samples:9,}{frames:9,}  {worst * 1000:.3f} ms = {worst * RATE:.3f} frames", flush=True)
            failed |= worst >= 1 / RATE or share > GOAL_SHARE or cost.resident > GOAL_BYTES
    print("goals: times within one frame, under 1/20 of the film's duration, under 2 GiB:", "missed" if failed else "met")
    sys.exit(failed)


def build(work: Path, seconds: int, size: str) -> Path:
    """A film of so many seconds with its captions, alone in a folder; made once."""
    film = work / f"film-{seconds}" / "joined.mp4"
    if film.with_name("joined.captions.json").is_file():
        return film
    parts = work / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    film.parent.mkdir(parents=True, exist_ok=True)
    # The distorted copy of a clip would be a near-duplicate of it inside one film.
    names = sorted(p for p in CLIPS.iterdir() if p.suffix in (".mp4", ".webm") and p.stem != "carphone-distorted")
    for path in names:
        encode(path, parts / f"{path.stem}.mp4", size)
    lasts = {path.stem: len(presentation_times(parts / f"{path.stem}.mp4")) / RATE for path in names}
    order: list[str] = []
    scenes: list[dict[str, object]] = []
    start, turn = 0.0, 0
    while start < seconds:
        turned = [path.stem for path in names[turn % len(names) :] + names[: turn % len(names)]]
        for stem in turned:
            told = json.loads((CLIPS / f"{stem}.captions.json").read_text())["scenes"]
            for scene in told:
                begin, end = start + scene["start"], start + min(scene["end"], lasts[stem])
                if begin < end <= seconds:
                    scenes.append({"start": round(begin, 3), "end": round(end, 3), "text": scene["text"]})
            order.append(f"file '{stem}.mp4'")
            start += lasts[stem]
        turn += 1
    (parts / "order.txt").write_text("\n".join(order))
    ffmpeg_run(
        "-f", "concat", "-i", str(parts / "order.txt"), "-c", "copy", "-t", str(seconds), "-movflags", "+faststart", str(film)
    )
    film.with_name("joined.captions.json").write_text(json.dumps({"scenes": scenes}))
    return film


def encode(path: Path, target: Path, size: str) -> None:
    """A clip at the common size, letterboxed, without sound."""
    width, height = size.split("x")
    fit = f"scale={width}:{height}:force_original_aspect_ratio=decrease,pad={width}:{height}:(ow-iw)/2:(oh-ih)/2,setsar=1"
    codec = ("-c:v", "libx264", "-preset", "medium", "-crf", "23", "-pix_fmt", "yuv420p", "-video_track_timescale", "12800")
    ffmpeg_run("-i", str(path), "-an", "-vf", f"{fit},fps={RATE}", *codec, str(target))


def ffmpeg_run(*arguments: str) -> None:
    """ffmpeg, loud only about errors."""
    subprocess.run([BINARIES / "ffmpeg", "-v", "error", "-y", *arguments], check=True)


def presentation_times(path: Path) -> list[float]:
    """Seconds of every picture from the first, in order, as ffprobe lists them."""
    command = [BINARIES / "ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries", "packet=pts_time,flags"]
    listed = subprocess.run([*command, "-of", "csv=p=0", path], check=True, capture_output=True, text=True).stdout
    rows = [line.split(",") for line in listed.splitlines() if line]
    # Packets flagged D are decoded but not shown.
    times = sorted(float(time) for time, flags, *_ in rows if "D" not in flags)
    return [time - times[0] for time in times]


def curate(inputs: Path, corpus: Path, recipe: str) -> Cost:
    """One run of the command, measured."""
    program = [sys.executable, str(Path(__file__).resolve().parents[1] / "longreel.py")]
    command = [*program, "curate", str(inputs), "--out", str(corpus), "--recipe", recipe]
    cost = Cost()
    before = os.times()
    started = time.monotonic()
    process = subprocess.Popen(
        [*command, "--set", "curate.item_time_limit_s=3600"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    watching = threading.Thread(target=watch, args=(process.pid, cost), daemon=True)
    watching.start()
    words = process.communicate()[1].decode("utf-8", "replace")
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{words}")
    cost.wall_s = time.monotonic() - started
    after = os.times()
    watching.join()
    # Readers are killed when they are done, so some are not waited for: what was sampled of them last counts.
    cost.cpu_s = max(cost.cpu_s, after.children_user + after.children_system - before.children_user - before.children_system)
    cost.load = os.getloadavg()[0]
    return cost


def watch(pid: int, cost: Cost) -> None:
    """Follows a process and all below it until it ends."""
    spent: dict[int, float] = {}
    while psutil.pid_exists(pid):
        resident = proportional = 0
        try:
            tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            break
        for process in tree:
            try:
                memory = process.memory_full_info()
                times = process.cpu_times()
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            resident, proportional = resident + memory.rss, proportional + memory.pss
            spent[process.pid] = times.user + times.system
        cost.resident, cost.proportional = max(cost.resident, resident), max(cost.proportional, proportional)
        cost.cpu_s = sum(spent.values())
        time.sleep(SAMPLED_S)


def worst_error(corpus: Path, truth: list[float], fps: float) -> tuple[int, int, float]:
    """Samples, frames shown in them, and the largest distance in seconds of a frame's time from the truth at its grid point."""
    table = pyarrow.dataset.dataset(corpus / "samples", format="parquet", partitioning="hive").to_table(columns=["messages"])
    frames, worst = 0, 0.0
    for messages in table.column("messages").to_pylist():
        for message in messages:
            clips = [part for part in message["parts"] if part["kind"] == "video"]
            for clip in clips:
                # Labels count from the clip's own start; in a document of consecutive segments from that of the first.
                zero = (clips[0] if message["role"] == "document" else clip)["origin"]["start_s"]
                for visual in clip["visuals"]:
                    grid = round((visual["label_s"] + zero) * fps) / fps
                    shown = truth[bisect_right(truth, grid + 1e-6) - 1]
                    worst = max(worst, abs(visual["time_s"] - shown))
                    frames += 1
    return table.num_rows, frames, worst


if __name__ == "__main__":
    main()
