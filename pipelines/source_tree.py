"""A software project or a series of documents as samples: each file for the smallest context, files together for the larger.

The short form of a file is what it would be alone (`code.text`, `document.text`, `text.plain`). The long form (`code.long`,
`document.long`) is the files in reading order (`pipelines.code_order`; a series by name), each under a line with its path, cut
only between files, up to the largest context. Several files with a question, which of them holds a given line, are a
`document.multi` sample: the line stands in exactly one of them, so the answer can be checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from manifests.fingerprint import unit_hash
from manifests.sample import Message, Origin, Part, Sample, text
from pipelines.code_order import reading_order
from pipelines.duplicates import Signature, shingle_minhash
from pipelines.extraction import Drop, Extracted, Setting
from pipelines.items import Filtered, Quarantined
from pipelines.passages import END_TOKENS, Block, Passage, pack, tokens_of
from pipelines.pictures import PictureStore
from pipelines.plain_text import decode_text, sort_of_text, split_of, text_samples
from pipelines.sniffing import SNIFFED_BYTES, kind_of
from pipelines.text_quality import keep
from pipelines.trees import PURE_MARKS, ROLE

QUESTIONS = (
    "Which of these files holds the line “{line}”?",
    "In which file does the line “{line}” stand?",
    "Find the file with the line “{line}”. What is its name?",
)
QUESTION_TOKENS = 256
"""Kept free for the question and the answer, which hold a line of at most `LINE_MAX` characters and a path."""
LINE_MIN, LINE_MAX = 24, 120


@dataclass(frozen=True, kw_only=True)
class _File:
    """A readable file: its number in reading order, path below the folder, text, and what it is."""

    number: int
    path: str
    words: str
    scores: dict[str, float]

    @property
    def headed(self) -> str:
        """The text under a line with the path, as programs show several files one after another."""
        return f"==> {self.path} <==\n{self.words}" + ("\n" if self.words.endswith("\n") else "\n\n")


def read_tree(setting: Setting) -> Extracted:
    """A project or series.

    Raises:
        Filtered: none of its files is a text worth learning from.
    """
    files, drops = _files(setting)
    if not files:
        raise Filtered("no_text", f"none of its {len(setting.item.attached) + 1} files is a text worth learning from")
    sorts = [sort_of_text(PurePosixPath(file.path), file.words) for file in files]
    code = sum(sort.task == "code.text" for sort in sorts) * 2 >= len(sorts)
    samples: list[Sample] = []
    for file, sort in zip(files, sorts, strict=True):
        split = split_of(PurePosixPath(file.path))
        made, refused = text_samples(
            [(file.number, file.words)], setting, sort.task, sort.long_task, sort.capability, file.scores, split, longer=False
        )
        samples += made
        drops += refused
    samples += _long(files, setting, "code.long" if code else "document.long", drops)
    samples += _which(files, setting)
    whole = "\n\n".join(file.words for file in files)
    listed = [{"page": file.number, "path": file.path, "characters": len(file.words)} for file in files]
    return Extracted(
        modality="text" if code else "document",
        samples=samples,
        store=PictureStore(),
        signature=Signature(kind="text", minhash=shingle_minhash(whole), size=float(len(whole))),
        annotation=("tree", {"files": listed}),
        drops=drops,
    )


def _files(setting: Setting) -> tuple[list[_File], list[Drop]]:
    """The readable files in reading order, and why the others are not."""
    drops: list[Drop] = []
    words_of: dict[str, str] = {}
    scores_of: dict[str, dict[str, float]] = {}
    for name, path in _paths(setting):
        if path.name in PURE_MARKS:
            continue
        try:
            data = path.read_bytes()
            if not data:
                raise Filtered("empty", "the file has no bytes")
            if (kind := kind_of(path.name, data[:SNIFFED_BYTES])) not in ("text", "html"):
                raise Filtered("wrong_type", f"it holds {kind} content")
            words = decode_text(data)
            scores_of[name] = keep(words, len(setting.tokenizer.encode(words)), 1)
            words_of[name] = words
        except (Quarantined, Filtered) as problem:
            drops.append(Drop(task="code.long", stage="filter", reason=problem.reason, detail=f"{name}: {problem.detail}"))
    order = reading_order(words_of)
    return [
        _File(number=number, path=name, words=words_of[name], scores=scores_of[name])
        for number, name in enumerate(order, start=1)
    ], drops


def _paths(setting: Setting) -> list[tuple[str, Path]]:
    """Every file of the item: its path below the folder, and where it lies."""
    item = setting.item
    inside = [(file.role.removeprefix(ROLE), file) for file in item.attached if file.role.startswith(ROLE)]
    name, file = inside[0]
    folder = file.source.removesuffix(name)
    return [(item.source.removeprefix(folder), setting.path), *((name, Path(file.path)) for name, file in inside)]


def _packed(files: Sequence[_File], edges: Sequence[int], setting: Setting, spare: int = 0) -> list[Passage]:
    """Files together, whole, for each context; what a smaller context holds is left out of a larger one."""
    encode = setting.tokenizer.encode
    blocks = [Block(text=file.headed, page=file.number, tokens=len(encode(file.headed))) for file in files]
    pieces: list[Passage] = []
    for edge in edges:
        if edge > spare:
            found = pack(blocks, edge - spare, setting.tokenizer)
            smaller = max((other for other in _edges(setting) if other < edge), default=0) - spare
            pieces += [piece for piece in found if tokens_of(piece, setting.tokenizer) > smaller]
    return pieces


def _edges(setting: Setting) -> tuple[int, int, int]:
    buckets = setting.recipe.buckets
    return buckets.context_32k, buckets.context_64k, buckets.context_256k


def _long(files: Sequence[_File], setting: Setting, task: str, drops: list[Drop]) -> list[Sample]:
    edges = _edges(setting)
    for file in files:
        tokens = len(setting.tokenizer.encode(file.headed))
        if tokens + END_TOKENS > edges[-1]:
            detail = f"{file.path}: {tokens:,} tokens are more than the largest bucket, {edges[-1]:,}"
            drops.append(Drop(task=task, stage="bucket", reason="over_context", detail=detail))
    source_id = setting.item.source_id
    return [
        Sample(
            task=task,
            capabilities=("code" if task == "code.long" else "reading", "long_context"),
            messages=(Message(role="document", parts=_parts(piece, source_id)),),
            licence=setting.item.licence,
            quality=_worst(piece, files),
        )
        for piece in _packed(files, edges[1:], setting)
    ]


def _which(files: Sequence[_File], setting: Setting) -> list[Sample]:
    """Files together with a question for one of their lines."""
    samples = []
    source_id = setting.item.source_id
    paths = {file.number: file.path for file in files}
    for piece in _packed(files, _edges(setting), setting, spare=QUESTION_TOKENS):
        if len(piece.pages) < 2:
            continue
        chosen = unique_line(piece, source_id)
        if chosen is None:
            continue
        number, line = chosen
        asked = QUESTIONS[int(unit_hash("which file", line) * len(QUESTIONS))].format(line=line)
        origin = Origin(source_id=source_id, page=number)
        samples.append(
            Sample(
                task="document.multi",
                capabilities=("retrieval", "multi_document", "long_context"),
                messages=(
                    Message(role="user", parts=(*_parts(piece, source_id), text(f"{asked} Answer with its name."))),
                    Message(role="assistant", parts=(text(paths[number], origin),)),
                ),
                licence=setting.item.licence,
                quality=_worst(piece, files),
            )
        )
    return samples


def unique_line(piece: Passage, source_id: str) -> tuple[int, str] | None:
    """A line, and the number of the only file of the piece in which it stands, once; chosen by the hash of the line."""
    whole = piece.text
    lines = [
        (int(number or 0), line.strip())
        for number, words in piece.pages
        for line in words.split("\n")[1:]
        if LINE_MIN <= len(line.strip()) <= LINE_MAX and not any(quote in line for quote in "“”")
    ]
    for number, line in sorted(lines, key=lambda entry: unit_hash("line", source_id, *entry)):
        if whole.count(line) == 1 and line.isprintable():
            return number, line
    return None


def _parts(piece: Passage, source_id: str) -> tuple[Part, ...]:
    return tuple(text(words, Origin(source_id=source_id, page=number)) for number, words in piece.pages)


def _worst(piece: Passage, files: Sequence[_File]) -> dict[str, float]:
    """The scores of the least good file of a piece."""
    numbers = {number for number, _ in piece.pages}
    scores = [file.scores for file in files if file.number in numbers]
    return {name: (min if name == "compressed_share" else max)(score[name] for score in scores) for name in sorted(scores[0])}
