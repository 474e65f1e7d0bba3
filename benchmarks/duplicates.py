"""How many planted copies are found, and how many different things are taken for copies: pictures, videos, texts, benchmarks.

Decided here:
- Originals are real: every picture, video and text of the example corpus, and those below the folders given (see README.md for
  packages that carry some). Videos are cut into pieces of 6 s. Recordings are few, so pictures are made into more of them: a
  camera that moves over each (real pictures, artificial motion). Originals that are the same picture to the eye of another
  method (256 x 256 pixels, mean difference under 3 of 255; or a quarter of the ORB keypoints of one lie where an affine map
  takes those of the other), films of one length whose middle frames are, or texts of one name, are thinned out first; nothing
  else is. (Previews of wallpapers and most screens in other languages share 0.3 to 1.0 of their keypoints, other pictures less
  than 0.1.)
- Copies are made from each by ffmpeg, Pillow or word for word, one for each kind of change, at places drawn with a fixed seed.
- Found by `pipelines.duplicates.find_links` with the defaults of the recipe, over originals and copies together, as curation
  calls it. Recall: copies that are linked to their original. Precision: of all links, those between things of one original;
  two pieces of one recording are two originals, however alike they look. The rest: originals that were linked to another
  original, of all originals.
- Benchmarks: every second original is a list of evaluation data; of its copies the filter must name the list's item, and of the
  others none.

Run: `python benchmarks/duplicates.py [FOLDER ...] [--videos-max N] [--pictures-max N]`. Most of its time is ffmpeg.
"""

from __future__ import annotations

import argparse
import io
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import ffmpeg
import numpy as np
from PIL import Image, ImageEnhance

from curriculum.recipes import laptop
from manifests.benchmarks import Benchmark, BenchmarkItem
from manifests.fingerprint import sha256_bytes, unit_hash
from manifests.looks import Look, look
from manifests.recipe import Recipe
from pipelines.decoding import decode
from pipelines.duplicates import Signature, find_links, shingle_minhash
from pipelines.films import key_looks, pack_looks
from pipelines.items import Quarantined
from pipelines.pictures import PictureStore, open_picture

EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "corpus"
FFMPEG = Path(ffmpeg.__path__[0]) / "binaries" / "ffmpeg"
PICTURES, VIDEOS = (".jpg", ".jpeg", ".png", ".webp"), (".mp4", ".webm", ".avi")
TEXTS = (".md", ".txt", ".py", ".js", ".h", ".page")
# The example corpus has copies of its own: a distorted copy, an excerpt, a page that is mirrored.
COPIES = ("carphone-distorted", "bunny-stretch", "ocrmypdf-introduction-mirror", "b", "muted_b")
PIECE_S, PIECES_MAX = 6.0, 5
SAME_DIFFERENCE, SAME_S, SAME_POINTS, SAME_SHARE = 3.0, 0.5, 12, 0.25
RECALL_GOAL, PRECISION_GOAL = 0.95, 0.99


@dataclass(frozen=True, kw_only=True)
class Thing:
    """An original or a copy of one.

    Attributes:
        original: name of what it is, or is made from.
        change: what was done to it; empty for an original.
        recording: what it is a piece of, if there are other pieces.
        look, text: for the list of benchmarks.
    """

    original: str
    change: str
    signature: Signature
    recording: str = ""
    look: Look | None = None
    text: str = ""

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.original} ({self.change})" if self.change else self.original


def main() -> None:
    """Plants, finds, reports; exits with 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, help="more originals")
    parser.add_argument("--pictures-max", type=int, default=400)
    parser.add_argument("--videos-max", type=int, default=80)
    parser.add_argument("--pans-max", type=int, default=60, help="pictures that a camera moves over")
    parser.add_argument("--texts-max", type=int, default=300)
    parser.add_argument("--only", choices=("pictures", "videos", "texts"))
    given = parser.parse_args()
    recipe, folders, met = laptop(), [EXAMPLES, *given.folders], True
    if given.only in (None, "pictures"):
        things = list(picture_things(chosen(folders, PICTURES, given.pictures_max)))
        met &= report("pictures", things, recipe)
        met &= report_benchmark("pictures", things)
    if given.only in (None, "videos"):
        with tempfile.TemporaryDirectory() as scratch:
            paths = [*chosen(folders, VIDEOS, given.videos_max), *chosen(folders, PICTURES, given.pans_max)]
            things = list(video_things(paths, Path(scratch), recipe))
        met &= report("videos", things, recipe)
    if given.only in (None, "texts"):
        things = list(text_things(chosen(folders, TEXTS, given.texts_max)))
        met &= report("texts", things, recipe)
        met &= report_benchmark("texts", things)
    sys.exit(not met)


def chosen(folders: Sequence[Path], suffixes: Sequence[str], most: int) -> list[Path]:
    """Files of a kind: all of the first folder, then evenly from the others. Screens and broken files are left out."""
    found = []
    for number, folder in enumerate(folders):
        paths = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in suffixes and path.is_file()]
        paths = [path for path in paths if not {"broken", "gui", "traces"} & set(path.parts) and path.stat().st_size > 400]
        paths = list({sha256_bytes(path.read_bytes()): path for path in reversed(paths)}.values())[::-1]
        room = most - len(found)
        found += paths[:most] if number == 0 else paths[:: max(1, -(-len(paths) * (len(folders) - number) // max(1, room)))]
    return found[:most]


# --- pictures ---


class Eye:
    """Another method's view of pictures seen so far: does it know one?"""

    def __init__(self) -> None:
        self.orb = cv2.ORB.create(400, fastThreshold=8)
        self.matcher = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True)
        self.seen: list[tuple[float, np.ndarray, np.ndarray, np.ndarray | None]] = []

    def knows(self, picture: Image.Image, length: float = 0.0) -> bool:
        """Whether it has seen this picture, of a film of this length; from now on it has."""
        plain = np.asarray(picture.resize((256, 256), Image.Resampling.BOX), dtype=np.int16)
        grey = np.asarray(picture.convert("L").resize((320, 320), Image.Resampling.BOX))
        keypoints, features = self.orb.detectAndCompute(grey, np.full_like(grey, 255))
        places = np.array([keypoint.pt for keypoint in keypoints], dtype=np.float32).reshape(-1, 2)
        one = (length, plain, places, features)
        if any(abs(length - other[0]) < SAME_S and self._same(one, other) for other in self.seen):
            return True
        self.seen.append(one)
        return False

    def _same(self, one: tuple[float, np.ndarray, np.ndarray, Any], other: tuple[float, np.ndarray, np.ndarray, Any]) -> bool:
        if float(np.abs(one[1] - other[1]).mean()) < SAME_DIFFERENCE:
            return True
        fewer = min(len(one[2]), len(other[2]))
        if fewer < SAME_POINTS:
            return False
        pairs = [pair for pair in self.matcher.match(one[3], other[3]) if pair.distance <= 48]
        if len(pairs) < SAME_POINTS:
            return False
        here, there = one[2][[pair.queryIdx for pair in pairs]], other[2][[pair.trainIdx for pair in pairs]]
        _, fits = cv2.estimateAffine2D(here, there, method=cv2.RANSAC, ransacReprojThreshold=4)
        return fits is not None and int(fits.sum()) >= max(SAME_POINTS, SAME_SHARE * fewer)


def jpeg(picture: Image.Image, quality: int, kind: str = "JPEG") -> Image.Image:
    """The picture after lossy storage."""
    stream = io.BytesIO()
    picture.save(stream, kind, quality=quality)
    return Image.open(stream).convert("RGB")


def cropped(picture: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    """Without these shares of its sides."""
    width, height = picture.size
    box = (round(width * left), round(height * top), round(width * (1 - right)), round(height * (1 - bottom)))
    return picture.crop(box)


def picture_changes(picture: Image.Image, rng: random.Random) -> Iterator[tuple[str, Image.Image]]:
    """Every kind of change."""
    x, y = rng.random() * 0.05, rng.random() * 0.05
    side = [0.0, 0.0, 0.0, 0.0]
    side[rng.randrange(4)] = 0.05
    yield "re-encoded as WebP", jpeg(picture, 60, "WEBP")
    yield "other bitrate (JPEG 15)", jpeg(picture, 15)
    yield "half the size", jpeg(picture.resize((max(1, picture.width // 2), max(1, picture.height // 2))), 80)
    yield "cropped 5 % at random", jpeg(cropped(picture, x, y, 0.05 - x, 0.05 - y), 80)
    yield "cropped 5 % of one side", jpeg(cropped(picture, *side), 80)
    yield "cropped 5 % of every side", jpeg(cropped(picture, 0.05, 0.05, 0.05, 0.05), 80)
    small = cropped(picture, x, 0.05 - y, 0.05 - x, y)
    yield "cropped, halved, JPEG 40", jpeg(small.resize((max(1, small.width // 2), max(1, small.height // 2))), 40)
    yield "brighter by 15 %", jpeg(ImageEnhance.Brightness(picture).enhance(1.15), 80)


def picture_things(paths: Sequence[Path]) -> Iterator[Thing]:
    """Originals and copies."""
    eye = Eye()
    for number, path in enumerate(paths):
        try:
            picture = open_picture(path)
        except Quarantined:
            continue
        found = look(picture)
        if found is None or eye.knows(picture):
            continue
        picture.thumbnail((1024, 1024))
        name = f"{number}-{path.name}"
        yield Thing(original=name, change="", signature=Signature.of_picture(found), look=found)
        for change, copy in picture_changes(picture, random.Random(name)):
            shown = look(copy)
            yield Thing(original=name, change=change, signature=Signature.of_picture(shown), look=shown)


# --- videos ---

VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "0", "-an")
X264 = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-an")


def video_changes(rng: random.Random) -> list[tuple[str, list[str]]]:
    """Every kind of change, as ffmpeg's arguments."""
    x, y = rng.random(), rng.random()
    random_crop = f"crop=trunc(iw*0.95/2)*2:trunc(ih*0.95/2)*2:iw*0.05*{x:.3f}:ih*0.05*{y:.3f}"
    return [
        ("re-encoded (crf 36)", [*X264, "-crf", "36"]),
        (
            "re-encoded as VP9",
            [*VP9, "-crf", "40"],
        ),
        ("other bitrate (100 kbit/s)", [*X264, "-b:v", "100k", "-maxrate", "100k", "-bufsize", "100k"]),
        ("other frame rate (10)", ["-r", "10", *X264, "-crf", "26"]),
        ("other frame rate (50)", ["-r", "50", *X264, "-crf", "26"]),
        ("half the size", ["-vf", "scale=trunc(iw/4)*2:trunc(ih/4)*2", *X264, "-crf", "26"]),
        ("cropped 5 % in the middle", ["-vf", "crop=trunc(iw*0.95/2)*2:trunc(ih*0.95/2)*2", *X264, "-crf", "26"]),
        ("cropped 5 % at random", ["-vf", random_crop, *X264, "-crf", "26"]),
        ("cropped, frame rate 12, crf 34", ["-vf", random_crop, "-r", "12", *X264, "-crf", "34"]),
        ("without its first 0.7 s", ["-ss", "0.7", *X264, "-crf", "26"]),
    ]


def convert(source: Path, target: Path, arguments: Sequence[str], before: Sequence[str] = ()) -> None:
    """One run of ffmpeg."""
    subprocess.run([FFMPEG, "-v", "error", "-y", "-threads", "2", *before, "-i", source, *arguments, target], check=True)


def pan(rng: random.Random) -> str:
    """A camera that moves over a picture for 6 s, in one direction and a little closer or further."""
    start, speed = 1.15 + 0.25 * rng.random(), rng.choice((-1, 1)) * (0.0005 + 0.001 * rng.random())
    x, y = (rng.choice(("on/150", "1-on/150", "0.5")) for _ in range(2))
    zoom = f"zoompan=z='{start:.3f}+{speed:.5f}*on':x='(iw-iw/zoom)*({x})':y='(ih-ih/zoom)*({y})':d=150:s=480x320:fps=25"
    return f"scale=1440:960:force_original_aspect_ratio=increase,crop=1440:960,{zoom}"


def video_things(paths: Sequence[Path], scratch: Path, recipe: Recipe) -> Iterator[Thing]:
    """Pieces and copies of them."""
    eye = Eye()
    for number, path in enumerate(paths):
        still = path.suffix.lower() in PICTURES
        if path.stem in COPIES or path.name in {other.name for other in paths[:number]}:
            continue
        length = 0.0 if still else _signature(path, recipe)[1]
        middle = path if still else scratch / "middle.png"
        if not still:
            convert(path, middle, ("-frames:v", "1"), ("-ss", str(length / 2)))
        if eye.knows(open_picture(middle), length):
            continue
        for piece in range(min(PIECES_MAX, max(1, int(length // PIECE_S)))):
            name = f"{number}-{path.stem}-{piece}"
            original = scratch / f"{name}.mp4"
            span = () if still else ("-ss", str(piece * PIECE_S), "-t", str(PIECE_S))
            shape = pan(random.Random(name)) if still else "scale='min(480,iw)':-2"
            convert(path, original, ("-vf", shape, *X264, "-crf", "18"), span)
            signature, seconds = _signature(original, recipe)
            if seconds < PIECE_S / 2:
                continue
            yield Thing(original=name, change="", signature=signature, recording=path.stem)
            for change, arguments in video_changes(random.Random(name)):
                copy = scratch / ("copy.webm" if "VP9" in change else "copy.mp4")
                convert(original, copy, arguments)
                yield Thing(original=name, change=change, signature=_signature(copy, recipe)[0], recording=path.stem)


def _signature(path: Path, recipe: Recipe) -> tuple[Signature, float]:
    store = PictureStore()
    film = decode(path, recipe.visual, recipe.curate.stored_tokens_max, recipe.curate.jpeg_quality, store)
    windows, small = key_looks(film.looks, film.shown_at, store)
    return Signature(kind="video", looks=pack_looks(film.looks), windows=windows, small=small), film.duration_s


# --- texts ---

OPENINGS = (
    "What follows is a revised introduction, written anew for readers who come to it for the first time.",
    "An earlier edition opened differently; this one begins with a short overview of the matters treated below.",
    "Here the editors sum up, in words of their own, what the reader may expect from the remaining parts.",
)


def paraphrased(words: list[str], share: float, rng: random.Random) -> str:
    """The text with its first part put otherwise: as many words, some of them the old ones, in another order."""
    count = max(8, int(len(words) * share))
    kept = rng.sample(words[:count], count // 2)
    opening = rng.choice(OPENINGS).split()
    header = [word for pair in zip(kept, opening * count, strict=False) for word in pair][:count]
    return " ".join([*header, *words[count:]])


def text_changes(words: list[str], rng: random.Random) -> Iterator[tuple[str, str]]:
    """Every kind of change."""
    yield "header paraphrased (5 %)", paraphrased(words, 0.05, rng)
    yield "header paraphrased (10 %)", paraphrased(words, 0.10, rng)
    yield "header paraphrased (15 %)", paraphrased(words, 0.15, rng)
    yield "header added (10 %)", " ".join([*(" ".join(OPENINGS) + " ").split() * 1000][: len(words) // 10] + words)
    yield "capitals, no punctuation", re.sub(r"[^\w\s]|_", " ", " ".join(words).upper())
    middle = [word for place, word in enumerate(words) if place % 60 != 30]
    yield "a word in 60 left out", " ".join(middle)


def text_things(paths: Sequence[Path]) -> Iterator[Thing]:
    """Originals and copies."""
    seen: set[str] = set()
    for number, path in enumerate(paths):
        if path.stem in (*COPIES, *seen):
            continue
        text = re.sub(r"<[^>]+>", " ", path.read_text("utf-8", "replace"))
        words = text.split()
        sketch = shingle_minhash(text)
        if len(words) < 80:
            continue
        seen.add(path.stem)
        name = f"{number}-{path.name}"
        yield Thing(original=name, change="", signature=Signature(kind="text", minhash=sketch), text=text)
        for change, copy in text_changes(words, random.Random(name)):
            signature = Signature(kind="text", minhash=shingle_minhash(copy))
            yield Thing(original=name, change=change, signature=signature, text=copy)


# --- the report ---


def report(kind: str, things: Sequence[Thing], recipe: Recipe) -> bool:
    """Prints the figures of both halves of the originals, each alone; returns whether the goals are met in the one held out."""
    halves: dict[bool, list[Thing]] = {False: [], True: []}
    for thing in things:
        halves[unit_hash("half", thing.recording or thing.original) < 0.5].append(thing)
    report_half(f"{kind}, the half on which thresholds may be set", halves[False], recipe)
    return report_half(f"{kind}, the half held out", halves[True], recipe)


def report_half(kind: str, things: Sequence[Thing], recipe: Recipe) -> bool:
    """Finds the copies and prints the figures; returns whether the goals are met."""
    started = time.monotonic()
    links = find_links(
        [str(place) for place in range(len(things))],
        [thing.signature for thing in things],
        near_image_bits=recipe.curate.near_image_bits,
        near_text_similarity=recipe.curate.near_text_similarity,
    )
    seconds = time.monotonic() - started
    duplicates = [link for link in links if link.duplicate]
    linked: dict[int, set[int]] = defaultdict(set)
    for link in duplicates:
        linked[link.left].add(link.right)
        linked[link.right].add(link.left)
    origin = {thing.original: place for place, thing in enumerate(things) if not thing.change}
    made, found = Counter[str](), Counter[str]()
    missed = []
    for place, thing in enumerate(things):
        if thing.change:
            made[thing.change] += 1
            found[thing.change] += origin[thing.original] in linked[place]
            if origin[thing.original] not in linked[place]:
                missed.append(thing)
    mixed = [link for link in duplicates if things[link.left].original != things[link.right].original]
    alike = [
        link for link in mixed if things[link.left].recording and things[link.left].recording == things[link.right].recording
    ]
    mistaken = {
        thing.original
        for place, thing in enumerate(things)
        if not thing.change
        and any(things[other].original != thing.original and not things[other].change for other in linked[place])
    }
    recall = sum(found.values()) / max(1, sum(made.values()))
    precision = 1 - len(mixed) / max(1, len(duplicates))
    print(f"\n{kind}: {len(origin)} originals, {sum(made.values())} copies, {len(links)} links in {seconds:.1f} s")
    for change in made:
        print(f"  {change:34s} recall {found[change] / made[change]:7.2%}  ({found[change]} of {made[change]})")
    print(
        f"  {'all':34s} recall {recall:7.2%}, precision of links {precision:7.2%} ({len(mixed)} of {len(duplicates)} wrong, "
        f"{len(alike)} of them between other seconds of one recording)"
    )
    kept = 1 - len(mistaken) / len(origin)
    print(f"  originals not taken for another original: {kept:.2%} ({len(mistaken)} of {len(origin)} were)")
    pairs = Counter(tuple(sorted((things[link.left].original, things[link.right].original))) for link in mixed)
    for pair, count in sorted(pairs.items()):
        print(f"    linked: {' = '.join(pair)} ({count} links)")
    for name in sorted({thing.original for thing in missed}):
        print(f"    missed: {name}: {', '.join(thing.change for thing in missed if thing.original == name)}")
    return recall >= RECALL_GOAL and precision >= PRECISION_GOAL


def report_benchmark(kind: str, things: Sequence[Thing]) -> bool:
    """Every second original as evaluation data: which copies are caught, and what else is."""
    names = [thing.original for thing in things if not thing.change]
    listed = set(names[::2])
    items = [BenchmarkItem(name=thing.original, text=thing.text, look=thing.look) for thing in things if not thing.change]
    benchmark = Benchmark(item for item in items if item.name in listed)
    made, caught, wrong = Counter[str](), Counter[str](), []
    for thing in things:
        found = benchmark.text_copied(thing.text) if thing.text else None
        found = benchmark.picture_copied(thing.look) if thing.look is not None else found
        if thing.original in listed and thing.change:
            made[thing.change] += 1
            caught[thing.change] += found is not None
        if found is not None and thing.original not in listed:
            wrong.append((thing.name, found))
    recall = sum(caught.values()) / max(1, sum(made.values()))
    others = sum(thing.original not in listed for thing in things)
    print(f"\n{kind} against a list of {len(listed)} benchmark items:")
    for change in made:
        print(f"  {change:34s} caught {caught[change] / made[change]:7.2%}  ({caught[change]} of {made[change]})")
    print(
        f"  {'all':34s} caught {recall:7.2%}; of {others} others {len(wrong)} are taken for copies ({len(wrong) / others:.2%})"
    )
    for name, found in wrong[:20]:
        print(f"    wrong: {name}: {found}")
    return recall >= RECALL_GOAL and len(wrong) <= (1 - PRECISION_GOAL) * others


if __name__ == "__main__":
    main()
