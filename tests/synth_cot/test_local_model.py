"""A local model as a teacher: a tiny one, made here, answers in the form of any other and is loaded once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_teachers import some_request
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from manifests.errors import UsageError
from manifests.synth_spec import TeacherSpec
from synth_cot.asking.models import _local
from synth_cot.asking.request import Piece

WORDS = ["<s>", "</s>", "<unk>", "What", "is", "user", "system", ":", "answer", "one", "two"]
TEMPLATE = "{% for m in messages %}{{ m.role }} : {{ m.content }} {% endfor %}answer"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of a few thousand parameters with a tokenizer of eleven words."""
    place: Path = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(place)
    plain = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain, bos_token="<s>", eos_token="</s>", unk_token="<unk>", chat_template=TEMPLATE
    )
    tokenizer.save_pretrained(place)
    return place


def test_a_local_model_answers_counts_its_tokens_and_repeats_itself(folder: Path) -> None:
    model = _local(TeacherSpec(name="tiny", model=str(folder), temperature=1.0))
    assert _local(TeacherSpec(name="tiny", model=str(folder), temperature=1.0)) is model
    request = some_request(pieces=(Piece(text="What is one"),), temperature=1.0, max_tokens=5)
    reply = model(request)
    assert reply == model(request)
    assert reply.usage["prompt_tokens"] == 8
    assert 1 <= reply.usage["completion_tokens"] <= 5
    others = [model(some_request(temperature=1.0, sample=sample, max_tokens=5)) for sample in range(6)]
    assert len({other.text for other in others}) > 1, "samples differ"
    assert all(other.usage["completion_tokens"] == 5 for other in others if other.cut)
    assert any(other.cut for other in others)


def test_a_local_model_says_that_it_sees_nothing(folder: Path) -> None:
    reply = _local(TeacherSpec(name="tiny", model=str(folder)))(some_request(pieces=(Piece(media_id="ab"),)))
    assert reply.error is not None
    assert "only read text" in reply.error


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"teacher t: there is no model at .*nowhere"):
        _local(TeacherSpec(name="t", model=str(tmp_path / "nowhere")))
