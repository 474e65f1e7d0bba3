"""Subtitles: text tracks inside a video and ``NAME.srt`` or ``NAME.vtt`` beside it, as lines on the clock of its pictures.

libav reads both, so one path serves files and streams: whatever markup a format has arrives as ASS and is taken off here.
A track beside the video counts from the start of the container, one inside carries presentation times; both are moved so that
0 is the first picture, as everywhere. A track that cannot be read costs the track, never the video.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

import av
from av.error import FFmpegError
from av.stream import Stream
from av.subtitles.subtitle import AssSubtitle

from pipelines.containers import open_media
from pipelines.items import Attachment
from pipelines.sidecars import clean

SUFFIXES = {".srt": "srt", ".vtt": "webvtt"}
TEXT_CODECS = frozenset({"mov_text", "srt", "subrip", "ass", "ssa", "webvtt", "text", "ttml"})
LINE_MAX_S = 60.0
LINES_MAX = 100_000
_MARKUP = re.compile(r"\{\\[^{}]*\}")
_BREAK = re.compile(r"\\[Nnh]|\s+")


@dataclass(frozen=True, kw_only=True)
class Line:
    """Words that are on screen from ``start`` to ``end`` seconds."""

    start: float
    end: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Track:
    """One subtitle track.

    Attributes:
        where: ``stream N``, or the name of the file.
        language: as the container or the file name says; None when neither does.
        lines: in order, on the clock of the pictures, none empty, none repeated.
    """

    where: str
    language: str | None
    lines: tuple[Line, ...]

    @classmethod
    def of(cls, where: str, language: str | None, lines: Iterable[Line], zero_s: float) -> Track:
        """A track of lines on a clock on which the first picture stands at ``zero_s`` seconds."""
        moved = {
            Line(start=max(0.0, round(line.start - zero_s, 3)), end=round(line.end - zero_s, 3), text=line.text)
            for line in lines
            if line.end > zero_s
        }
        ordered = sorted(moved, key=lambda line: (line.start, line.end, line.text))
        return cls(where=where, language=language, lines=tuple(ordered))

    def within(self, start_s: float, end_s: float) -> list[Line]:
        """The lines of which more than half stands inside; every line belongs to one of two neighbouring clips."""
        return [line for line in self.lines if start_s <= (line.start + line.end) / 2 < end_s]


class BadSubtitles(Exception):  # noqa: N818 - it costs a track, not the item
    """A subtitle file that cannot be read; the message says why."""


def is_text(stream: Stream) -> bool:
    """Whether a subtitle stream holds words; pictures of words (DVD, Blu-ray) are noted, not read."""
    return bool(stream.codec_context.name in TEXT_CODECS)


def lines_of(packet: av.Packet) -> list[Line]:
    """The lines of one packet, on the container's clock; none for a packet without a time.

    Raises:
        FFmpegError: its words are not readable, mostly because they are not UTF-8.
    """
    if packet.pts is None or packet.time_base is None:
        return []
    start = float(packet.pts * packet.time_base)
    lasts = float((packet.duration or 0) * packet.time_base)
    if not 0 < lasts <= LINE_MAX_S:
        return []
    lines = []
    for rect in packet.decode():
        words = plain(rect.dialogue.decode("utf-8", "replace")) if isinstance(rect, AssSubtitle) else ""
        if words:
            lines.append(Line(start=start, end=start + lasts, text=words))
    return lines


def plain(words: str) -> str:
    """A line without markup, on one line."""
    return clean(_BREAK.sub(" ", _MARKUP.sub("", words)))


def read_beside(attached: Sequence[Attachment], start_s: float) -> tuple[list[Track], list[str]]:
    """The tracks of the files beside a video, by role, and a sentence for each that gave none.

    Args:
        start_s: of the first picture on the container's clock.
    """
    tracks, problems = [], []
    for file in sorted(attached, key=lambda file: file.role):
        language, dot, extension = file.role.rpartition(".")
        if dot + extension not in SUFFIXES:
            continue
        try:
            track = Track.of(
                PurePath(file.source).name, language.strip(".") or None, _read(file, SUFFIXES[dot + extension]), start_s
            )
        except BadSubtitles as problem:
            problems.append(f"{file.source}: {problem}")
            continue
        if track.lines:
            tracks.append(track)
        else:
            problems.append(f"{file.source}: it has no line with words, a start and an end within {LINE_MAX_S:g} s")
    return tracks, problems


def _read(file: Attachment, form: str) -> list[Line]:
    lines: list[Line] = []
    try:
        with open_media(file.path, form) as container:
            for packet in container.demux(container.streams.subtitles[0]):
                lines += lines_of(packet)
                if len(lines) > LINES_MAX:
                    raise BadSubtitles(f"more than {LINES_MAX:,} lines")
    except (FFmpegError, IndexError, ValueError) as error:
        raise BadSubtitles(f"not readable as {form} in UTF-8 or UTF-16") from error
    return lines


def transcript(lines: Iterable[Line], zero_s: float) -> str:
    """Lines as text, each after its time in seconds from ``zero_s``: ``[0.5-2.0 s] Hello there``."""
    return "\n".join(f"[{_tenth(line.start - zero_s):.1f}-{_tenth(line.end - zero_s):.1f} s] {line.text}" for line in lines)


def _tenth(seconds: float) -> float:
    return max(0.0, math.floor(seconds * 10 + 0.5) / 10)
