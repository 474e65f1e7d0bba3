"""A video decoded: which packets are given to a decoder, and when the frames that come out are shown.

Time 0 is the presentation time of the first frame. Which packets are decoded is decided by `pipelines.looking`; whatever it
decides, the frames on the grid are the same. A file that ends before it says, or that a decoder refuses, is not used in part:
what a clip claims about its end would be false. What is made of the frames is the matter of `pipelines.watching`.

A short film is decoded by one thread, because others are read beside it; a long one by two. How many does not depend on the
machine: memory and concealment of damage then depend on the file alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError

from manifests.visual import VisualSpec
from pipelines.containers import open_media
from pipelines.items import Quarantined
from pipelines.looking import Looking, plan
from pipelines.pictures import PictureStore
from pipelines.probe import UNKNOWN, Packets, pictures_of, survey
from pipelines.watching import Film, Shown, Watcher

__all__ = ["Film", "Shown", "decode"]

BACK_MAX_S = 1.0
LONG_S = 300.0

# None, not PANIC: any level installs a callback that takes the GIL, and a decoder that is closed while its threads still have
# something to say then waits for them, and they for it.
av.logging.set_level(None)


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
                watcher = Watcher(found, looking, visual, tokens_max, jpeg_quality, store, pool)
                try:
                    for units, frame in _presented(path, found.packets, looking, watcher, in_order=in_order):
                        watcher.see(units, frame)
                    return watcher.finish()
                except _UnorderedError:
                    continue
        raise AssertionError("the last attempt gives every frame a time in order")
    except FFmpegError as error:
        words = (error.strerror or type(error).__name__)[:200]
        raise Quarantined("decode", "undecodable", words, "video") from error


def _presented(
    path: Path, packets: Packets, looking: Looking, watcher: Watcher, *, in_order: bool
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Frames in order with their time from the first, in units of ``packets.base``.

    Frames without a time, or not later than the last, are passed over.

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
    for count, frame in enumerate(_decoded(path, looking, 2 if packets.span_s > LONG_S else 1)):
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
        yield pts - first, frame
    if promised:
        raise _UnorderedError


def _decoded(path: Path, looking: Looking, threads: int) -> Iterator[av.VideoFrame]:
    """The frames of the packets that are looked at, as they come out."""
    with open_media(path) as container:
        stream = pictures_of(container)
        decoder = stream.codec_context
        decoder.thread_type, decoder.thread_count = "FRAME", threads
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
