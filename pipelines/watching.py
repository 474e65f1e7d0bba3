"""A film as it is seen: the pictures on a time grid, the shots, and what the pictures are like.

The frame *shown* at a time is the last one whose presentation time is not later, so a still screencast repeats one stored
picture and nothing is interpolated. Every decoded frame passes through the shot detector at a small size; frames on the grid
are stored, each once, encoded in a thread of their own. Measured on 15 minutes at 640x360 and 2 frames a second, of 20 CPU
seconds decoding takes 7, the detector 6 and the pictures 7.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray
from PIL import Image

from manifests.visual import VisualSpec
from pipelines.items import Quarantined
from pipelines.looking import Looking
from pipelines.pictures import PictureStore, encode_jpeg, look, sharpness, stored_size
from pipelines.probe import UNKNOWN, Probe, Survey, missing
from pipelines.quality import bars, bars_share
from pipelines.shots import ShotDetector
from pipelines.subtitles import Line, Track

SMALL_WIDTH = 160
SHOT_MIN_S = 0.6
BLACK_LUMA = 20.0
FROZEN_DIFFERENCE = 0.5
DAMAGED_SHARE_MAX = 0.02
WAITING_MAX = 8

cv2.setNumThreads(1)


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
        cut_error_s: a cut lies at most so much later than it really is: the time between frames looked at.
        looks: (seconds, perceptual hash) about once a second.
        quality: scores by name.
        fps: grid points a second.
        probe: what the container said.
        tracks: text subtitles inside the file.
    """

    fps: float
    probe: Probe
    tracks: tuple[Track, ...] = ()
    duration_s: float = 0.0
    width: int = 0
    height: int = 0
    frames: list[Shown] = field(default_factory=list)
    cuts: list[float] = field(default_factory=list)
    cut_error_s: float = 0.0
    looks: list[tuple[float, int]] = field(default_factory=list)
    quality: dict[str, float] = field(default_factory=dict)

    @property
    def audio(self) -> bool:
        """Whether there is sound."""
        return bool(self.probe.audio)

    @property
    def shots(self) -> list[tuple[float, float]]:
        """Start and end of every shot."""
        edges = [0.0, *self.cuts, self.duration_s]
        return list(itertools.pairwise(edges))

    def shown_at(self, time_s: float) -> str:
        """The media_id of the stored frame that is shown at a time."""
        return self.frames[min(round(time_s * self.fps), len(self.frames) - 1)].media_id

    def to_json(self) -> dict[str, Any]:
        """As JSON; hashes as text, which every reader keeps exact."""
        value = dataclasses.asdict(self)
        value["looks"] = [[time, f"{hashed:016x}"] for time, hashed in self.looks]
        value["frames"] = [[shown.media_id, shown.time_s] for shown in self.frames]
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Film:
        """The inverse of `to_json`."""
        tracks = tuple(Track(**{**track, "lines": tuple(Line(**line) for line in track["lines"])}) for track in value["tracks"])
        return cls(
            **{
                **value,
                "probe": Probe.from_json(value["probe"]),
                "tracks": tracks,
                "looks": [(float(time), int(digits, 16)) for time, digits in value["looks"]],
                "frames": [Shown(media_id=media_id, time_s=time_s) for media_id, time_s in value["frames"]],
            }
        )


@dataclass(frozen=True, kw_only=True)
class _Picture:
    """A grid frame, encoded and measured."""

    data: bytes
    look: int | None
    grey: NDArray[np.uint8]


class Watcher:
    """Sees the frames of one film in order.

    Attributes:
        untimed, backward: frames without a time, and with one not later than that of the frame before.
    """

    def __init__(
        self,
        found: Survey,
        looking: Looking,
        visual: VisualSpec,
        tokens_max: int,
        quality: int,
        store: PictureStore,
        pool: ThreadPoolExecutor,
    ) -> None:
        self.film = Film(fps=visual.fps, probe=found.probe, tracks=found.tracks)
        self.packets, self.way = found.packets, looking.way
        self.visual, self.tokens_max, self.jpeg_quality, self.store, self.pool = visual, tokens_max, quality, store, pool
        self.rate = found.probe.rate or 25.0
        self.fps = Fraction(visual.fps).limit_denominator(1_000_000)
        self.look_every = max(1, round(visual.fps))
        # A converter is set up once per film and thread: setting one up costs more than converting a frame.
        self.to_small, self.to_stored = VideoReformatter(), VideoReformatter()
        self.detector = ShotDetector()
        self.times: list[float] = []
        self.first_pts: int | None = None
        self.previous: tuple[float, av.VideoFrame] | None = None
        self.units = 0
        self.waiting: deque[tuple[float, int, Future[_Picture]]] = deque()
        self.points = 0
        self.turns = 0
        self.stored = (0, 0)
        self.small = (0, 0)
        self.sharpness: list[float] = []
        self.untimed = self.backward = self.damaged = 0
        self.black = self.frozen = self.damaged_points = 0
        self.bars: tuple[float, ...] | None = None
        self.grey: NDArray[np.uint8] | None = None

    def see(self, units: int, frame: av.VideoFrame) -> None:
        """The next frame, and its time from the first in units of the packets' base."""
        base = self.packets.base
        seconds = units * base.numerator / base.denominator
        if self.previous is None:
            self._measure(frame)
        elif seconds * self.visual.fps > self.points - 0.5:  # exactly when it may be the time of the next point, or later
            self._show_until(units * base)
        width, height = self.small
        # One thread: handing slices of so small a picture to others takes longer than scaling it.
        pixels = self.to_small.reformat(frame, width, height, "bgr24", interpolation="AREA", threads=1).to_ndarray()
        self.times.append(seconds)
        self.damaged += frame.is_corrupt
        self.detector.see(pixels)
        self.units = units
        self.previous = (seconds, frame)

    def _measure(self, frame: av.VideoFrame) -> None:
        """Sizes as displayed: display matrices turn by quarters, and pixels need not be square."""
        self.first_pts = frame.pts
        self.turns = round(frame.rotation / 90) % 4
        ratio = Fraction(*map(int, self.film.probe.pixel_aspect.split(":")))
        width, height = frame.width, frame.height
        if ratio > 0 and ratio != 1:
            width = max(1, round(width * ratio))
        self.small = (min(SMALL_WIDTH, width), max(8, round(height * min(SMALL_WIDTH, width) / width)))
        self.film.height, self.film.width = (width, height) if self.turns % 2 else (height, width)
        self.stored = stored_size(self.film.height, self.film.width, self.visual, self.tokens_max)

    def _show_until(self, end: Fraction) -> None:
        """Gives every grid point before ``end`` the previous frame."""
        assert self.previous is not None
        points = math.ceil(end * self.fps) - self.points
        if points <= 0:
            return
        seconds, frame = self.previous
        self.points += points
        self.damaged_points += points if frame.is_corrupt else 0
        self.waiting.append((seconds, points, self.pool.submit(self._picture, frame)))
        while len(self.waiting) > WAITING_MAX:
            self._take()

    def _picture(self, frame: av.VideoFrame) -> _Picture:
        height, width = self.stored if self.turns % 2 == 0 else (self.stored[1], self.stored[0])
        pixels = self.to_stored.reformat(frame, width, height, "rgb24", interpolation="BICUBIC", threads=1).to_ndarray()
        picture = Image.fromarray(np.ascontiguousarray(np.rot90(pixels, self.turns)))
        width = min(SMALL_WIDTH, picture.width)
        small = picture.convert("L").resize(
            (width, max(3, round(picture.height * width / picture.width))), Image.Resampling.BOX
        )
        return _Picture(data=encode_jpeg(picture, self.jpeg_quality), look=look(picture), grey=np.asarray(small))

    def _take(self) -> None:
        """Stores the earliest picture that waits, and puts it on its grid points."""
        time, points, future = self.waiting.popleft()
        picture = future.result()
        shown = Shown(media_id=self.store.add(picture.data, "jpg", *self.stored), time_s=round(time, 6))
        first = len(self.film.frames)
        self.film.frames += [shown] * points
        self._judge(picture.grey, points)
        if picture.look is not None:
            self.film.looks += [
                (round(float(point / self.fps), 6), picture.look)
                for point in range(first, first + points)
                if point % self.look_every == 0
            ]

    def _judge(self, grey: NDArray[np.uint8], points: int) -> None:
        self.sharpness.append(sharpness(grey))
        black = float(grey.mean()) < BLACK_LUMA and float(grey.std()) < BLACK_LUMA / 2
        self.black += points * black
        if not black:
            # A bar of the film is one of every frame: a dark sky is not.
            self.bars = tuple(map(min, self.bars, bars(grey))) if self.bars is not None else bars(grey)
        still = self.grey is not None and float(np.abs(grey.astype(np.int16) - self.grey).mean()) < FROZEN_DIFFERENCE
        self.frozen += points if still else points - 1
        self.grey = grey

    def finish(self) -> Film:
        """Closes the film: the last frame is shown for its own duration, or as long as the one before it.

        Raises:
            Quarantined: nothing was seen, it ends before the file says, or too much of it is damaged.
        """
        if self.previous is None:
            untimed = self.untimed > 0
            detail = f"none of its {self.untimed} frames has a time" if untimed else "no frame could be decoded"
            raise Quarantined("decode", "no_timestamps" if untimed else "undecodable", detail, "video")
        _, frame = self.previous
        lasts = Fraction(frame.duration) * frame.time_base if frame.duration and frame.time_base else 1 / Fraction(self.rate)
        end = self.units * self.packets.base + lasts
        declared_s = self.film.probe.declared_s
        if declared_s is not None and missing(declared_s, float(end)):
            detail = f"it declares {declared_s:.2f} s, but its pictures end at {float(end):.2f} s"
            raise Quarantined("decode", "truncated", detail, "video")
        self._show_until(end)
        while self.waiting:
            self._take()
        count = len(self.film.frames)
        if self.damaged_points > DAMAGED_SHARE_MAX * count:
            detail = f"the decoder flags the pictures at {self.damaged_points} of {count} grid points as damaged"
            raise Quarantined("decode", "damaged", detail, "video")
        film = self.film
        film.duration_s = round(float(end), 6)
        self._cut()
        film.quality = {
            "sharpness": round(statistics.median(self.sharpness), 4),
            "black_share": round(self.black / count, 4),
            "frozen_share": round(self.frozen / count, 4),
            "letterbox_share": bars_share(self.bars or (0.0,) * 4),
            "shots_per_minute": round(60 * (len(film.cuts) + 1) / film.duration_s, 4),
        }
        self._settle()
        return film

    def _cut(self) -> None:
        """Shots shorter than `SHOT_MIN_S` are flashes: their cuts are no cuts."""
        film, last = self.film, 0.0
        for cut in self.detector.cuts:
            if 0 < cut < len(self.times) and self.times[cut] - last >= SHOT_MIN_S:
                last = self.times[cut]
                film.cuts.append(round(last, 3))
                if self.way != "every":
                    film.cut_error_s = max(film.cut_error_s, round(last - self.times[cut - 1], 3))

    def _settle(self) -> None:
        """What decoding adds to the probe; and the clock, when the decoder could not show the first frames of the file."""
        film, late = self.film, 0.0
        known = self.packets.times[self.packets.times != UNKNOWN]
        if self.first_pts is not None and len(known):
            late = max(0.0, float((self.first_pts - int(known.min())) * self.packets.base))
        film.tracks = tuple(Track.of(track.where, track.language, track.lines, late) for track in film.tracks)
        film.probe = dataclasses.replace(
            film.probe,
            start_s=round(film.probe.start_s + late, 6),
            rotation=90 * self.turns,
            times=dataclasses.replace(
                film.probe.times, missing=max(film.probe.times.missing, self.untimed), backward=self.backward
            ),
            damaged_frames=self.damaged,
            decoded=self.way,
        )
