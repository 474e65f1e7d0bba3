"""Where a corpus lies: a local folder, or an address of an object store (``s3://``, ``gs://``, ``hdfs://``, ...), for reading.

An address is a `upath.UPath`: it has the methods of `pathlib.Path` that reading needs, over fsspec, which finds keys and hosts
where its drivers always do (environment, their own files). The drivers are packages of their own: s3fs, gcsfs, adlfs.
Nothing is written through an address: renaming over a name, which every promise about killed processes rests on, is no
operation of an object store. A corpus is made in a local folder and then published (`pipelines.publishing`).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

from manifests.errors import UsageError

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*)", re.DOTALL)


def address(given: Path | str) -> str | None:
    """The address that a word names, or None for a local path. `Path` folds the two slashes of a scheme; they come back."""
    match = _ADDRESS.fullmatch(str(given))
    if match is None or Path(given).exists():
        return None
    return f"{match[1]}://{match[2]}"


def place(given: Path | str) -> Path:
    """A local path as it is; an address as an object with the methods of a path.

    Raises:
        UsageError: there is no driver for the address, or it does not start.
    """
    if not isinstance(given, str | Path):
        return given
    remote = address(given)
    if remote is None:
        return Path(given)
    from upath import UPath

    try:
        path = UPath(remote.rstrip("/"))
        _ = path.fs
    except (ImportError, ValueError, OSError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{remote} cannot be read: {first}") from error
    return cast(Path, path)


def filesystem(folder: Path) -> Any:
    """The fsspec file system behind an address, for DuckDB; None for a local folder."""
    return None if isinstance(folder, Path) else folder.fs
