"""What a file is, by its bytes. The extension is only asked whether it tells the same story.

A name that promises one kind and bytes that hold another are a sign of a broken download or of something to hide: such a file
is quarantined, never read as what it turned out to be.
"""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Literal

from pipelines.items import Quarantined

Kind = Literal["video", "image", "pdf", "html", "office", "epub", "text"]

SNIFFED_BYTES = 4096
_EXTENSIONS: dict[Kind, frozenset[str]] = {
    "video": frozenset({
        ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".mpg", ".mpeg", ".ogv", ".flv", ".wmv", ".3gp",
    }),
    "image": frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}),
    "pdf": frozenset({".pdf"}),
    "html": frozenset({".html", ".htm", ".xhtml"}),
    "office": frozenset({".docx", ".pptx", ".xlsx", ".docm", ".pptm", ".xlsm", ".odt", ".ods", ".odp"}),
    "epub": frozenset({".epub"}),
    "text": frozenset({
        ".txt", ".md", ".markdown", ".rst", ".py", ".js", ".mjs", ".ts", ".tsx", ".jsx", ".c", ".h", ".cc", ".cpp", ".hpp",
        ".java", ".go", ".rs", ".rb", ".sh", ".json", ".csv",
    }),
}  # fmt: skip


_ZIP = b"PK\x03\x04"
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""Microsoft's older container: an Office file of before 2007, or a newer one with a password."""
_HTML = re.compile(rb"(?:<\?xml[^>]*>|(?><!--.*?-->)|\s)*+(?:<!doctype\s+html|<html[\s>])", re.IGNORECASE | re.DOTALL)


def sniff(head: bytes) -> Kind | None:
    """The kind of a file from its first `SNIFFED_BYTES` bytes; None when it is none that curation reads.

    Args:
        head: not empty.
    """
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"%PDF-"):
        return "pdf"
    if head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")):
        return "image"
    if head[:2] == b"BM" and len(head) > 18 and head[6:10] == b"\0\0\0\0":
        return "image"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image"
    if _is_video(head):
        return "video"
    if head.startswith(_ZIP):
        return _in_zip(head)
    if not _is_text(head):
        return None
    return "html" if _HTML.match(head.removeprefix(b"\xef\xbb\xbf")) else "text"


def _in_zip(head: bytes) -> Kind | None:
    """What a zip archive holds, by the name of its first part; for OpenDocument and e-books also by that part's content."""
    if head[30:].startswith(b"mimetypeapplication/"):
        mime = head[38:]
        if mime.startswith(b"application/epub+zip"):
            return "epub"
        return "office" if mime.startswith(b"application/vnd.oasis.opendocument.") else None
    first = (b"[Content_Types].xml", b"_rels/", b"word/", b"ppt/", b"xl/", b"docProps/")
    return "office" if head[30:].startswith(first) else None


def _is_video(head: bytes) -> bool:
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return head[8:12] not in (b"avif", b"avis", b"heic", b"heix", b"mif1", b"M4A ", b"M4B ")
    if head.startswith((b"\x1a\x45\xdf\xa3", b"FLV\x01", b"OggS", b"\0\0\x01\xba", b"\0\0\x01\xb3")):
        return True
    if head.startswith(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"):
        return True
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return True
    return len(head) > 376 and head[0] == head[188] == head[376] == 0x47


def _is_text(head: bytes) -> bool:
    """No NUL and few control bytes; whether it is UTF-8 is the reader's question, so that bad encoding has its own reason."""
    if head.startswith((b"PK\x03\x04", b"\x1f\x8b", b"7z\xbc\xaf", b"\x7fELF", b"ID3", b"fLaC")) or b"\0" in head:
        return False
    controls = sum(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in head)
    return controls <= len(head) // 50


def kind_of(name: str, head: bytes) -> Kind:
    """The kind of a file, when name and bytes agree.

    Raises:
        Quarantined: it is empty, of no known type, or of another kind than its name says.
    """
    if not head:
        raise Quarantined("probe", "empty", "the file has no bytes")
    found = sniff(head)
    extension = PurePath(name).suffix.lower()
    promised = [kind for kind, extensions in _EXTENSIONS.items() if extension in extensions]
    if promised and (told := _same_story(promised[0], found, head)) is not None:
        return told
    if promised == ["office"] and head.startswith(_OLE):
        raise Quarantined("probe", "encrypted", f"{extension} in an older container: it needs a password", "document")
    if promised and found not in promised:
        said = f"{found} content" if found is not None else "content of another type"
        raise Quarantined("probe", "wrong_type", f"{extension} promises {' or '.join(promised)}, but it holds {said}")
    if found is None:
        raise Quarantined(
            "probe", "unsupported", f"it begins with the bytes {head[:8].hex(' ')}: no video, picture, document or text"
        )
    return found


def _same_story(promised: Kind, found: Kind | None, head: bytes) -> Kind | None:
    """The kind of a file whose bytes fit its name without showing it: a piece of HTML, markup that calls itself text, a zip."""
    if promised == "html" and found == "text":
        return "html"
    if promised == "text" and found == "html":
        return "text"
    if promised in ("office", "epub") and head.startswith(_ZIP) and found is None:
        return promised
    return None
