"""Films no example file is: joined, of variable rate, turned, shifted, broken; of real pictures; and ffprobe's idea of them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import ffmpeg
import numpy as np
from numpy.typing import NDArray

EXAMPLES = Path(__file__).parents[2] / "examples" / "corpus" / "videos"
FFMPEG, FFPROBE = (Path(ffmpeg.__path__[0]) / "binaries" / name for name in ("ffmpeg", "ffprobe"))
WIDTH, HEIGHT = 192, 108
TICK = Fraction(1, 12_800)


@lru_cache(maxsize=8)
def pictures(name: str, seconds: float) -> tuple[NDArray[np.uint8], ...]:
    """The first seconds of an example film at 25 frames a second and a small size."""
    found: list[NDArray[np.uint8]] = []
    with av.open(str(EXAMPLES / name)) as container:
        for frame in container.decode(video=0):
            while frame.time is not None and frame.time >= len(found) / 25 and len(found) < seconds * 25:
                found.append(frame.to_ndarray(format="rgb24", width=WIDTH, height=HEIGHT))
            if len(found) >= seconds * 25:
                break
    return tuple(found)


def joined(seconds: float = 10.0) -> list[NDArray[np.uint8]]:
    """The beginnings of four different films after each other."""
    names = ("bikes.mp4", "bunny-trailer.mp4", "world.mp4", "mahjongg-pairs.mp4")
    return [picture for name in names for picture in pictures(name, seconds)]


def write_film(
    path: Path,
    shown: Iterable[NDArray[np.uint8]],
    times: Sequence[float] | None = None,
    *,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    form: str | None = None,
    rotation: int = 0,
    sound_until_s: float = 0.0,
    tick: Fraction = TICK,
) -> Path:
    """Encodes pictures to be shown at the given seconds, or 25 a second, on a clock of ``tick`` s; with silence when asked."""
    with av.open(str(path), "w", format=form) as container:
        video = container.add_stream(codec, rate=25, options={"threads": "1", **(options or {})})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.time_base = tick
        if rotation:
            video.set_display_rotation(rotation)
        sound = container.add_stream("aac", rate=16_000, layout="mono") if sound_until_s else None
        for number, picture in enumerate(shown):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.time_base = tick
            frame.pts = round(Fraction(times[number] if times is not None else number / 25) / tick)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if sound is not None:
            for start in range(0, int(sound_until_s * 16_000), 1_024):
                silence = av.AudioFrame.from_ndarray(np.zeros((1, 1_024), np.float32), format="fltp", layout="mono")
                silence.sample_rate, silence.pts, silence.time_base = 16_000, start, Fraction(1, 16_000)
                container.mux(sound.encode(silence))
            container.mux(sound.encode())
    return path


def ffprobe_times(path: Path) -> list[float]:
    """Seconds of every picture from the first, in order, as ffprobe lists the packets."""
    command = [FFPROBE, "-v", "error", "-select_streams", "v:0", "-show_entries", "packet=pts_time", "-of", "csv=p=0", path]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    times = sorted(float(line.split(",")[0]) for line in listed.splitlines() if line.strip(", "))
    return [time - times[0] for time in times]
