"""Office files and e-books are zip archives: looked over before any library opens one.

Refused are archives that unpack to more than the recipe allows (declared sizes are a true bound: `zipfile` reads no further),
that have absurdly many parts, that need a password, that carry macros, or whose XML declares entities or a document type.
Nothing in an archive is ever executed or fetched; macros are refused because a file with them is not what a document should be.
"""

from __future__ import annotations

import lzma
import re
import zipfile
import zlib
from pathlib import Path

from pipelines.items import Quarantined

PARTS_MAX = 20_000
XML_BYTES_MAX = 64 * 2**20
"""Of one XML part: parsers keep it in memory, at many times its size."""
_MACROS = re.compile(r"(^|/)(vbaProject(Signature)?\.bin|Basic/.+|macros?/.+)$", re.IGNORECASE)
_XML = (".xml", ".rels", ".opf", ".ncx")
_PROLOGUE_BYTES = 64 * 1024
# Office and OpenDocument never need a document type; e-books do, for XHTML, and their parser loads none.
_DECLARED = re.compile(rb"<!(DOCTYPE|ENTITY)", re.IGNORECASE)
_ENTITY = re.compile(rb"<!ENTITY", re.IGNORECASE)


def open_archive(path: Path, bytes_max: int, *, doctypes: bool = False) -> zipfile.ZipFile:
    """A zip archive that is safe to read.

    Args:
        path: the file.
        bytes_max: bytes that all parts together may unpack to.
        doctypes: whether XML parts may have a document type (never entities).

    Raises:
        Quarantined: it is broken, needs a password, is too large, or carries what a document must not.
    """
    try:
        archive = zipfile.ZipFile(path)
        parts = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, RuntimeError, EOFError) as error:
        raise Quarantined("probe", "undecodable", f"no readable zip archive: {_words(error)}", "document") from error
    try:
        if len(parts) > PARTS_MAX:
            raise Quarantined("limit", "too_large", f"{len(parts):,} parts are more than {PARTS_MAX:,}", "document")
        size = sum(part.file_size for part in parts)
        if size > bytes_max:
            detail = f"it unpacks to {size:,} bytes, more than curate.documents.bytes_max={bytes_max:,}"
            raise Quarantined("limit", "too_large", detail, "document")
        for part in parts:
            if part.flag_bits & 1:
                raise Quarantined("probe", "encrypted", f"its part {_name(part)} needs a password", "document")
            if _MACROS.search(part.filename):
                raise Quarantined("probe", "unsafe_content", f"it carries macros ({_name(part)})", "document")
            if part.filename.lower().endswith(_XML):
                if part.file_size > XML_BYTES_MAX:
                    detail = f"its part {_name(part)} unpacks to {part.file_size:,} bytes, more than {XML_BYTES_MAX:,}"
                    raise Quarantined("limit", "too_large", detail, "document")
                with archive.open(part) as stream:
                    prologue = stream.read(_PROLOGUE_BYTES)
                if (_ENTITY if doctypes else _DECLARED).search(prologue.replace(b"\0", b"")):
                    raise Quarantined("probe", "unsafe_content", f"its part {_name(part)} declares entities", "document")
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, RuntimeError, ValueError) as error:
        archive.close()
        raise Quarantined("probe", "undecodable", f"no readable zip archive: {_words(error)}", "document") from error
    except BaseException:
        archive.close()
        raise
    return archive


def read_part(archive: zipfile.ZipFile, name: str) -> bytes:
    """One part, whole.

    Raises:
        Quarantined: it is missing or broken.
    """
    try:
        return archive.read(name)
    except KeyError:
        raise Quarantined("extract", "undecodable", f"its part {name[:100]} is missing", "document") from None
    except Exception as error:  # zlib.error, BadZipFile, EOFError and others, by how it is broken
        detail = f"its part {name[:100]} is broken: {_words(error)}"
        raise Quarantined("extract", "undecodable", detail, "document") from error


def _name(part: zipfile.ZipInfo) -> str:
    return ascii(part.filename[:100]).strip("'")


def _words(error: Exception) -> str:
    lines = str(error).splitlines()
    return (lines[0] if lines else type(error).__name__)[:160]
