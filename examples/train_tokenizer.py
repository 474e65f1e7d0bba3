"""Trains the ``laptop`` tokenizer: 8,192 entries of byte-level BPE on the text of the example corpus.

Normalisation, splitting and special tokens are those of the bundled Qwen3 vocabulary, so the two differ in nothing but their
merges. Training by the `tokenizers` library is deterministic: equal files give an equal ``tokenizer.json``.

    .venv/bin/python examples/train_tokenizer.py            (writes manifests/tokenizers/laptop/tokenizer.json)
"""

from __future__ import annotations

import json
import lzma
import re
from collections.abc import Iterator
from pathlib import Path

import pypdfium2
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

ROOT = Path(__file__).parent.parent
CORPUS = ROOT / "examples" / "corpus"
TOKENIZERS = ROOT / "manifests" / "tokenizers"
ENTRIES = 8_192
TEXT = {".c", ".h", ".js", ".md", ".py", ".txt"}


def texts() -> Iterator[str]:
    """Every readable text of the corpus, in order of path: documents, code, captions, instructions, timestamps."""
    for path in sorted(CORPUS.rglob("*")):
        if "broken" in path.parts or path.stem == "SOURCES":
            continue
        if path.suffix in TEXT:
            yield path.read_text(encoding="utf-8")
        elif path.suffix == ".pdf":
            document = pypdfium2.PdfDocument(path)
            yield from (page.get_textpage().get_text_range() for page in document)
        elif path.suffix == ".json":
            # What the model reads of a sidecar are its words, not its braces.
            yield " ".join(re.findall(r'"([^"\\]*)"', path.read_text(encoding="utf-8")))
    yield " ".join(f"<{tenth / 10:.1f} seconds>" for tenth in range(1200))
    yield " ".join(f"[{a}, {b}, {b}, {a}]" for a, b in zip(range(1000), range(1000, 0, -1), strict=True))


def main() -> None:
    """Trains and writes the tokenizer."""
    published = json.loads(lzma.decompress((TOKENIZERS / "qwen3" / "tokenizer.json.xz").read_bytes()))
    specials = [token["content"] for token in published["added_tokens"] if token["special"]]
    like = tokenizers.Tokenizer.from_str(json.dumps(published))
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.normalizer, tokenizer.pre_tokenizer = like.normalizer, like.pre_tokenizer
    tokenizer.decoder, tokenizer.post_processor = like.decoder, like.post_processor
    trainer = trainers.BpeTrainer(
        vocab_size=ENTRIES,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(), trainer)
    tokenizer.save(str(TOKENIZERS / "laptop" / "tokenizer.json"), pretty=False)
    print(f"{tokenizer.get_vocab_size()} entries")


if __name__ == "__main__":
    main()
