"""`longreel sql` on a real terminal: DuckDB's own client over the views, and it can only read; the plain prompt too."""

from __future__ import annotations

import io
import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import pytest
from rich.console import Console

from manifests import Catalog, shell
from manifests.corpus import Corpus
from manifests.fingerprint import sha256_file

ROOT = Path(__file__).parents[2]


class Terminal:
    """A process on a terminal of its own."""

    def __init__(self, *command: str | Path) -> None:
        self.mine, theirs = pty.openpty()
        environment = {**os.environ, "TERM": "dumb", "COLUMNS": "200"}
        self.process = subprocess.Popen(
            [*map(str, command)], stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
        )
        os.close(theirs)
        self.text = ""

    def send(self, line: str) -> None:
        os.write(self.mine, line.encode() + b"\r")

    def until(self, words: str, timeout: float = 60) -> str:
        """What is on the terminal once ``words`` have appeared, from the last such call on."""
        end = time.monotonic() + timeout
        while words not in self.text:
            assert time.monotonic() < end, f"no {words!r} in {self.text!r}"
            if select.select([self.mine], [], [], 0.2)[0]:
                try:
                    piece = os.read(self.mine, 65536)
                    if b"\x1b]11;?" in piece:  # the client asks for the colour of the background and waits for an answer
                        os.write(self.mine, b"\x1b]11;rgb:0000/0000/0000\x07\x1b[?62c")
                    self.text += piece.decode("utf-8", "replace")
                except OSError:  # the other side is gone
                    break
        assert words in self.text, self.text
        before, _, self.text = self.text.partition(words)
        return before + words

    def ends(self) -> int:
        try:
            return self.process.wait(timeout=60)
        finally:
            os.close(self.mine)


def checksums(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_client_shows_the_tables_and_writes_nothing(corpus: Corpus, tmp_path: Path) -> None:
    """Every way of writing that the client knows, onto the corpus and beside it."""
    assert shell.find_client() is not None, "duckdb-cli is a development dependency"
    before = checksums(corpus.folder)
    victim = next(corpus.folder.glob("sources/**/*.parquet"))
    terminal = Terminal(sys.executable, ROOT / "longreel.py", "sql", corpus.folder)
    terminal.until(" D ")
    terminal.send("SELECT 'rows: ' || count(*) FROM samples;")
    terminal.until("rows: 4")
    for attack in (
        f"COPY (SELECT 1 AS a) TO '{victim}' (FORMAT parquet, USE_TMP_FILE false);",
        f"COPY (SELECT 1 AS a) TO '{victim}';",
        f"COPY (SELECT 1 AS a) TO '{tmp_path}/new.csv';",
        f"ATTACH '{tmp_path}/new.db';",
        f"EXPORT DATABASE '{tmp_path}/new';",
        f".output {tmp_path}/new.txt",
        f".shell touch {tmp_path}/new.shell",
        "SET enable_external_access = true;",
        f"SELECT * FROM read_text('{ROOT}/README.md');",
        f"INSTALL httpfs FROM '{tmp_path}';",
    ):
        terminal.send(attack)
    terminal.send("SELECT 'still ' || count(*) FROM sources;")
    said = terminal.until("still 5")
    assert "# longreel" not in said.partition("read_text")[2]
    terminal.send(".exit")
    assert terminal.ends() == 1  # the client's own code after statements that failed
    assert checksums(corpus.folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_the_kernel_alone_forbids_writing(tmp_path: Path) -> None:
    restrict = shell._only_reading()
    assert restrict is not None, "this kernel has no Landlock: the client is then held by DuckDB's limits only"
    (tmp_path / "file").write_text("kept")
    script = "for name in ('file', 'new'):\n try: open(name, 'w')\n except PermissionError: print('refused', name)"
    script += "\nprint(open('file').read()); open('/dev/null', 'w').write('x')"
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, preexec_fn=restrict, capture_output=True, text=True, check=True
    )
    assert result.stdout.split("\n")[:3] == ["refused file", "refused new", "kept"]


def test_the_plain_prompt_answers_and_only_reads(corpus: Corpus) -> None:
    before = checksums(corpus.folder)
    terminal = Terminal(sys.executable, ROOT / "longreel.py", "sql", corpus.folder, "--plain")
    terminal.until("sql> ")
    terminal.send("SELECT 'rows: ' || count(*)")
    terminal.until("... ")
    terminal.send("FROM samples;")
    terminal.until("rows: 4")
    terminal.until("sql> ")
    terminal.send("COPY samples TO 'x.csv';")
    terminal.until("a query is one SELECT, and this is COPY")
    terminal.until("sql> ")
    terminal.send("SELECT nonsense;")
    terminal.until("the query failed")
    terminal.until("sql> ")  # only now the line editor reads keys; before, the end of the input would be lost
    os.write(terminal.mine, b"\x04")
    assert terminal.ends() == 0
    assert checksums(corpus.folder) == before


def test_an_address_and_a_missing_client_get_the_plain_prompt(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from typer.testing import CliRunner

    import longreel

    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    fsspec.filesystem("memory").put(str(corpus.folder), "/shell/corpus", recursive=True)
    for where in (str(corpus.folder), "memory://shell/corpus"):
        result = CliRunner().invoke(longreel.app, ["sql", where], input="SELECT count(*) AS rows\nFROM samples;\n")
        assert result.exit_code == 0, result.output
        assert "rows" in result.stdout
        assert "4" in result.stdout.split()


def test_the_prompt_spells_what_would_command_the_terminal(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = iter(["SELECT chr(27) || '[2J' AS x, range AS n", "FROM range(150);"])

    def typed(_: str) -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", typed)
    stream = io.StringIO()
    shell.prompt(Catalog(corpus.folder), Console(file=stream, width=80))
    assert "\x1b" not in stream.getvalue()
    assert r"\x1b[2J" in stream.getvalue()
    assert "more than 100 rows" in stream.getvalue()
