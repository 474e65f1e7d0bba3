"""One byte-pair tokenizer, loaded from any Hugging Face tokenizer folder.

Two come with the project: ``qwen3`` (151,669 entries: 151,643 byte-pair ranks and 26 special tokens; the vocabulary of
``keye_vl_2``) and ``laptop`` (8,192 entries, the same special tokens, trained on the example corpus by
``examples/train_tokenizer.py``). Text that comes from data is never read as a special token: a document that contains
``<|im_end|>`` yields ordinary tokens, so no input can forge a turn of the conversation.
"""

from __future__ import annotations

import lzma
from functools import cache, cached_property
from pathlib import Path

import tokenizers

from manifests.errors import UsageError
from manifests.fingerprint import ID_DIGITS, sha256_bytes

BUNDLED = Path(__file__).parent / "tokenizers"
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>")


class Tokenizer:
    """Text to token ids and back.

    Args:
        data: the bytes of a ``tokenizer.json``.
        name: what messages call it.

    Raises:
        UsageError: the vocabulary lacks a special token that the chat format needs.
    """

    def __init__(self, data: bytes, name: str) -> None:
        self.name = name
        self.fingerprint = sha256_bytes(data)[:ID_DIGITS]
        self._inner = tokenizers.Tokenizer.from_buffer(data)
        self._inner.encode_special_tokens = True
        missing = [token for token in SPECIAL_TOKENS if self._inner.token_to_id(token) is None]
        if missing:
            raise UsageError(f"tokenizer {name!r} has no {', '.join(missing)}: the chat format needs them")

    def __len__(self) -> int:
        """The number of entries: one more than the largest id."""
        return int(self._inner.get_vocab_size(with_added_tokens=True))

    def encode(self, text: str) -> list[int]:
        """The ids of ``text``, every special token in it read as ordinary characters."""
        return list(self._inner.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: list[int]) -> str:
        """The text of ``ids``, special tokens included."""
        return str(self._inner.decode(ids, skip_special_tokens=False))

    def special(self, token: str) -> int:
        """The id of a special token such as ``<|im_end|>``."""
        return self._specials[token]

    @cached_property
    def _specials(self) -> dict[str, int]:
        return {token: int(self._inner.token_to_id(token) or 0) for token in SPECIAL_TOKENS}


@cache
def load_tokenizer(name_or_folder: str) -> Tokenizer:
    """Loads a bundled tokenizer by name, or ``tokenizer.json`` of a folder.

    Raises:
        UsageError: there is no such tokenizer.
    """
    bundled = BUNDLED / name_or_folder
    folder = bundled if bundled.is_dir() else Path(name_or_folder)
    plain, packed = folder / "tokenizer.json", folder / "tokenizer.json.xz"
    if plain.is_file():
        return Tokenizer(plain.read_bytes(), name_or_folder)
    if packed.is_file():
        return Tokenizer(lzma.decompress(packed.read_bytes()), name_or_folder)
    names = sorted(path.name for path in BUNDLED.iterdir() if path.is_dir())
    raise UsageError(
        f"no tokenizer {name_or_folder!r}: give one of {', '.join(names)}, or a folder that holds a tokenizer.json"
    )
