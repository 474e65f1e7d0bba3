"""Generation: one prefill of a packed row, then one token a step for every unfinished sample.

Decided here: a decoding step is a packed row of one-token samples, so it is the training forward with a cache and
prefill + decode equals one full forward. Finished samples leave the row. Sampling draws from its own generator,
seeded per call and sample, so the same call gives the same text, whatever else is in the batch. The image token is
never generated.

Shapes: B samples, V vocabulary.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from model.cache import LayerCaches
from model.config import AttentionMode
from model.positions import mrope_positions

if TYPE_CHECKING:
    from model.vlm import VisionLanguageModel


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """`temperature` 0 is greedy. `top_p` keeps the smallest set of tokens with that probability. `stop_ids` end a sample
    and are part of its output."""

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    stop_ids: tuple[int, ...] = ()
    seed: int = 0
    attention: AttentionMode = "sparse"

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"GenerationConfig.max_new_tokens must be at least 1, got {self.max_new_tokens}")
        if self.temperature < 0 or not 0 < self.top_p <= 1:
            raise ValueError(
                f"GenerationConfig needs temperature >= 0 and 0 < top_p <= 1, got {self.temperature} and {self.top_p}"
            )
        if self.attention not in ("dense", "sparse"):
            raise ValueError(f"GenerationConfig.attention must be 'dense' or 'sparse', got {self.attention!r}")


@torch.no_grad()
def generate(
    model: VisionLanguageModel,
    input_ids: Tensor | Sequence[Tensor],
    *,
    pixel_values: Tensor | None = None,
    image_grid_thw: Tensor | None = None,
    config: GenerationConfig | None = None,
    **changes: Any,
) -> list[Tensor]:
    """Continues prompts.

    Args:
        input_ids: one prompt [T], a batch [B, L], or a list of prompts of any lengths.
        pixel_values, image_grid_thw: the images of all prompts in order, as in `VisionLanguageModel.forward`.
        config: how to sample and when to stop; `changes` replaces single fields of it.

    Returns:
        the new tokens of each prompt, int64 [at most max_new_tokens].
    """
    config = dataclasses.replace(config or GenerationConfig(), **changes)
    prompts = [input_ids] if isinstance(input_ids, Tensor) and input_ids.ndim == 1 else list(input_ids)
    row = torch.cat(prompts)
    cu_seqlens = torch.tensor([0, *(len(prompt) for prompt in prompts)], device=row.device).cumsum(0)
    positions_3T = mrope_positions(
        row, image_grid_thw, cu_seqlens,
        image_token_id=model.config.image_token_id if model.config.vision is not None else -1,
        merge_size=model.config.projector.merge_size,
    )  # fmt: skip
    following = torch.stack([part.max() + 1 for part in positions_3T.split([len(prompt) for prompt in prompts], dim=1)])
    caches = [LayerCaches(len(prompts)) for _ in range(model.config.decoder.layers)]
    generators = [torch.Generator().manual_seed(config.seed * 1_000_003 + number) for number in range(len(prompts))]
    output = model(
        row, positions_3T, cu_seqlens, pixel_values, image_grid_thw, config.attention,
        caches=caches, logits_at=cu_seqlens[1:] - 1,
    )  # fmt: skip
    active = list(range(len(prompts)))
    written: list[list[int]] = [[] for _ in prompts]
    while True:
        for line, sample in enumerate(active):
            written[sample].append(_choose(output.logits[line], model, config, generators[sample]))
        active = [s for s in active if len(written[s]) < config.max_new_tokens and written[s][-1] not in config.stop_ids]
        if not active:
            return [torch.tensor(tokens, dtype=torch.int64, device=row.device) for tokens in written]
        for layer in caches:
            layer.active = active
        step = torch.tensor([written[sample][-1] for sample in active], device=row.device)
        places = following[active] + torch.tensor([len(written[sample]) - 1 for sample in active], device=row.device)
        starts = torch.arange(len(active) + 1, device=row.device)
        output = model(step, places, starts, attention=config.attention, caches=caches)


def _choose(logits_V: Tensor, model: VisionLanguageModel, config: GenerationConfig, generator: torch.Generator) -> int:
    logits_V = logits_V.float().cpu()
    if model.config.vision is not None:
        logits_V[model.config.image_token_id] = -torch.inf
    if config.temperature == 0:
        return int(logits_V.argmax())
    probabilities_V, order_V = (logits_V / config.temperature).softmax(-1).sort(descending=True, stable=True)
    before_V = probabilities_V.cumsum(-1) - probabilities_V
    kept_V = probabilities_V.where(before_V < config.top_p, 0.0)
    return int(order_V[torch.multinomial(kept_V, 1, generator=generator)])
