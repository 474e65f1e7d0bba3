"""Makes damaged inputs from real files, curates them beside good ones, and says what became of each.

    python tests/pipelines/damaged_inputs.py examples/corpus --count 1000

Every kind of damage below is one function; together they are what an archive does to files (cut off, flipped, mislabelled) and
what somebody does who means harm (bombs, absurd figures, tricks in names and links). The program fails when curation crashes
or takes too long, when an input is not accounted for, or when a good file is lost. The tests make a smaller number.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import random
import re
import shutil
import sys
import tempfile
import threading
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
from written_tables import rows

from curriculum.recipes import laptop
from pipelines import curate

Make = Callable[[Path, list[Path], random.Random], None]
KINDS: dict[str, Make] = {}
MB = 2**20


def _kind(make: Make) -> Make:
    KINDS[make.__name__.strip("_")] = make
    return make


def _real(files: list[Path], rng: random.Random, *suffixes: str) -> Path:
    return rng.choice([path for path in files if not suffixes or path.suffix in suffixes])


def _put(folder: Path, name: str, data: bytes) -> None:
    (folder / name).write_bytes(data)


@_kind
def truncated(folder: Path, files: list[Path], rng: random.Random) -> None:
    """The beginning of a file."""
    path = _real(files, rng)
    data = path.read_bytes()
    _put(folder, path.name, data[: rng.randrange(1, max(2, len(data)))])


@_kind
def flipped(folder: Path, files: list[Path], rng: random.Random) -> None:
    """Single bits turned over."""
    path = _real(files, rng)
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 8, 200])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    _put(folder, path.name, bytes(data))


@_kind
def holed(folder: Path, files: list[Path], rng: random.Random) -> None:
    """Zeros where a disk lost sectors."""
    path = _real(files, rng)
    data = bytearray(path.read_bytes())
    start = rng.randrange(len(data))
    end = min(len(data), start + rng.choice([512, 4096, 65536]))
    data[start:end] = bytes(end - start)
    _put(folder, path.name, bytes(data))


@_kind
def headless(folder: Path, files: list[Path], rng: random.Random) -> None:
    """Without its first bytes."""
    path = _real(files, rng)
    _put(folder, path.name, path.read_bytes()[rng.choice([1, 16, 512]) :] or b"x")


@_kind
def spliced(folder: Path, files: list[Path], rng: random.Random) -> None:
    """The head of one file on the tail of another."""
    first, second = _real(files, rng), _real(files, rng)
    head, tail = first.read_bytes(), second.read_bytes()
    _put(folder, first.name, head[: len(head) // 2] + tail[len(tail) // 2 :])


@_kind
def mislabelled(folder: Path, files: list[Path], rng: random.Random) -> None:
    """Under the name of another kind."""
    path = _real(files, rng)
    others = [end for end in (".mp4", ".jpg", ".pdf", ".md", ".docx", ".html", ".epub") if end != path.suffix]
    _put(folder, path.stem + rng.choice(others), path.read_bytes())


@_kind
def noise(folder: Path, files: list[Path], rng: random.Random) -> None:
    """Random bytes, with or without a familiar beginning."""
    start, name = rng.choice([
        (b"", "a.bin"), (b"\xff\xd8\xff\xe0", "a.jpg"), (b"\x89PNG\r\n\x1a\n", "a.png"), (b"%PDF-1.7\n", "a.pdf"),
        (b"\0\0\0\x20ftypisom", "a.mp4"), (b"\x1aE\xdf\xa3", "a.webm"), (b"PK\x03\x04", "a.docx"), (b"RIFF____WEBP", "a.webp"),
    ])  # fmt: skip
    _put(folder, name, start + rng.randbytes(rng.randrange(1, 200_000)))


@_kind
def empty(folder: Path, files: list[Path], rng: random.Random) -> None:
    """Nothing."""
    _put(folder, "empty" + _real(files, rng).suffix, b"")


@_kind
def zip_bomb(folder: Path, files: list[Path], rng: random.Random) -> None:
    """An Office file that unpacks to a thousand times its size."""
    suffix, member = rng.choice([(".docx", "word/document.xml"), (".xlsx", "xl/workbook.xml"), (".odt", "content.xml")])
    with zipfile.ZipFile(folder / f"bomb{suffix}", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        with archive.open(member, "w", force_zip64=True) as stream:
            stream.write(b"<a>")
            for _ in range(rng.choice([200, 600])):
                stream.write(bytes(MB))


@_kind
def pdf_bomb(folder: Path, files: list[Path], rng: random.Random) -> None:
    """A page whose content is half a gigabyte of blanks, twice packed."""
    packed = zlib.compress(b"".join(zlib.compress(b" " * MB) for _ in range(rng.choice([50, 500]))), 9)
    body = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    body += b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R>>endobj\n"
    body += b"4 0 obj<</Filter[/FlateDecode/FlateDecode]/Length %d>>stream\n" % len(packed)
    _put(folder, "bomb.pdf", body + packed + b"\nendstream endobj\ntrailer<</Root 1 0 R>>\n%%EOF")


@_kind
def huge_page(folder: Path, files: list[Path], rng: random.Random) -> None:
    """A page of kilometres, or more pages than atoms."""
    size, count = rng.choice([(10**7, 1), (600, 10**9), (-600, 1)])
    body = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count "
    body += b"%d>>endobj\n3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 %d %d]>>endobj\n" % (count, size, size)
    _put(folder, "huge.pdf", body + b"trailer<</Root 1 0 R>>\n%%EOF")


@_kind
def absurd_picture(folder: Path, files: list[Path], rng: random.Random) -> None:
    """A small PNG that says it is 60,000 pixels high."""
    data = bytearray(_real(files, rng, ".png").read_bytes())
    side = rng.choice([60_000, 2**31 - 1, 0]).to_bytes(4, "big")
    data[16:24] = side + side
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    _put(folder, "absurd.png", bytes(data))


@_kind
def picture_bomb(folder: Path, files: list[Path], rng: random.Random) -> None:
    """A true PNG of 20,000 x 20,000 pixels in a few hundred kilobytes."""
    side = rng.choice([9_000, 20_000])
    packer, packed = zlib.compressobj(9), b""
    for _ in range(side):
        packed += packer.compress(bytes(side // 8 + 1))
    packed += packer.flush()

    def chunk(name: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")

    head = chunk(b"IHDR", side.to_bytes(4, "big") * 2 + bytes([1, 0, 0, 0, 0]))
    _put(folder, "bomb.png", b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", packed) + chunk(b"IEND", b""))


@_kind
def absurd_jpeg(folder: Path, files: list[Path], rng: random.Random) -> None:
    """A JPEG whose frame header gives another size."""
    data = bytearray(_real(files, rng, ".jpg").read_bytes())
    place = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
    if place > 0:
        data[place + 5 : place + 9] = rng.choice([b"\xff\xff\xff\xff", b"\0\1\xff\xff", b"\0\0\0\0"])
    _put(folder, "absurd.jpg", bytes(data))


@_kind
def absurd_film(folder: Path, files: list[Path], rng: random.Random) -> None:
    """A film that says it lasts for years, or is as wide as a field."""
    data = bytearray(_real(files, rng, ".mp4").read_bytes())
    box, skip, value = rng.choice([
        (b"mvhd", 20, b"\xff\xff\xff\xfe"), (b"mdhd", 20, b"\xff\xff\xff\xfe"), (b"mvhd", 16, b"\0\0\0\1"),
        (b"avc1", 28, b"\xff\xff\xff\xff"), (b"stsz", 12, b"\xff\xff\xff\xf0"), (b"stts", 8, b"\xff\xff\xff\xf0"),
    ])  # fmt: skip
    place = data.find(box)
    if place > 0:
        data[place + skip : place + skip + 4] = value
    _put(folder, "absurd.mp4", bytes(data))


@_kind
def sparse(folder: Path, files: list[Path], rng: random.Random) -> None:
    """A head of a film, and a hole of 200 MB."""
    with (folder / "sparse.mp4").open("wb") as stream:
        stream.write(_real(files, rng, ".mp4").read_bytes()[:4096])
        stream.truncate(200 * MB)


@_kind
def endless_line(folder: Path, files: list[Path], rng: random.Random) -> None:
    """Text without a space or a line, or of nothing but them."""
    _put(folder, "line.txt", rng.choice([b"a", b"\n", b" ", b"\xcc\x81", "\U0001f469\u200d".encode(), b"<"]) * (2 * MB))


@_kind
def deep_html(folder: Path, files: list[Path], rng: random.Random) -> None:
    """Elements in elements in elements."""
    tag = rng.choice(["div", "table><tr><td", "ul><li", "b"])
    _put(folder, "deep.html", b"<!doctype html><html><body>" + f"<{tag}>".encode() * rng.choice([2_000, 50_000]) + b"words")


@_kind
def billion_laughs(folder: Path, files: list[Path], rng: random.Random) -> None:
    """Entities of entities, beside a screenshot and alone."""
    entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    xml = f'<?xml version="1.0"?><!DOCTYPE h [<!ENTITY l0 "lol">{entities}]><hierarchy><node text="&l9;"/></hierarchy>'
    shutil.copy(_real(files, rng, ".png"), folder / "laughs.png")
    _put(folder, rng.choice(["laughs.uix", "laughs.xml", "laughs.html"]), xml.encode())


@_kind
def bad_sidecar(folder: Path, files: list[Path], rng: random.Random) -> None:
    """JSON that is cut off, deep, of other types, or full of absurd figures, beside a good file."""
    path, role = rng.choice([(_real(files, rng, ".png"), ".gui.json"), (_real(files, rng, ".mp4"), ".captions.json")])
    deep = b"[" * 100_000
    types = json.dumps({"elements": 7, "captions": {"a": []}, "scenes": "x", "width": -1, "height": "tall"}).encode()
    absurd = json.dumps({
        "elements": [{"id": "a", "role": "button", "text": "x" * MB, "box": [0, 0, 1e308, float("inf")]}],
        "scenes": [{"start_s": -1e300, "end_s": 1e300, "caption": "\ud800"}],
    }).encode()  # fmt: skip
    shutil.copy(path, folder / f"one{path.suffix}")
    _put(folder, f"one{role}", rng.choice([deep, types, absurd, b"", b"null", b"\xff\xfe{", b'{"elements": ']))


@_kind
def bad_trace(folder: Path, files: list[Path], rng: random.Random) -> None:
    """A recording that leads out of its folder or nowhere."""
    step = {"screenshot": rng.choice(["../../../../etc/passwd", "/etc/passwd", "step-\0.png", "x" * 5000, ""]), "action": []}
    value = rng.choice([{"goal": "x", "steps": [step] * 3}, {"steps": []}, [], {"goal": 7, "steps": step}])
    _put(folder, "trace.json", json.dumps(value).encode())
    _put(folder, "step-00.png", _real(files, rng, ".png").read_bytes())


@_kind
def trick_name(folder: Path, files: list[Path], rng: random.Random) -> None:
    """A good file under a name that breaks careless programs."""
    path = _real(files, rng, ".png", ".md", ".mp4", ".pdf")
    stem = rng.choice([
        b"new\nline", b"quo'te\"d", b"..", b"...", b"a..b", b"-rf", b" ", b"$(touch x)", b"%00%2e%2e", b"tab\t", b"\\..\\x",
        b"x" * 245, b"non-utf8-\xff\xfe", "\u202egnp.".encode(), b"\x1b[31m", b"*?[a]", b"; DROP TABLE", b"a\rb", b"CON",
    ])  # fmt: skip
    with open(os.fsencode(folder) + b"/" + stem + os.fsencode(path.suffix), "wb") as stream:
        stream.write(path.read_bytes())


@_kind
def links(folder: Path, files: list[Path], rng: random.Random) -> None:
    """Links to themselves, out of the input, to nothing, and to a folder above."""
    target, name = rng.choice([("loop.mp4", "loop.mp4"), ("/etc/passwd", "out.txt"), ("nowhere", "none.png"), ("..", "up")])
    (folder / name).symlink_to(target)


@_kind
def not_a_file(folder: Path, files: list[Path], rng: random.Random) -> None:
    """A pipe, which never ends, or a folder that is called like a film."""
    if rng.random() < 0.5:
        os.mkfifo(folder / "pipe.mp4")
    else:
        (folder / "folder.mp4").mkdir()
        _put(folder / "folder.mp4", "inside.jpg", b"\xff\xd8\xff")


@_kind
def packed(folder: Path, files: list[Path], rng: random.Random) -> None:
    """A good file, packed, under its own name."""
    path = _real(files, rng)
    _put(folder, path.name, gzip.compress(path.read_bytes(), 1, mtime=0))


def make(folder: Path, files: list[Path], count: int, seed: int = 5) -> Counter[str]:
    """Makes ``count`` damaged inputs, every kind equally often, each in a folder of its own; returns how many of each kind."""
    made: Counter[str] = Counter()
    names = list(KINDS)
    for number in range(count):
        kind = names[number % len(names)]
        here = folder / f"{number // 100:02d}" / f"{number:04d}-{kind}"
        here.mkdir(parents=True)
        KINDS[kind](here, files, random.Random(f"{seed}/{number}"))
        made[kind] += 1
    return made


def real_files(corpus: Path) -> list[Path]:
    """The files that damage is done to."""
    return sorted(
        path for path in corpus.rglob("*") if path.is_file() and "broken" not in path.parts and path.name != "SOURCES.md"
    )


@contextlib.contextmanager
def peak_memory() -> Iterator[Callable[[], int]]:
    """Watches this process and all below it; the largest sum of resident bytes so far is what the value gives when called."""
    peak, ended = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        me = psutil.Process()
        while not ended.wait(0.1):
            total = 0
            for process in [me, *me.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    total += process.memory_info().rss
            peak = max(peak, total)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield lambda: peak
    finally:
        ended.set()
        thread.join()


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What curation made of good and damaged inputs.

    Attributes:
        unaccounted: files that are in none of used, filtered, quarantined and attached.
        lost: good inputs that were used without the damaged ones beside them, and now are not.
        copied: good inputs that gave way to a damaged copy which can still be read (near-duplicates keep the larger one).
    """

    counts: dict[str, Any]
    unaccounted: int
    lost: list[str]
    copied: list[str]
    reasons: Counter[str]
    seconds: float
    peak_bytes: int


def examine(good: Path, folder: Path, count: int, *, time_limit_s: float = 60.0, options: tuple[str, ...] = ()) -> Finding:
    """Curates ``good`` alone and beside ``count`` damaged inputs made from it, all below ``folder``."""
    recipe = laptop()
    recipe = replace(
        recipe, curate=replace(recipe.curate, loss_limit=1.0, item_time_limit_s=time_limit_s, item_memory_max=2 * 2**30)
    )
    everything = folder / "in"
    shutil.copytree(good, everything / "good", ignore=shutil.ignore_patterns("broken"))
    curate([everything / "good"], folder / "alone", recipe, beam_options=options)
    make(everything / "damaged", real_files(good), count)
    begun = time.monotonic()
    with peak_memory() as peak:
        result = curate([everything / "good", everything / "damaged"], folder / "beside", recipe, beam_options=options)
    seconds = time.monotonic() - begun
    used = {row["source"] for row in rows(folder / "alone", "sources") if row["status"] == "used"}
    now = {row["source"]: row["status"] for row in rows(folder / "beside", "sources")}
    details = {row["source"]: row["detail"] for row in rows(folder / "beside", "dropped") if row["stage"] == "duplicates"}
    missing = sorted(source for source in used if now.get(source) != "used")
    copied = [source for source in missing if re.match(r"\d\d/\d{4}-", details.get(source, ""))]
    entries = sum(not path.is_dir() or path.is_symlink() for path in everything.rglob("*"))
    return Finding(
        counts=result.counts,
        unaccounted=entries - result.counts["inputs"] - result.counts["attached"],
        lost=[source for source in missing if source not in copied],
        copied=copied,
        reasons=Counter(f"{row['stage']}/{row['reason']}" for row in rows(folder / "beside", "quarantine")),
        seconds=seconds,
        peak_bytes=peak(),
    )


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("good", type=Path)
    parser.add_argument("--count", type=int, default=1000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = examine(arguments.good, Path(folder), arguments.count)
    counts = found.counts
    print(f"{arguments.count} damaged inputs of {len(KINDS)} kinds beside good ones, in {found.seconds:.0f} s")
    print(
        " + ".join(f"{counts[name]} {name}" for name in ("used", "filtered", "quarantined")) + f" = {counts['inputs']} inputs"
    )
    print(
        f"unaccounted {found.unaccounted}, good files lost {len(found.lost)} {found.lost[:5]}, copies kept {len(found.copied)}"
    )
    print(f"peak memory of all processes {found.peak_bytes / MB:,.0f} MiB")
    print("quarantined: " + ", ".join(f"{reason} {number}" for reason, number in found.reasons.most_common()))
    return int(bool(found.unaccounted or found.lost))


if __name__ == "__main__":
    sys.exit(main())
