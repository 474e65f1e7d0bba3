"""A video decoded: the frames shown on a time grid, the shots, and what the pictures are like.

Time 0 is the presentation time of the first frame. The frame *shown* at a time is the last one whose presentation time is not
later, so a still screencast repeats one stored picture and nothing is interpolated. Which packets are decoded is decided by
`pipelines.looking`; whatever it decides, the frames on the grid are the same, and each is stored once. Every decoded frame
passes through the shot detector at a small size. A file that ends before it says, or that a decoder refuses, is not used in
part: what a clip claims about its end would be false.

Two decoder threads, whatever the machine has: memory and concealment of damage then depend on the file alone. Grid frames are
encoded in a further thread behind them. Of 2 CPU minutes for an hour of film at 640x360 and 2 frames a second, decoding takes a
quarter, the detector a quarter and the pictures half.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray
from PIL import Image
from scenedetect import AdaptiveDetector, FrameTimecode

from manifests.visual import VisualSpec
from pipelines.items import Quarantined
from pipelines.looking import Looking, plan
from pipelines.pictures import PictureStore, encode_jpeg, look, sharpness, stored_size
from pipelines.probe import UNKNOWN, Packets, Probe, Survey, missing, pictures_of, survey
from pipelines.quality import bars, bars_share
from pipelines.subtitles import Line, Track

SMALL_WIDTH = 160
SHOT_MIN_S = 0.6
BLACK_LUMA = 20.0
FROZEN_DIFFERENCE = 0.5
DAMAGED_SHARE_MAX = 0.02
BACK_MAX_S = 1.0
DECODER_THREADS = 2
WAITING_MAX = 8

cv2.setNumThreads(1)
# None, not PANIC: any level installs a callback that takes the GIL, and a decoder that is closed while its threads still have
# something to say then waits for them, and they for it.
av.logging.set_level(None)


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


class _UnorderedError(Exception):
    """Frames do not come out in the order of their times, or not all that were promised."""


def decode(
    path: Path,
    visual: VisualSpec,
    tokens_max: int,
    jpeg_quality: int,
    store: PictureStore,
    every_frame_max_s: float = math.inf,
) -> Film:
    """Decodes a video into the store.

    Args:
        tokens_max: size of a stored frame in visual tokens, at most.
        every_frame_max_s: a longer film is decoded only as far as its grid and its shots need.

    Raises:
        Quarantined: it cannot be opened or decoded, has no pictures, is damaged, or ends before it says.
    """
    try:
        found = survey(path)
        first = plan(found.packets, visual.fps, every_frame_max_s)
        whole = plan(found.packets, visual.fps, math.inf)
        # A file may break what its packets promise. Then it is decoded whole; and if its times still run backwards, each frame
        # gets the next of the times in order: AVI numbers frames as they are stored, not as they are shown.
        attempts = [(first, False), (whole, False), (whole, True)]
        for looking, in_order in attempts[first.way == "every" :]:
            with ThreadPoolExecutor(1, thread_name_prefix="pictures") as pool:
                watcher = _Watcher(found, looking, visual, tokens_max, jpeg_quality, store, pool)
                try:
                    for time, frame in _presented(path, found.packets, looking, watcher, in_order=in_order):
                        watcher.see(time, frame)
                    return watcher.finish()
                except _UnorderedError:
                    continue
        raise AssertionError("the last attempt gives every frame a time in order")
    except FFmpegError as error:
        words = (error.strerror or type(error).__name__)[:200]
        raise Quarantined("decode", "undecodable", words, "video") from error


def _presented(
    path: Path, packets: Packets, looking: Looking, watcher: _Watcher, *, in_order: bool
) -> Iterator[tuple[Fraction, av.VideoFrame]]:
    """Frames in order with exact seconds from the first; frames without a time, or not later than the last, are passed over.

    Args:
        in_order: give the n-th frame the n-th of all presentation times instead of its own.

    Raises:
        Quarantined: a time lies far before the one before it: what is shown when is then unknown.
        _UnorderedError: a time lies shortly before the one before it though all packets have one, or a frame is missing.
    """
    known = np.unique(packets.times[packets.times != UNKNOWN]).tolist()
    promised = set(packets.times[looking.shown].tolist()) if looking.way != "every" else set()
    # Decoders put frames back in order over 16 places, at most.
    back_max = max(BACK_MAX_S, 16 * packets.span_s / max(1, len(known)))
    first: int | None = None
    last: int | None = None
    own: int | None = None
    for count, frame in enumerate(_decoded(path, looking)):
        pts = frame.pts if not in_order else known[count] if count < len(known) else None
        if pts is None:
            watcher.untimed += 1
            continue
        if in_order and frame.pts is not None:
            watcher.backward += own is not None and frame.pts <= own
            own = frame.pts
        if last is not None and pts <= last:
            back = float((last - pts) * packets.base)
            if back > back_max:
                detail = f"its timestamps jump back by {back:.3f} s, to {float(pts * packets.base):.3f} s"
                raise Quarantined("decode", "broken_timestamps", detail, "video")
            watcher.backward += 1
            if packets.usable and back > 0:
                raise _UnorderedError
            continue
        last = pts
        first = pts if first is None else first
        promised.discard(pts)
        yield (pts - first) * packets.base, frame
    if promised:
        raise _UnorderedError


def _decoded(path: Path, looking: Looking) -> Iterator[av.VideoFrame]:
    """The frames of the packets that are looked at, as they come out."""
    with av.open(str(path), mode="r", metadata_errors="replace") as container:
        stream = pictures_of(container)
        decoder = stream.codec_context
        decoder.thread_type, decoder.thread_count = "FRAME", DECODER_THREADS
        place = 0
        for packet in container.demux(stream):
            if packet.is_discard or (not packet.size and packet.pts is None):
                frames = packet.decode()
            elif looking.fed[place]:
                decoder.skip_frame = "DEFAULT" if looking.shown[place] else "NONREF"
                frames = packet.decode()
                place += 1
            else:
                frames = []
                place += 1
            yield from (frame for frame in frames if isinstance(frame, av.VideoFrame))


@dataclass(frozen=True, kw_only=True)
class _Picture:
    """A grid frame, encoded and measured."""

    data: bytes
    look: int | None
    grey: NDArray[np.uint8]


class _Watcher:
    """Sees the frames of one film in order."""

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
        self.detector = AdaptiveDetector(min_scene_len=1)
        self.cut_frames: list[int] = []
        self.times: list[float] = []
        self.first_pts: int | None = None
        self.previous: tuple[Fraction, av.VideoFrame] | None = None
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

    def see(self, time: Fraction, frame: av.VideoFrame) -> None:
        if self.previous is None:
            self._measure(frame)
        else:
            self._show_until(time)
        width, height = self.small
        pixels = self.to_small.reformat(frame, width, height, "bgr24", interpolation="AREA").to_ndarray()
        place = FrameTimecode(len(self.times), self.rate)
        self.times.append(float(time))
        self.damaged += frame.is_corrupt
        self.cut_frames += [cut.frame_num for cut in self.detector.process_frame(place, pixels)]
        self.previous = (time, frame)

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
        time, frame = self.previous
        self.points += points
        self.damaged_points += points if frame.is_corrupt else 0
        self.waiting.append((float(time), points, self.pool.submit(self._picture, frame)))
        while len(self.waiting) > WAITING_MAX:
            self._take()

    def _picture(self, frame: av.VideoFrame) -> _Picture:
        height, width = self.stored if self.turns % 2 == 0 else (self.stored[1], self.stored[0])
        pixels = self.to_stored.reformat(frame, width, height, "rgb24", interpolation="BICUBIC").to_ndarray()
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
        """Closes the film: the last frame is shown for its own duration, or as long as the one before it."""
        if self.previous is None:
            untimed = self.untimed > 0
            detail = f"none of its {self.untimed} frames has a time" if untimed else "no frame could be decoded"
            raise Quarantined("decode", "no_timestamps" if untimed else "undecodable", detail, "video")
        time, frame = self.previous
        lasts = Fraction(frame.duration) * frame.time_base if frame.duration and frame.time_base else 1 / Fraction(self.rate)
        end = time + lasts
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
        self.cut_frames += [cut.frame_num for cut in self.detector.post_process(FrameTimecode(len(self.times), self.rate))]
        film, last = self.film, 0.0
        for cut in sorted(set(self.cut_frames)):
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
