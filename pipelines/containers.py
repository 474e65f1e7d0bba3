"""Opening a media file with libav, with any PyAV there is.

Decided here: what a file says of itself in bytes that are not UTF-8 is read with replacement characters. Up to version 18 PyAV
did that when it was asked to; from 19 on, which wants Python 3.12, it does so unasked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
from av.container import InputContainer

_ASKED: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


def open_media(path: str | Path, form: str | None = None) -> InputContainer:
    """A file for reading; a context manager.

    Args:
        form: libav's name of its format; None: found by looking.

    Raises:
        FFmpegError: it is not there, or is no media file.
    """
    return av.open(str(path), mode="r", format=form, **_ASKED)
