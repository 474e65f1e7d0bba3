"""An interactive SQL shell over a corpus: DuckDB's own client when it is installed, or a plain prompt. Both only read.

The client gets the views of `manifests.catalog` from a file of SQL and is then shut in three times: DuckDB may open the files
of the corpus and no other; its safe mode has no dot commands that run or write anything; and on Linux the kernel (Landlock)
forbids the process to write anywhere. The last closes the gap of the first two: a ``COPY`` onto a file of the corpus itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from manifests.catalog import Catalog, quoted, view_statements
from manifests.corpus import Corpus
from manifests.errors import UsageError
from manifests.terminal import rows_shown

ROWS_MAX = 100
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the numbers of Landlock's calls, the same on every architecture
_WRITING = 0b1_1111_1111_0010  # write a file, remove and make names of any kind: all that Landlock's first version can forbid
_TRUNCATE = 1 << 14  # since its third
_PATH_BENEATH, _NO_NEW_PRIVILEGES = 1, 38


def find_client() -> str | None:
    """DuckDB's command line client: beside this Python, or on the PATH."""
    return shutil.which("duckdb", path=str(Path(sys.executable).parent)) or shutil.which("duckdb")


def client_setup(corpus: Corpus) -> str:
    """The SQL that a client starts with: the views, and leave to open their files only."""
    statements = view_statements(corpus)
    paths = [path for table in statements for paths in corpus.files_of(table).values() for path in paths]
    paths += sorted((corpus.folder / "runs").glob("*.json"))
    allowed = ", ".join(quoted(str(path)) for path in paths)
    return ";\n".join([*statements.values(), f"SET allowed_paths = [{allowed}]", "SET enable_external_access = false"]) + ";\n"


def run_client(client: str, corpus: Corpus) -> int:
    """Runs the client on this terminal until it ends; returns its exit code. Ctrl-C is the client's."""
    corpus = Corpus.open(corpus.folder.resolve())
    with tempfile.TemporaryDirectory(prefix="longreel-sql-") as folder:
        setup = Path(folder) / "views.sql"
        setup.write_text(client_setup(corpus), encoding="utf-8")
        process = subprocess.Popen([client, "-init", str(setup), "-cmd", ".safe_mode"], preexec_fn=_only_reading())
        while True:
            with contextlib.suppress(KeyboardInterrupt):
                return process.wait()


def _only_reading() -> Callable[[], None] | None:
    """What a child process calls to give up writing, but for devices; None where the kernel has no Landlock."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if version < 1:
        return None
    handled = ctypes.c_uint64(_WRITING | (_TRUNCATE if version >= 3 else 0))

    def restrict() -> None:
        rules = libc.syscall(_CREATE_RULESET, ctypes.byref(handled), ctypes.c_size_t(8), ctypes.c_uint32(0))
        devices = os.open("/dev", os.O_PATH | os.O_DIRECTORY)
        beneath = handled.value.to_bytes(8, sys.byteorder) + devices.to_bytes(4, sys.byteorder)
        if (
            rules < 0
            or libc.syscall(_ADD_RULE, rules, _PATH_BENEATH, beneath, ctypes.c_uint32(0))
            or libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
            or libc.syscall(_RESTRICT_SELF, rules, ctypes.c_uint32(0))
        ):
            raise OSError(ctypes.get_errno(), "the kernel has Landlock and does not let this process use it")

    return restrict


def prompt(catalog: Catalog, console: Console) -> None:
    """Reads statements that end with ``;`` and shows their rows, until the input ends."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (gives `input` a history and keys)

    pending: list[str] = []
    while True:
        try:
            pending.append(input("... " if pending else "sql> "))
        except EOFError:
            return
        except KeyboardInterrupt:
            pending = []
            console.print()
            continue
        text = "\n".join(pending).strip()
        if not text or not text.endswith(";"):
            pending = pending if text else []
            continue
        pending = []
        try:
            relation = catalog.sql(text)
            rows = catalog.rows(relation.limit(ROWS_MAX + 1))
        except UsageError as error:
            console.print(str(error), markup=False, highlight=False)
            continue
        console.print(rows_shown(relation.columns, rows[:ROWS_MAX], console), highlight=False)
        if len(rows) > ROWS_MAX:
            console.print(f"more than {ROWS_MAX} rows: the first {ROWS_MAX} are shown")
