"""Copies of a film are found whatever was done to them, and other minutes of one recording are not copies."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Sequence
from pathlib import Path

import ffmpeg
import pytest

from manifests.recipe import Recipe
from pipelines.decoding import decode
from pipelines.films import KEY_LOOKS, Film, key_looks, key_places, pack_looks, same_film, unpack_looks
from pipelines.pictures import PictureStore

BITS = 6
FFMPEG = Path(ffmpeg.__path__[0]) / "binaries" / "ffmpeg"
CROP = "crop=trunc(iw*0.95/2)*2:trunc(ih*0.95/2)*2:iw*0.015:ih*0.035"


def seen(path: Path, recipe: Recipe) -> Film:
    store = PictureStore()
    film = decode(path, recipe.visual, 64, 90, store)
    return Film(pack_looks(film.looks), *key_looks(film.looks, film.shown_at, store))


def changed(source: Path, target: Path, arguments: Sequence[str]) -> Path:
    codec = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-an")
    subprocess.run([FFMPEG, "-v", "error", "-y", "-i", source, *arguments, *codec, target], check=True)
    return target


@pytest.mark.parametrize("name", ["bunny-meadow.mp4", "carphone-pristine.mp4"])
@pytest.mark.parametrize(
    "arguments",
    [("-crf", "36"), ("-r", "12"), ("-vf", CROP), ("-vf", CROP, "-r", "15", "-crf", "32"), ("-b:v", "100k")],
    ids=["re-encoded", "frame rate", "cropped", "cropped and more", "bitrate"],
)
def test_copies(examples: Path, tmp_path: Path, recipe: Recipe, name: str, arguments: tuple[str, ...]) -> None:
    short = changed(examples / "videos" / name, tmp_path / "short.mp4", ("-t", "5", "-crf", "20"))
    original = seen(short, recipe)
    copy = seen(changed(short, tmp_path / "copy.mp4", arguments), recipe)
    for pair in ((original, copy), (copy, original)):
        found = same_film(*pair, BITS)
        assert found is not None
        assert found[0] == "near_duplicate"


@pytest.mark.parametrize(("name", "starts"), [("five-or-more.mp4", (2, 14, 26)), ("mahjongg-hints.mp4", (0, 6))])
def test_other_seconds_of_one_recording_are_not_copies(
    name: str, starts: tuple[int, ...], examples: Path, tmp_path: Path, recipe: Recipe
) -> None:
    files = [changed(examples / "videos" / name, tmp_path / f"{start}.mp4", ("-ss", str(start), "-t", "6")) for start in starts]
    pieces = [seen(file, recipe) for file in files]
    # Of a screen that hardly moves, too, the same seconds are copies.
    copy = seen(changed(files[0], tmp_path / "copy.mp4", ("-vf", "scale=trunc(iw/4)*2:trunc(ih/4)*2", "-crf", "32")), recipe)
    found = same_film(pieces[0], copy, BITS)
    assert found is not None
    assert found[0] == "near_duplicate"
    for one, other in itertools.combinations([*pieces[1:], copy], 2):
        found = same_film(one, other, BITS)
        assert found is None or found[0] == "excerpt"


def test_looks_are_packed_without_loss_and_keys_are_spread() -> None:
    looks = [(0.0, 0), (1.5, 2**64 - 1), (7200.25, 12345)]
    assert unpack_looks(pack_looks(looks)) == looks
    assert key_places([0.0, 1.0, 2.5]) == [0, 1, 2]
    # Of a film and of one a little longer most fall together, though one has twice as many.
    assert key_places(range(KEY_LOOKS)) == list(range(KEY_LOOKS))
    assert key_places(range(KEY_LOOKS + 1)) == list(range(0, KEY_LOOKS + 1, 2))
    assert KEY_LOOKS / 2 < len(key_places(range(1, 1000))) <= KEY_LOOKS
    assert same_film(Film(b""), Film(pack_looks(looks)), BITS) is None
