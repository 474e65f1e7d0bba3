"""Which folders are one thing: a software project, or a series of documents. Its texts become one item instead of many.

A folder is recognised by a file that only stands at the top of such a thing:

- a *project* by `PROJECT` (``pyproject.toml``, ``package.json``, ``Makefile``, ... or a folder ``.git``), when at least half of
  the code and prose files below it are code: an archive of documents that is kept in git is no project;
- a *series* by `SERIES` (``mkdocs.yml``, ``book.toml``, ... or ``series.json``, an empty object that a person puts there).

The outermost such folder counts. Into the item go files of at most `FILE_BYTES` with a name that promises text, that nothing
describes and that describe nothing; pictures, data and everything else below the folder stay items of their own. Files of
different licence or origin are never put together, and a large project is several items of at most `PART_BYTES`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

ROLE = "tree:"
"""Begins the role of the attached files of such an item; the path below the folder follows."""
FILE_BYTES = 2**20
PART_BYTES = 8 * 2**20
PROJECT = frozenset({
    ".git", ".hg", ".svn", "pyproject.toml", "setup.py", "setup.cfg", "package.json", "deno.json", "Cargo.toml", "go.mod",
    "pom.xml", "build.gradle", "build.gradle.kts", "build.sbt", "CMakeLists.txt", "meson.build", "configure.ac", "Makefile",
    "GNUmakefile", "Gemfile", "composer.json", "mix.exs", "rebar.config", "stack.yaml", "Package.swift", "dune-project",
    "DESCRIPTION",
})  # fmt: skip
SERIES = frozenset({"series.json", "mkdocs.yml", "mkdocs.yaml", "book.toml", "_toc.yml", "antora.yml", "docusaurus.config.js"})
PURE_MARKS = frozenset({"series.json"})
"""Marks that say nothing else and are no text to learn."""
NOT_SOURCE = frozenset({".git", ".hg", ".svn", "node_modules", "__pycache__", ".venv", ".tox", ".mypy_cache", ".pytest_cache"})
"""Folders of version control, installed packages and caches: never read, anywhere."""
PROSE = frozenset({".md", ".markdown", ".rst", ".adoc", ".org", ".tex", ".txt", ".text"})
CODE = frozenset({
    ".py", ".pyi", ".js", ".mjs", ".cjs", ".jsx", ".ts", ".tsx", ".vue", ".svelte", ".c", ".h", ".cc", ".cpp", ".cxx",
    ".hpp", ".hh", ".cu", ".cuh", ".m", ".mm", ".java", ".kt", ".kts", ".scala", ".groovy", ".go", ".rs", ".rb", ".php",
    ".pl", ".pm", ".lua", ".r", ".jl", ".swift", ".cs", ".fs", ".vb", ".dart", ".ex", ".exs", ".erl", ".hs", ".ml", ".mli",
    ".clj", ".el", ".lisp", ".scm", ".sh", ".bash", ".zsh", ".fish", ".ps1", ".bat", ".sql", ".proto", ".thrift",
    ".graphql", ".asm", ".s", ".f90", ".f", ".zig", ".nim", ".css", ".scss", ".less", ".cmake", ".mk", ".gradle", ".tf",
    ".sol", ".v", ".sv", ".vhd",
})  # fmt: skip
CONFIGURATION = frozenset({".toml", ".cfg", ".ini", ".yml", ".yaml"})
_NAMES = frozenset({
    "Makefile", "GNUmakefile", "Dockerfile", "Jenkinsfile", "Rakefile", "Gemfile", "Vagrantfile", "BUILD", "WORKSPACE",
    "LICENSE", "LICENCE", "COPYING", "NOTICE", "README", "AUTHORS", "CHANGES", "CHANGELOG", "INSTALL", "NEWS", "TODO",
    "DESCRIPTION", "package.json", "tsconfig.json", "composer.json", "deno.json", "pom.xml", "go.mod", "series.json",
})  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """A file that may belong to a project or series.

    Attributes:
        path: below the input, with ``/``.
        bytes: its size.
        owner: its licence and origin.
    """

    path: str
    bytes: int
    owner: tuple[str, str | None]


@dataclass(frozen=True, kw_only=True)
class Tree:
    """Files that are one item. ``folder`` is theirs below the input, empty at its top; ``leaves`` are at least two, by path."""

    folder: str
    leaves: tuple[Leaf, ...]

    def inside(self, leaf: Leaf) -> str:
        """A file's path below the folder."""
        return leaf.path.removeprefix(f"{self.folder}/") if self.folder else leaf.path


def may_belong(name: str, size: int) -> bool:
    """Whether a file of this name and size is a text of a project or series."""
    suffix = PurePosixPath(name).suffix.lower()
    return 0 <= size <= FILE_BYTES and (name in _NAMES or suffix in CODE | PROSE | CONFIGURATION)


def find_trees(leaves: Sequence[Leaf], marks: Iterable[str]) -> list[Tree]:
    """The projects and series among files.

    Args:
        leaves: files for which `may_belong` holds.
        marks: paths below the input of everything named in `PROJECT` or `SERIES`, folders too.
    """
    named: dict[str, set[str]] = defaultdict(set)
    for mark in marks:
        folder, _, name = mark.rpartition("/")
        named[folder].add(name)
    taken: list[str] = []
    trees: list[Tree] = []
    for folder in sorted(named, key=lambda folder: (folder.count("/") + bool(folder), folder)):
        if any(_below(folder, outer) for outer in taken):
            continue
        members = sorted((leaf for leaf in leaves if _below(leaf.path, folder)), key=lambda leaf: leaf.path)
        suffixes = [PurePosixPath(leaf.path).suffix.lower() for leaf in members]
        code, prose = sum(suffix in CODE for suffix in suffixes), sum(suffix in PROSE for suffix in suffixes)
        project = bool(named[folder] & PROJECT) and code >= 2 and code >= prose
        series = bool(named[folder] & SERIES) and prose >= 2
        if project or series:
            taken.append(folder)
            trees += _parts(folder, members)
    return trees


def _below(path: str, folder: str) -> bool:
    return not folder or path.startswith(f"{folder}/")


def _parts(folder: str, members: Sequence[Leaf]) -> list[Tree]:
    """Neighbouring files together, as far as they belong to one owner and the bound of a part allows."""
    parts: list[Tree] = []
    by_owner: dict[tuple[str, str | None], list[Leaf]] = defaultdict(list)
    for leaf in members:
        by_owner[leaf.owner].append(leaf)
    for owned in by_owner.values():
        part: list[Leaf] = []
        size = 0
        for leaf in owned:
            if part and size + leaf.bytes > PART_BYTES:
                parts.append(Tree(folder=folder, leaves=tuple(part)))
                part, size = [], 0
            part.append(leaf)
            size += leaf.bytes
        parts.append(Tree(folder=folder, leaves=tuple(part)))
    return [part for part in parts if len(part.leaves) > 1]
