"""The decoder against transformers' Qwen3-MoE with the same weights: logits and gradients, dense and sparse."""

from __future__ import annotations

import pytest
import torch
from small_model import qwen_of, random_model, small_config, text_row
from transformers import Qwen3MoeForCausalLM

from model import VisionLanguageModel, dsa_cpu


def assert_same_gradients(model: VisionLanguageModel, qwen: Qwen3MoeForCausalLM) -> None:
    theirs = dict(qwen.named_parameters())
    for name, parameter in model.named_parameters():
        if name in theirs:
            wanted = theirs[name].grad
            wanted = wanted.transpose(1, 2) if ".mlp.experts." in name else wanted
            assert (parameter.grad - wanted).abs().max() <= 1e-4, name


def test_dense_logits_and_gradients_equal_qwen3_moe(model):
    qwen, row = qwen_of(model), text_row(90)
    theirs = qwen(input_ids=row[None], labels=row[None])
    assert (model(row).logits - theirs.logits[0]).abs().max() <= 1e-4
    theirs.loss.backward()
    output = model(row, labels=row)
    torch.testing.assert_close(output.loss, theirs.loss)
    output.loss.backward()
    assert_same_gradients(model, qwen)


@pytest.mark.parametrize("reference", [False, True])
def test_sparse_equals_qwen3_moe_with_a_mask_of_the_same_sets(reference):
    # One layer: the mask transformers takes is the same for all layers, the selected sets are not.
    config = small_config()
    model = random_model(config)
    del model.model.layers[1:]
    object.__setattr__(config.decoder, "layers", 1)
    row = text_row(90)
    output = model(row, attention="sparse", labels=row, keep_selected=True, reference=reference)
    (selected,) = output.selected[0]
    mask = torch.full((90, 91), torch.finfo(torch.float32).min)
    mask.scatter_(1, selected.long() % 91, 0.0)
    qwen = qwen_of(model)
    theirs = qwen(input_ids=row[None], attention_mask=mask[None, None, :, :90], labels=row[None])
    torch.testing.assert_close(output.loss, theirs.loss)
    assert (model(row, attention="sparse").logits - theirs.logits[0]).abs().max() <= 1e-4
    theirs.loss.backward()
    output.loss.backward()
    assert_same_gradients(model, qwen)


def test_sparse_with_k_of_at_least_the_length_equals_dense(model):
    row = text_row(90)
    torch.testing.assert_close(model(row, attention="sparse", top_k=90).logits, model(row).logits, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(model(row, attention="sparse").logits, model(row).logits, atol=1e-3)


def test_warmup_reads_everything_like_dense(model):
    row = text_row(70)
    warm = model(row, attention="warmup", labels=row)
    torch.testing.assert_close(warm.loss, model(row, labels=row).loss)


@pytest.mark.parametrize("mode", ["dense", "sparse"])
def test_gradient_checkpointing_changes_nothing(model, mode):
    row, gradients = text_row(60), []
    for on in (False, True):
        model.gradient_checkpointing = on
        model.zero_grad()
        model(row, attention=mode, labels=row).combine(lambda_balance=0.01).backward()
        gradients.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.equal(value, gradients[1][name]) for name, value in gradients[0].items())


def test_under_checkpointing_the_kl_gradient_is_computed_once_and_not_kept(model, monkeypatch):
    asked, kept, row = [], [], text_row(40)
    whole = dsa_cpu._IndexerLoss.__init__

    def counted(self, *tensors, with_gradient):
        asked.append(with_gradient)
        whole(self, *tensors, with_gradient=with_gradient)

    monkeypatch.setattr(dsa_cpu._IndexerLoss, "__init__", counted)
    model.gradient_checkpointing = True
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.shape) or x, lambda x: x):
        loss = model(row, attention="sparse", labels=row).combine()
    assert asked == [False, False]
    indexer = model.config.decoder.indexer
    assert (40, indexer.heads, indexer.head_dim) not in kept
    loss.backward()
    assert asked == [False, False, True, True]
