"""How a model reads a haystack: how likely it finds each answer, and what it writes itself.

Decided here: a prompt is read once for each way of attention; the answers continue it in one packed row, each a sample that
sees the prompt and itself, so eight answers cost hardly more than none. An answer's figure is its log-likelihood up to the end
of the turn. What the model writes is greedy.

Shapes: P tokens of the prompt, A answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from manifests.rendering import IGNORED
from manifests.stage_spec import Attention
from manifests.tokenizer import Tokenizer
from model.cache import SampleCache
from model.patches import images_to_patches
from model.positions import mrope_positions
from model.vlm import VisionLanguageModel
from trainer.needle import Haystack


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a reader made of a haystack: log-likelihoods of the answers in nats, in their order, and what it wrote."""

    likelihoods: tuple[float, ...]
    written: str


class Reader(Protocol):
    """Anything that reads haystacks: a model, or a rigged one in a test."""

    def read(self, haystack: Haystack, attention: Attention) -> Reading: ...


class PromptCache:
    """One layer's memory of a prompt. Frozen, every sample of a row continues the same prompt and nothing is kept."""

    def __init__(self) -> None:
        self.prompt = SampleCache()
        self.frozen = False

    def append(self, sample: int, k: Tensor, v: Tensor, index_k: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `model.attention.LayerCache`."""
        if not self.frozen:
            known_k, known_v, known_index_k = self.prompt.append(k, v, index_k)
            return known_k, known_v, known_index_k
        past = [buffer[: self.prompt.length] for buffer in self.prompt.buffers]
        all_k, all_v, all_index_k = (torch.cat((old, new)) for old, new in zip(past, (k, v, index_k), strict=True))
        return all_k, all_v, all_index_k


class ModelReader:
    """Reads with a model.

    Args:
        written_tokens: how many tokens it may write at most.
    """

    def __init__(self, model: VisionLanguageModel, tokenizer: Tokenizer, *, written_tokens: int = 16) -> None:
        self.model, self.tokenizer, self.written_tokens = model, tokenizer, written_tokens
        self.device = next(model.parameters()).device

    @torch.no_grad()
    def read(self, haystack: Haystack, attention: Attention) -> Reading:
        """See `Reader`."""
        config = self.model.config
        ids_P = torch.from_numpy(haystack.prompt.ids.astype("int64")).to(self.device)
        pixels = grid = None
        if haystack.pictures:
            assert config.vision is not None
            patch, merge = config.vision.patch_size, config.projector.merge_size
            pixels, grid = images_to_patches(list(haystack.pictures), patch_size=patch, merge_size=merge)
            pixels, grid = pixels.to(self.device, next(self.model.parameters()).dtype), grid.to(self.device)
        positions_3P = mrope_positions(
            ids_P,
            grid,
            image_token_id=config.image_token_id if config.vision is not None else -1,
            merge_size=config.projector.merge_size,
        )
        caches = [PromptCache() for _ in range(config.decoder.layers)]
        # The last token of the prompt is read again with each answer, because it predicts the answer's first token.
        self.model(
            ids_P[:-1], positions_3P[:, :-1], None, pixels, grid, attention, need_logits=False, caches=caches
        )  # fmt: skip
        return Reading(
            likelihoods=self._likelihoods(haystack, ids_P, positions_3P, attention, caches),
            written=self._write(ids_P, positions_3P, attention, caches),
        )

    def _likelihoods(
        self, haystack: Haystack, ids_P: Tensor, positions_3P: Tensor, attention: Attention, caches: list[PromptCache]
    ) -> tuple[float, ...]:
        row: list[int] = []
        labels: list[int] = []
        places: list[int] = []
        ends = [0]
        last, following = int(ids_P[-1]), int(positions_3P.max()) + 1
        assert bool((positions_3P[:, -1] == following - 1).all()), "a prompt ends with text"
        for tokens in haystack.tokens:
            row += [last, *tokens]
            labels += [IGNORED, *tokens]
            places += range(following - 1, following + len(tokens))
            ends.append(len(row))
        for cache in caches:
            cache.frozen = True
        output = self.model(
            torch.tensor(row, device=self.device),
            torch.tensor(places, device=self.device),
            torch.tensor(ends, device=self.device),
            attention=attention,
            labels=torch.tensor(labels, device=self.device),
            need_logits=False,
            caches=caches,
        )
        assert output.sample_losses is not None
        return tuple(-loss for loss in output.sample_losses.tolist())

    def _write(self, ids_P: Tensor, positions_3P: Tensor, attention: Attention, caches: list[PromptCache]) -> str:
        """A greedy answer, without the end of the turn."""
        for cache in caches:
            cache.frozen = False
        stop = {self.tokenizer.special(token) for token in ("<|im_end|>", "<|endoftext|>")}
        token, place = int(ids_P[-1]), int(positions_3P.max())
        written: list[int] = []
        one = torch.tensor([0, 1], device=self.device)
        while len(written) < self.written_tokens:
            output = self.model(
                torch.tensor([token], device=self.device),
                torch.tensor([place], device=self.device),
                one,
                attention=attention,
                caches=caches,
            )
            assert output.logits is not None
            logits_V = output.logits[-1].float()
            if self.model.config.vision is not None:
                logits_V[self.model.config.image_token_id] = -torch.inf
            token, place = int(logits_V.argmax()), place + 1
            if token in stop:
                break
            written.append(token)
        return self.tokenizer.decode(written)
