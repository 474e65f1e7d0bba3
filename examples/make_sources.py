"""Write and verify corpus/SOURCES.json and SOURCES.md: origin, licence and hash of every file of the example corpus.

    python examples/make_sources.py            verify; exit 1 on a missing entry, a missing file, another hash
    python examples/make_sources.py --write    write both files anew (refuses a file that nothing accounts for)

Only the standard library is needed. What is known of a file comes from `build_corpus.ENTRIES`; captions, GUI files and
broken GUI files follow rules by folder. A file neither lists is an error, so that nothing enters without a licence.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

from build_corpus import ENTRIES

FORMAT = "longreel-sources/1"
UNLISTED = {"SOURCES.json", "SOURCES.md"}
MINIWOB = "rendered by examples/render_miniwob.py from PyPI miniwob 1.1.0"
GROUPS = {
    "videos": "Video clips and their captions",
    "images": "Images and their captions",
    "documents": "Documents: PDF, text, Markdown, source code",
    "gui": "GUI screenshots with element boxes",
    "traces": "GUI action traces",
    "broken": "Broken on purpose",
}


def account_for(path: str) -> dict[str, str] | None:
    """Origin, licence and note of a file of the corpus; None for a file that nothing accounts for."""
    for entry in ENTRIES:
        if entry.path == path:
            return {"origin": entry.origin, "licence": entry.licence, "note": entry.note}
    if path.endswith((".captions.json", ".caption.json")):
        return {"origin": "written for longreel after looking at the file", "licence": "Apache-2.0", "note": ""}
    if path.startswith(("gui/", "traces/")):
        return {"origin": MINIWOB, "licence": "MIT", "note": ""}
    if path.startswith("broken/boxes-outside."):
        return {"origin": MINIWOB, "licence": "MIT", "note": "all boxes were moved out of the picture"}
    return None


def files_of(corpus: Path) -> list[str]:
    paths = (p.relative_to(corpus).as_posix() for p in corpus.rglob("*") if p.is_file())
    return sorted(p for p in paths if p not in UNLISTED)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def collect(corpus: Path) -> tuple[list[dict[str, str]], list[str]]:
    """The entries of SOURCES.json, and a complaint for every file without a known source."""
    entries, complaints = [], []
    for path in files_of(corpus):
        known = account_for(path)
        if known is None:
            complaints.append(f"{path}: nothing says where it came from; add it to build_corpus.py or remove it")
        else:
            known["sha256"] = sha256(corpus / path)
            entries.append({"path": path, **{key: known[key] for key in ("origin", "licence", "sha256", "note")}})
    return entries, complaints


def as_markdown(entries: list[dict[str, str]]) -> str:
    lines = [
        "# Where the example corpus comes from",
        "",
        "Written by `examples/make_sources.py` from `SOURCES.json`. Licences are SPDX identifiers;",
        "`LicenseRef-public-domain` means that the package states the file to be in the public domain.",
        "CC-BY and CC-BY-SA files stay under their own licences, named beside each of them.",
    ]
    for folder, title in GROUPS.items():
        lines += ["", f"## {title}", "", "| file | origin | licence | SHA-256 | note |", "|---|---|---|---|---|"]
        lines += [
            f"| {e['path']} | {e['origin']} | {e['licence']} | `{e['sha256']}` | {e['note']} |"
            for e in entries
            if e["path"].startswith(f"{folder}/")
        ]
    return "\n".join(lines) + "\n"


def verify(corpus: Path) -> list[str]:
    """Complaints about SOURCES.json against the files; empty when they agree."""
    listed = {e["path"]: e for e in json.loads((corpus / "SOURCES.json").read_text(encoding="utf-8"))["files"]}
    present = files_of(corpus)
    complaints = [f"{path}: no entry in SOURCES.json" for path in present if path not in listed]
    complaints += [f"{path}: listed in SOURCES.json, but missing" for path in listed.keys() - set(present)]
    for path in present:
        if path in listed and sha256(corpus / path) != listed[path]["sha256"]:
            complaints.append(f"{path}: its SHA-256 is not the one in SOURCES.json")
        if path in listed and not (listed[path]["origin"] and listed[path]["licence"]):
            complaints.append(f"{path}: origin or licence is empty")
    return sorted(complaints)


def main() -> int:
    parser = argparse.ArgumentParser(description="Write or verify the list of sources of the example corpus.")
    parser.add_argument("--corpus", type=Path, default=Path(__file__).parent / "corpus")
    parser.add_argument("--write", action="store_true", help="write SOURCES.json and SOURCES.md")
    arguments = parser.parse_args()
    if arguments.write:
        entries, complaints = collect(arguments.corpus)
        if not complaints:
            text = json.dumps({"format": FORMAT, "files": entries}, indent=1, ensure_ascii=False) + "\n"
            (arguments.corpus / "SOURCES.json").write_text(text, encoding="utf-8")
            (arguments.corpus / "SOURCES.md").write_text(as_markdown(entries), encoding="utf-8")
    else:
        complaints = verify(arguments.corpus)
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    if not complaints:
        print(f"{len(files_of(arguments.corpus))} files, all accounted for")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
