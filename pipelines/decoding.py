"""A video decoded once, front to back: the frames shown on a time grid, the shots, and what the pictures are like.

Time 0 is the presentation time of the first frame. The frame *shown* at a time is the last one whose presentation time is not
later, so a still screencast repeats one stored picture and nothing is interpolated. Every decoded frame passes through the
shot detector at a small size; only frames on the grid are kept, each once. A file that ends before it says, or that a decoder
refuses, is not used in part: what a clip claims about its end would be false.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.error import FFmpegError
from av.stream import Disposition
from numpy.typing import NDArray
from PIL import Image
from scenedetect import AdaptiveDetector, FrameTimecode

from manifests.visual import VisualSpec
from pipelines.items import Quarantined
from pipelines.pictures import PIXELS_MAX, PictureStore, encode_jpeg, look, sharpness, stored_size

SMALL_WIDTH = 160
SHOT_MIN_S = 0.6
BLACK_LUMA = 20.0
FROZEN_DIFFERENCE = 0.5
MISSING_SHARE_MAX = 0.02
MISSING_S_MAX = 0.5

cv2.setNumThreads(1)
av.logging.set_level(av.logging.PANIC)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What is shown at a grid point: the stored picture and the frame's own presentation time in seconds."""

    media_id: str
    time_s: float


@dataclass(kw_only=True)
class Film:
    """A decoded video.

    Attributes:
        duration_s: seconds from the first frame to the end of the last.
        width, height: pixels as displayed: turned upright, pixels square.
        frames: per grid point p the frame shown at p / fps seconds.
        cuts: seconds at which a new shot begins, in order, without 0.
        looks: (seconds, perceptual hash) about once a second.
        quality: scores by name.
        fps: grid points a second.
        audio: whether there is sound.
    """

    fps: float
    duration_s: float = 0.0
    width: int = 0
    height: int = 0
    frames: list[Shown] = field(default_factory=list)
    cuts: list[float] = field(default_factory=list)
    looks: list[tuple[float, int]] = field(default_factory=list)
    quality: dict[str, float] = field(default_factory=dict)
    audio: bool = False

    @property
    def shots(self) -> list[tuple[float, float]]:
        """Start and end of every shot."""
        edges = [0.0, *self.cuts, self.duration_s]
        return list(itertools.pairwise(edges))


def decode(path: Path, visual: VisualSpec, tokens_max: int, jpeg_quality: int, store: PictureStore) -> Film:
    """Decodes a video into the store.

    Args:
        tokens_max: size of a stored frame in visual tokens, at most.

    Raises:
        Quarantined: it cannot be opened or decoded, has no pictures, or ends before it says.
    """
    try:
        with av.open(str(path), mode="r", metadata_errors="replace") as container:
            streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
            if not streams:
                raise Quarantined("probe", "no_video", "the container has no video stream", "video")
            stream = streams[0]
            stream.thread_type = "AUTO"
            if stream.width * stream.height > PIXELS_MAX:
                raise Quarantined("probe", "too_large", f"{stream.width}x{stream.height} px", "video")
            watcher = _Watcher(visual, tokens_max, jpeg_quality, store, float(stream.average_rate or 0) or 25.0)
            watcher.film.audio = len(container.streams.audio) > 0
            declared = _declared_s(container, stream)
            for time, frame in _presented(container, stream):
                watcher.see(time, frame)
            return watcher.finish(declared)
    except FFmpegError as error:
        words = (error.strerror or type(error).__name__)[:200]
        raise Quarantined("decode", "undecodable", words, "video") from error


def _declared_s(container: av.container.InputContainer, stream: av.VideoStream) -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    # A container's duration may be that of its sound; it says something about the pictures only when they are alone.
    if container.duration is not None and len(container.streams) == 1:
        return container.duration / av.time_base
    return None


def _presented(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[tuple[Fraction, av.VideoFrame]]:
    """Frames in order with exact seconds from the first; frames without a time, or out of order, are passed over."""
    first: Fraction | None = None
    last: Fraction | None = None
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise Quarantined("decode", "truncated", "a packet is cut off or damaged", "video")
        for frame in packet.decode():
            if not isinstance(frame, av.VideoFrame) or frame.pts is None or frame.time_base is None:
                continue
            time = frame.pts * frame.time_base
            first = time if first is None else first
            time -= first
            if last is not None and time <= last:
                continue
            last = time
            yield time, frame


class _Watcher:
    """Sees the frames of one film in order."""

    def __init__(self, visual: VisualSpec, tokens_max: int, quality: int, store: PictureStore, rate: float) -> None:
        self.film = Film(fps=visual.fps)
        self.visual, self.tokens_max, self.jpeg_quality, self.store, self.rate = visual, tokens_max, quality, store, rate
        self.fps = Fraction(visual.fps).limit_denominator(1_000_000)
        self.look_every = max(1, round(visual.fps))
        self.detector = AdaptiveDetector(min_scene_len=max(1, round(SHOT_MIN_S * rate)))
        self.cut_frames: list[int] = []
        self.times: list[float] = []
        self.previous: tuple[Fraction, av.VideoFrame] | None = None
        self.turns = 0
        self.stored = (0, 0)
        self.small = (0, 0)
        self.sharpness: list[float] = []
        self.black = self.frozen = 0
        self.grey: NDArray[np.uint8] | None = None

    def see(self, time: Fraction, frame: av.VideoFrame) -> None:
        if self.previous is None:
            self._measure(frame)
        else:
            self._show_until(time)
        width, height = self.small
        pixels = frame.to_ndarray(format="bgr24", width=width, height=height, interpolation="AREA")
        place = FrameTimecode(len(self.times), self.rate)
        self.times.append(float(time))
        self.cut_frames += [cut.frame_num for cut in self.detector.process_frame(place, pixels)]
        self.previous = (time, frame)

    def _measure(self, frame: av.VideoFrame) -> None:
        """Sizes as displayed: display matrices turn by quarters, and pixels need not be square."""
        self.turns = round(frame.rotation / 90) % 4
        ratio = getattr(frame, "sample_aspect_ratio", None)
        width, height = frame.width, frame.height
        if ratio is not None and ratio > 0 and ratio != 1:
            width = max(1, round(width * ratio))
        self.small = (min(SMALL_WIDTH, width), max(8, round(height * min(SMALL_WIDTH, width) / width)))
        self.film.height, self.film.width = (width, height) if self.turns % 2 else (height, width)
        self.stored = stored_size(self.film.height, self.film.width, self.visual, self.tokens_max)

    def _show_until(self, end: Fraction) -> None:
        """Gives every grid point before ``end`` the previous frame."""
        assert self.previous is not None
        points = math.ceil(end * self.fps) - len(self.film.frames)
        if points <= 0:
            return
        time, frame = self.previous
        height, width = self.stored if self.turns % 2 == 0 else (self.stored[1], self.stored[0])
        pixels = frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="BICUBIC")
        picture = Image.fromarray(np.ascontiguousarray(np.rot90(pixels, self.turns)))
        data = encode_jpeg(picture, self.jpeg_quality)
        shown = Shown(media_id=self.store.add(data, "jpg", *self.stored), time_s=round(float(time), 6))
        first = len(self.film.frames)
        self.film.frames += [shown] * points
        self._judge(picture, points)
        hashed = look(picture)
        if hashed is not None:
            self.film.looks += [
                (round(float(point / self.fps), 6), hashed)
                for point in range(first, first + points)
                if point % self.look_every == 0
            ]

    def _judge(self, picture: Image.Image, points: int) -> None:
        width = min(SMALL_WIDTH, picture.width)
        small = picture.convert("L").resize(
            (width, max(3, round(picture.height * width / picture.width))), Image.Resampling.BOX
        )
        grey = np.asarray(small)
        self.sharpness.append(sharpness(grey))
        self.black += points * (float(grey.mean()) < BLACK_LUMA and float(grey.std()) < BLACK_LUMA / 2)
        still = self.grey is not None and float(np.abs(grey.astype(np.int16) - self.grey).mean()) < FROZEN_DIFFERENCE
        self.frozen += points if still else points - 1
        self.grey = grey

    def finish(self, declared_s: float | None) -> Film:
        """Closes the film: the last frame is shown for its own duration, or as long as the one before it."""
        if self.previous is None:
            raise Quarantined("decode", "undecodable", "no frame could be decoded", "video")
        time, frame = self.previous
        lasts = Fraction(frame.duration) * frame.time_base if frame.duration and frame.time_base else 1 / Fraction(self.rate)
        end = time + lasts
        if declared_s is not None and declared_s - float(end) > max(MISSING_S_MAX, MISSING_SHARE_MAX * declared_s):
            detail = f"it declares {declared_s:.2f} s, but its pictures end at {float(end):.2f} s"
            raise Quarantined("decode", "truncated", detail, "video")
        self._show_until(end)
        self.cut_frames += [cut.frame_num for cut in self.detector.post_process(FrameTimecode(len(self.times), self.rate))]
        film = self.film
        film.duration_s = round(float(end), 6)
        film.cuts = sorted({round(self.times[cut], 3) for cut in self.cut_frames if 0 < cut < len(self.times)})
        count = len(film.frames)
        film.quality = {
            "sharpness": round(statistics.median(self.sharpness), 4),
            "black_share": round(self.black / count, 4),
            "frozen_share": round(self.frozen / count, 4),
            "shots_per_minute": round(60 * (len(film.cuts) + 1) / film.duration_s, 4),
        }
        return film
