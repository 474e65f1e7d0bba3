"""Both vocabularies load from the package, round-trip any text, and keep special tokens to themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.errors import UsageError
from manifests.tokenizer import BUNDLED, load_tokenizer


def test_qwen3_is_the_published_vocabulary() -> None:
    tokenizer = load_tokenizer("qwen3")
    assert len(tokenizer) == 151_669
    assert tokenizer.special("<|endoftext|>") == 151_643
    assert tokenizer.special("<|image_pad|>") == 151_655
    assert tokenizer.encode("Hello world") == [9707, 1879]


@pytest.mark.parametrize("name", ["laptop", "qwen3"])
@given(value=st.text(alphabet=st.characters(exclude_categories=["Cs"], codec="utf-8"), max_size=80))
def test_text_survives(name: str, value: str) -> None:
    import unicodedata

    tokenizer = load_tokenizer(name)
    assert tokenizer.decode(tokenizer.encode(value)) == unicodedata.normalize("NFC", value)


def test_a_folder_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((BUNDLED / "laptop" / "tokenizer.json").read_bytes())
    assert load_tokenizer(str(tmp_path)).fingerprint == load_tokenizer("laptop").fingerprint


def test_an_unknown_tokenizer_lists_the_known() -> None:
    with pytest.raises(UsageError, match=r"no tokenizer 'nope': give one of laptop, qwen3, or a folder"):
        load_tokenizer("nope")
