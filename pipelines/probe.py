"""What a container says before anything is decoded: its streams, and the time of every packet, read to the file's end.

A packet costs microseconds where a frame costs milliseconds, so every file is first read once without a decoder: a file that
is cut off is found there whatever is decoded later, timestamps that repeat, run backwards or are missing are counted, and the
times tell which frames a sparse sampling needs (`pipelines.looking`). Text subtitles come along in the same reading.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.subtitles.stream import SubtitleStream
from numpy.typing import NDArray

from pipelines.containers import open_media
from pipelines.items import Quarantined
from pipelines.pictures import PIXELS_MAX
from pipelines.subtitles import Line, Track, is_text, lines_of

DURATION_MAX_S = 86_400.0
MISSING_SHARE_MAX = 0.02
MISSING_S_MIN, MISSING_S_MAX = 0.5, 5.0
VARIABLE_SHARE = 0.01
VARIABLE_DEVIATION = 0.1
UNKNOWN = -(2**63)


@dataclass(frozen=True, kw_only=True)
class Times:
    """Counts of what is wrong with the packets' presentation times."""

    missing: int = 0
    repeated: int = 0
    backward: int = 0


@dataclass(kw_only=True)
class Probe:
    """What is known of a video file without its pictures; kept in its annotation.

    Attributes:
        container, codec: libav's names.
        width, height: pixels as coded; ``rotation`` (counter-clockwise degrees) and ``pixel_aspect`` make them what is shown.
        rate: average frames a second, as declared; ``variable_rate`` is measured: more than `VARIABLE_SHARE` of the frames last
            over `VARIABLE_DEVIATION` longer or shorter than the median.
        start_s: presentation time of the first picture on the container's clock, which begins at the earliest stream.
        declared_s: seconds of pictures that the file claims; None when it does not say.
        packets, keyframes: of the video stream; ``keyframe_s`` is the mean distance of keyframes.
        times: what is wrong with presentation times. ``backward`` counts decoded frames whose time is not later than that of
            the frame before; they are put right when every frame has a time (`pipelines.decoding`).
        damaged_frames: looked-at frames that the decoder flagged as damaged.
        decoded: ``every`` frame, ``references`` and frames of the grid, or ``keyframes`` and frames of the grid.
        audio: codec, rate, channels, language, first and last second of each sound track; the track itself is not used.
        subtitles: stream, codec, language of each subtitle track, and whether it was read: pictures of words are not, nor is a
            track with a line that is not UTF-8.
    """

    container: str
    codec: str
    width: int
    height: int
    rate: float
    pixel_aspect: str = "1:1"
    rotation: int = 0
    variable_rate: bool = False
    start_s: float = 0.0
    declared_s: float | None = None
    packets: int = 0
    keyframes: int = 0
    keyframe_s: float | None = None
    times: Times = field(default_factory=Times)
    damaged_frames: int = 0
    decoded: str = "every"
    audio: tuple[dict[str, Any], ...] = ()
    subtitles: tuple[dict[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Probe:
        """The inverse of `to_json`."""
        listed = {name: tuple(value[name]) for name in ("audio", "subtitles")}
        return cls(**{**value, **listed, "times": Times(**value["times"])})


@dataclass(frozen=True, kw_only=True)
class Packets:
    """The packets of the video stream in decoding order.

    Attributes:
        times: int64 [packets], presentation times in units of ``base``; `UNKNOWN` where there is none.
        keys: bool [packets], whether a decoder can begin there.
        base: seconds of a unit.
        usable: whether every packet has a time of its own, so that a frame can be named by it.
    """

    times: NDArray[np.int64]
    keys: NDArray[np.bool_]
    base: Fraction
    usable: bool

    @property
    def span_s(self) -> float:
        """Seconds from the first to the last presentation time."""
        known = self.times[self.times != UNKNOWN]
        return float((int(known.max()) - int(known.min())) * self.base) if len(known) else 0.0


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What the first reading of a file found."""

    probe: Probe
    packets: Packets
    tracks: tuple[Track, ...]


def pictures_of(container: InputContainer) -> av.VideoStream:
    """The video stream that is shown: the first that is no cover picture.

    Raises:
        Quarantined: there is none, or its pictures are absurdly large.
    """
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams:
        raise Quarantined("probe", "no_video", "the container has no video stream", "video")
    if streams[0].width * streams[0].height > PIXELS_MAX:
        raise Quarantined("probe", "too_large", f"{streams[0].width}x{streams[0].height} px", "video")
    return streams[0]


def survey(path: Path) -> Survey:
    """Reads every packet of a file and decodes none but text subtitles.

    Raises:
        Quarantined: it has no pictures, is cut off, or spans more than `DURATION_MAX_S`.
        FFmpegError: it cannot be opened or read.
    """
    with open_media(path) as container:
        stream = pictures_of(container)
        reading = _Reading(container, stream)
        for packet in container.demux():
            if packet.size or packet.pts is not None:
                reading.take(packet)
        return reading.finish()


class _Reading:
    """Takes the packets of one file in order."""

    def __init__(self, container: InputContainer, stream: av.VideoStream) -> None:
        self.container, self.stream = container, stream
        self.times: list[int] = []
        self.keys: list[bool] = []
        self.missing = 0
        # Whole numbers in units of each stream: fractions would cost more than reading.
        self.spans: dict[int, tuple[int, int]] = {}
        texts = [other for other in container.streams.subtitles if is_text(other)]
        self.lines: dict[int, list[Line]] = {other.index: [] for other in texts}

    def take(self, packet: av.Packet) -> None:
        stream = packet.stream
        mine = stream.index == self.stream.index
        if mine and packet.is_corrupt:
            raise Quarantined("decode", "truncated", "a packet is cut off or damaged", "video")
        if mine and not packet.is_discard:
            self.missing += packet.pts is None
            self.times.append(UNKNOWN if packet.pts is None else packet.pts)
            self.keys.append(packet.is_keyframe)
        if packet.pts is not None and packet.time_base is not None:
            begin, end = packet.pts, packet.pts + (packet.duration or 0)
            first, last = self.spans.get(stream.index, (begin, end))
            self.spans[stream.index] = (min(begin, first), max(end, last))
        if stream.index in self.lines and isinstance(stream, SubtitleStream):
            try:
                self.lines[stream.index] += lines_of(packet)
            except FFmpegError:
                del self.lines[stream.index]

    def finish(self) -> Survey:
        stream, base = self.stream, Fraction(self.stream.time_base or Fraction(1, 1000))
        times = np.array(self.times, dtype=np.int64)
        unique = np.unique(times[times != UNKNOWN])
        packets = Packets(
            times=times,
            keys=np.array(self.keys, dtype=bool),
            base=base,
            usable=not self.missing and len(unique) == len(times) > 0,
        )
        if packets.span_s > DURATION_MAX_S:
            detail = f"its presentation times span {packets.span_s:,.0f} s, more than {DURATION_MAX_S:,.0f} s"
            raise Quarantined("probe", "absurd_duration", detail, "video")
        self.begins = {index: first * self._base(index) for index, (first, _) in self.spans.items()}
        self.ends = {index: last * self._base(index) for index, (_, last) in self.spans.items()}
        zero = self.begins.get(stream.index, Fraction(0))
        # Sound may begin below 0 with what primes its decoder; nobody hears that, and no clock counts it.
        origin = min(zero, max(Fraction(0), min(self.begins.values(), default=zero)))
        self._whole()
        keys = int(packets.keys.sum())
        aspect = stream.sample_aspect_ratio or Fraction(1)
        probe = Probe(
            container=self.container.format.name,
            codec=stream.codec_context.name,
            width=stream.width,
            height=stream.height,
            rate=round(float(stream.average_rate or 0), 6),
            pixel_aspect=f"{aspect.numerator}:{aspect.denominator}",
            variable_rate=_varies(np.diff(unique)),
            start_s=round(float(zero - origin), 6),
            declared_s=_declared_s(self.container, stream),
            packets=len(times),
            keyframes=keys,
            keyframe_s=round(packets.span_s / keys, 3) if keys else None,
            times=Times(missing=self.missing, repeated=len(times) - self.missing - len(unique)),
            audio=tuple(self._sound(other, zero) for other in self.container.streams.audio),
            subtitles=tuple(
                {
                    "stream": other.index,
                    "codec": other.codec_context.name,
                    "language": other.language,
                    "read": other.index in self.lines,
                }
                for other in self.container.streams.subtitles
            ),
        )
        tracks = tuple(
            Track.of(f"stream {index}", self.container.streams[index].language, lines, float(zero))
            for index, lines in sorted(self.lines.items())
        )
        return Survey(probe=probe, packets=packets, tracks=tracks)

    def _base(self, index: int) -> Fraction:
        return self.container.streams[index].time_base or Fraction(1, av.time_base)

    def _whole(self) -> None:
        """A container that declares a longer time than any of its streams reaches is cut off."""
        if self.container.duration is None or not self.ends:
            return
        declared = self.container.duration / av.time_base
        reached = float(max(self.ends.values()) - min(self.begins.values()))
        if missing(declared, reached):
            detail = f"it declares {declared:.2f} s, but its packets end at {reached:.2f} s"
            raise Quarantined("decode", "truncated", detail, "video")

    def _sound(self, stream: av.AudioStream, zero: Fraction) -> dict[str, Any]:
        begin, end = self.begins.get(stream.index), self.ends.get(stream.index)
        return {
            "codec": stream.codec_context.name,
            "rate": stream.codec_context.sample_rate,
            "channels": stream.codec_context.channels,
            "language": stream.language,
            "start_s": None if begin is None else round(float(begin - zero), 3),
            "end_s": None if end is None else round(float(end - zero), 3),
        }


def missing(declared_s: float, reached_s: float) -> bool:
    """Whether pictures that end at ``reached_s`` fall short of what the file declares by more than rounding explains."""
    return declared_s - reached_s > min(max(MISSING_S_MIN, MISSING_SHARE_MAX * declared_s), MISSING_S_MAX)


def _varies(steps: NDArray[np.int64]) -> bool:
    if len(steps) < 2:
        return False
    median = float(np.median(steps))
    # Containers round times to their unit, so neighbouring frames may differ by two units at a constant rate.
    return float(np.mean(np.abs(steps - median) > max(2.0, VARIABLE_DEVIATION * median))) > VARIABLE_SHARE


def _declared_s(container: InputContainer, stream: av.VideoStream) -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    # A container's duration may be that of its sound; it says something about the pictures only when they are alone.
    if container.duration is not None and len(container.streams) == 1:
        return container.duration / av.time_base
    return None
