"""VisionLanguageModel: images and text in, logits, losses and statistics out.

Decided here:
- A forward pass is one packed row. A batch [B, L] is a row of B equal samples, so there is one code path and packed
  equals separate.
- Loss conventions. `loss`: mean cross-entropy over the tokens that have a label. `indexer_loss`: KL summed over KV
  groups (the published sum_t sum_g), averaged over tokens and layers, so that its weight does not depend on the
  length of a batch. `load_balancing_loss`: mean over layers, 1 when balanced. `ModelOutput.combine` adds them; the
  weights are the trainer's.
- Several ranks may share a row (`shard`). Each is given the whole row's ids, grids and labels and the pixels of its own
  pictures, and returns its part of every loss and statistic: over the ranks they add up to the row's.
- Parts are named once, in `part_of`: freezing, learning rates and counting all use it.

Shapes: T tokens, M hidden size, V vocabulary, P patches, N images or layers.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from model.attention import AttentionContext, LayerAttention, LayerCache
from model.config import AttentionMode, ModelConfig
from model.decoder import Decoder
from model.initialise import initialise
from model.losses import LanguageHead, by_sample, shifted_targets
from model.moe import LayerRouting
from model.output import ModelOutput, RecallStatistics, RouterStatistics
from model.positions import check_visual_tokens, mrope_positions
from model.projector import Projector
from model.rope import mrope_tables
from model.sequence_shard import SequenceShard
from model.vision import VisionTower

Part = Literal["vision", "projector", "embeddings", "decoder", "indexer", "lm_head"]
PARTS: tuple[Part, ...] = ("vision", "projector", "embeddings", "decoder", "indexer", "lm_head")


def part_of(parameter_name: str) -> Part:
    """The part a parameter belongs to, from its published name."""
    if parameter_name.startswith("visual."):
        return "vision"
    if parameter_name.startswith("mlp_AR."):
        return "projector"
    if ".sa_indexer." in parameter_name:
        return "indexer"
    if parameter_name.startswith("model.embed_tokens."):
        return "embeddings"
    return "lm_head" if parameter_name.startswith("lm_head.") else "decoder"


@dataclass(frozen=True)
class _Row:
    """A packed row: ids [T], samples (start, end), and the shape the caller gave."""

    input_ids: Tensor
    samples: tuple[tuple[int, int], ...]
    shape: torch.Size


class VisionLanguageModel(nn.Module):
    """A DSA-MoE vision-language model of the given configuration, initialised from `seed` unless built on the meta
    device."""

    def __init__(self, config: ModelConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        device = torch.get_default_device()
        # Built without storage, so that torch's own initialisation is neither paid for nor moves the global random state.
        with torch.device("meta"):
            if config.vision is not None:
                self.visual = VisionTower(config.vision)
                self.mlp_AR = Projector(
                    config.projector, vision_size=config.vision.hidden_size, decoder_size=config.decoder.hidden_size
                )
            self.model = Decoder(config.decoder)
            self.lm_head = LanguageHead(config.decoder.hidden_size, config.decoder.vocab_size, bias=False)
        self.vision_chunk_patches: int | None = None
        # Ranks that must run the same layers in the same order look at a blank picture, times zero, where a row has none.
        self.always_looks = False
        if device.type != "meta":
            self.to_empty(device=device)
            self.init_weights(seed)

    @property
    def gradient_checkpointing(self) -> bool:
        """Recompute each decoder and vision layer in backward instead of keeping its activations."""
        return self.model.gradient_checkpointing

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, on: bool) -> None:
        self.model.gradient_checkpointing = on
        if self.config.vision is not None:
            self.visual.vision_model.gradient_checkpointing = on

    def init_weights(self, seed: int) -> None:
        """Fills every parameter from `seed` and its own name; the global random state is neither read nor moved."""
        initialise(self, seed=seed, std=self.config.decoder.initializer_range)

    def parts(self) -> dict[Part, dict[str, nn.Parameter]]:
        """Parameters by part and published name; the parts are disjoint and complete."""
        parts: dict[Part, dict[str, nn.Parameter]] = {part: {} for part in PARTS}
        for name, parameter in self.named_parameters():
            parts[part_of(name)][name] = parameter
        return parts

    def train_only(self, *parts: Part) -> None:
        """Sets requires_grad on exactly these parts.

        Raises:
            ValueError: for an unknown part.
        """
        if unknown := set(parts) - set(PARTS):
            raise ValueError(f"unknown parts {sorted(unknown)}; known are {list(PARTS)}")
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(part_of(name) in parts)

    def encode_images(self, pixel_values: Tensor, image_grid_thw: Tensor) -> Tensor:
        """Visual tokens of packed images: [P, 3 * patch**2], [N, 3] -> [visual tokens, M]."""
        if self.config.vision is None:
            raise ValueError("this model has no vision tower (config.vision is None), but got pixel_values")
        features = self.visual(pixel_values, image_grid_thw, chunk_patches=self.vision_chunk_patches)
        return self.mlp_AR(features, image_grid_thw)

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor | None = None,
        cu_seqlens: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_grid_thw: Tensor | None = None,
        attention: AttentionMode = "dense",
        labels: Tensor | None = None,
        *,
        need_logits: bool | None = None,
        logits_at: Tensor | None = None,
        measure_recall: bool = False,
        keep_selected: bool = False,
        top_k: int | None = None,
        reference: bool = False,
        caches: Sequence[LayerCache] | None = None,
        shard: SequenceShard | None = None,
    ) -> ModelOutput:
        """One pass over a packed row.

        Args:
            input_ids: int64 [T], or [B, L] for B samples of equal length. Visual tokens are `config.image_token_id`.
            position_ids: [3, T] or [3, B, L] (time, height, width), or [T] / [B, L] for all axes; None:
                `mrope_positions`.
            cu_seqlens: int [S + 1], 0 = first < ... < last = T; None is one sample. Not with [B, L].
            pixel_values: float [P, 3 * patch**2], the images and frames in order of appearance.
            image_grid_thw: int [N, 3], grids in patches, h and w even.
            attention: "dense", "warmup" or "sparse" (see `model.attention`).
            labels: int64, shape of input_ids; labels[i] is token i as a target (shifted inside, -100 ignored).
            need_logits: None returns logits when there are no labels; False never, True always.
            logits_at: rows of the packed row whose logits are wanted, [R] -> logits [R, V] (None: all of them).
            measure_recall: also measure how much dense attention mass the indexers' sets cover (quadratic).
            keep_selected: return the selected sets.
            top_k: overrides the configured number of keys a query reads.
            reference: compute attention by the plain formulas (tests).
            caches: one a layer, for generation; then a sample is the continuation of a cached one.
            shard: this rank's part of a row that several ranks share; then pixel_values are those of `shard.pictures`,
                None without any, and there are no logits and no caches.

        Raises:
            ValueError: shapes, lengths or visual token counts that do not fit, with both numbers.
        """
        if shard is not None and (need_logits or caches is not None or (need_logits is None and labels is None)):
            raise ValueError("a row that ranks share gives losses and statistics: ask for no logits, and give no caches")
        row = self._row(input_ids, cu_seqlens, attention)
        decoder = self.config.decoder
        if position_ids is None:
            cu = torch.tensor([0, *(end for _, end in row.samples)], device=input_ids.device)
            position_ids = mrope_positions(
                row.input_ids, image_grid_thw, cu,
                image_token_id=self.config.image_token_id if self.config.vision is not None else -1,
                merge_size=self.config.projector.merge_size,
            )  # fmt: skip
            position_ids = position_ids.view(3, *row.shape)
        positions_3T = _three_axes(position_ids, row.shape)
        if shard is not None:
            positions_3T = positions_3T.index_select(1, shard.rows_L)
        rope = decoder.rope
        learns = torch.is_grad_enabled()
        context = AttentionContext(
            mode=attention,
            samples=row.samples,
            cu_seqlens=torch.tensor([0, *(end for _, end in row.samples)], dtype=torch.int32, device=input_ids.device),
            tables=mrope_tables(positions_3T, head_dim=decoder.head_dim, theta=rope.theta, sections=rope.sections),
            index_tables=mrope_tables(
                positions_3T, head_dim=decoder.indexer.head_dim, theta=rope.theta, sections=decoder.indexer_sections
            ),
            top_k=decoder.indexer.top_k if top_k is None else top_k,
            with_kl=caches is None,
            trains_indexer=learns and attention == "warmup",
            measure_recall=measure_recall,
            keep_selected=keep_selected,
            reference=reference,
            shard=shard,
        )
        with torch.set_grad_enabled(learns and attention != "warmup"):
            embedded_TM = self._embed(row.input_ids, pixel_values, image_grid_thw, shard)
            hidden_TM, attentions, routings = self.model(embedded_TM, context, caches)
            output = self._output(attentions, routings, context)
            if labels is not None:
                if labels.shape != row.shape:
                    raise ValueError(f"labels have shape {tuple(labels.shape)}, input_ids {tuple(row.shape)}")
                targets_T = shifted_targets(labels.reshape(-1), row.samples)
                output.token_count = int((targets_T >= 0).sum())
                rows_T = None if shard is None else shard.rows_L
                here_T = targets_T if rows_T is None else targets_T[rows_T]
                output.token_losses_sum, each_N = self.lm_head(hidden_TM, here_T)
                output.sample_losses, output.sample_targets = by_sample(each_N, here_T, row.samples, rows_T)
                output.loss = output.token_losses_sum / max(output.token_count, 1)
            if need_logits or (need_logits is None and labels is None and attention != "warmup"):
                logits = self.lm_head(hidden_TM if logits_at is None else hidden_TM[logits_at])
                output.logits = logits if logits_at is not None else logits.view(*row.shape, -1)
        return output

    def _row(self, input_ids: Tensor, cu_seqlens: Tensor | None, attention: str) -> _Row:
        if attention not in ("dense", "warmup", "sparse"):
            raise ValueError(f"attention must be 'dense', 'warmup' or 'sparse', got {attention!r}")
        if input_ids.ndim not in (1, 2) or input_ids.numel() == 0:
            raise ValueError(f"input_ids must be a non-empty [T] or [B, L], got shape {tuple(input_ids.shape)}")
        length = input_ids.numel()
        if input_ids.ndim == 2:
            if cu_seqlens is not None:
                raise ValueError("cu_seqlens is for one packed row [T]; a batch [B, L] is already cut into samples")
            bounds = list(range(0, length + 1, input_ids.shape[1]))
        else:
            bounds = [0, length] if cu_seqlens is None else cu_seqlens.tolist()
        if bounds[0] != 0 or bounds[-1] != length or any(a >= b for a, b in itertools.pairwise(bounds)):
            raise ValueError(f"cu_seqlens must rise from 0 to the {length} tokens of input_ids, got {bounds}")
        return _Row(input_ids.reshape(-1), tuple(itertools.pairwise(bounds)), input_ids.shape)

    def _embed(
        self, input_ids_T: Tensor, pixel_values: Tensor | None, image_grid_thw: Tensor | None, shard: SequenceShard | None
    ) -> Tensor:
        here_T = input_ids_T if shard is None else shard.take(input_ids_T)
        embedded_TM = self.model.embed_tokens(here_T)
        if self.config.vision is None and pixel_values is None:
            return embedded_TM
        if (pixel_values is None) != (image_grid_thw is None) and (shard is None or image_grid_thw is None):
            raise ValueError("pixel_values and image_grid_thw must be given together")
        check_visual_tokens(
            input_ids_T,
            image_grid_thw,
            image_token_id=self.config.image_token_id,
            merge_size=self.config.projector.merge_size,
        )
        if image_grid_thw is None or not len(image_grid_thw):
            return embedded_TM + self._blank(embedded_TM).sum() * 0 if self.always_looks else embedded_TM
        where_V = (here_T == self.config.image_token_id).nonzero().squeeze(1)
        if shard is None:
            assert pixel_values is not None
            visual_VM = self.encode_images(pixel_values, image_grid_thw)
        else:
            if pixel_values is not None and len(pixel_values):
                visual_VM = self.encode_images(pixel_values, image_grid_thw[shard.pictures()])
            else:
                visual_VM = self._blank(embedded_TM)[:0]
            visual_VM = shard.gather_pictures(visual_VM, image_grid_thw, self.config.projector.merge_size)
            number_T = (input_ids_T == self.config.image_token_id).cumsum(0) - 1
            visual_VM = visual_VM.index_select(0, shard.take(number_T)[where_V])
        return embedded_TM.index_copy(0, where_V, visual_VM.to(embedded_TM.dtype))

    def _blank(self, like: Tensor) -> Tensor:
        """The visual token of one blank picture, [1, M]."""
        assert self.config.vision is not None
        merge = self.config.projector.merge_size
        pixels = torch.zeros(merge * merge, self.config.vision.patch_values, dtype=like.dtype, device=like.device)
        return self.encode_images(pixels, torch.tensor([[1, merge, merge]], device=like.device))

    def _output(self, attentions: list[LayerAttention], routings: list[LayerRouting], context: AttentionContext) -> ModelOutput:
        tokens = context.samples[-1][1]
        output = ModelOutput(
            router=RouterStatistics(
                load=torch.stack([routing.load for routing in routings]),
                entropy=torch.stack([routing.entropy for routing in routings]),
            ),
            load_balancing_loss=torch.stack([routing.balance_loss for routing in routings]).mean(),
        )
        kls = [layer.kl for layer in attentions if layer.kl is not None]
        if kls:
            with torch.set_grad_enabled(torch.is_grad_enabled() or context.trains_indexer):
                per_layer = torch.stack(kls) / tokens
                output.indexer_loss = per_layer.mean()
            output.indexer_loss_per_layer = per_layer.detach()
        covered = [layer.covered for layer in attentions if layer.covered is not None]
        if covered:
            seen = torch.cat([torch.arange(1, end - start + 1) for start, end in context.samples])
            covered_2NT = torch.stack(covered, dim=1)
            if context.shard is not None:
                covered_2NT = context.shard.gather(covered_2NT.permute(2, 0, 1)).permute(1, 2, 0)
            reached_NT, attainable_NT = covered_2NT
            output.recall = RecallStatistics.of(reached_NT, attainable_NT, seen.to(covered[0].device) > context.top_k)
        if context.keep_selected:
            output.selected = [layer.selected for layer in attentions if layer.selected is not None]
        return output

    @torch.no_grad()
    def indexer_recall(
        self,
        input_ids: Tensor,
        *,
        cu_seqlens: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_grid_thw: Tensor | None = None,
        top_k: int | None = None,
        shard: SequenceShard | None = None,
    ) -> RecallStatistics:
        """Share of dense attention mass that the indexers' top-k sets cover, layer by layer, on a dense pass.

        Queries that see at most k tokens are covered by definition; `mean` leaves them out, `mean_all` does not. How much
        any k tokens could cover depends on how sharp the attention is: `attainable`.
        """
        output = self(
            input_ids, None, cu_seqlens, pixel_values, image_grid_thw, "dense",
            need_logits=False, measure_recall=True, top_k=top_k, shard=shard,
        )  # fmt: skip
        assert output.recall is not None
        return output.recall

    @torch.no_grad()
    def update_router_bias(self, load_NE: Tensor, *, rate: float = 1e-3) -> None:
        """Auxiliary-loss-free balancing (arXiv 2408.15664): each expert's bias moves by `rate` towards the mean load.

        Args:
            load_NE: [layers, experts] choices since the last update, as `output.router.load`, summed over ranks.

        Raises:
            ValueError: the configuration does not balance by bias.
        """
        if self.config.decoder.moe.balance != "bias":
            raise ValueError(f"update_router_bias needs MoEConfig.balance 'bias', got {self.config.decoder.moe.balance!r}")
        for number, load_E in enumerate(load_NE.float()):
            bias_E = self.get_buffer(f"model.layers.{number}.mlp.gate.selection_bias")
            bias_E.add_(rate * torch.sign(load_E.mean() - load_E))

    def generate(
        self,
        input_ids: Tensor | Sequence[Tensor],
        *,
        pixel_values: Tensor | None = None,
        image_grid_thw: Tensor | None = None,
        **settings: Any,
    ) -> list[Tensor]:
        """Continues prompts: the new tokens of each. `settings` are `GenerationConfig`'s fields; see `model.generation`."""
        from model.generation import generate

        return generate(self, input_ids, pixel_values=pixel_values, image_grid_thw=image_grid_thw, **settings)

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        layout: Literal["keye_vl_2", "qwen3_moe"] = "keye_vl_2",
        max_shard_bytes: int = 4 * 2**30,
        tensors: dict[str, Tensor] | None = None,
    ) -> None:
        """Writes config.json and safetensors: the whole model with the published names, or with layout "qwen3_moe" its
        language model as a Qwen3-MoE folder; `tensors` replace its own values; see `model.checkpoint.save`."""
        from model.checkpoint import save

        save(self, Path(folder), layout=layout, max_shard_bytes=max_shard_bytes, tensors=tensors)

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *, dtype: torch.dtype | None = None, device: str | torch.device = "cpu"
    ) -> VisionLanguageModel:
        """Reads a folder with the published names, or a Qwen3-MoE folder; see `model.checkpoint.load`."""
        from model.checkpoint import load

        return load(Path(folder), dtype=dtype, device=torch.device(device))


def _three_axes(position_ids: Tensor, shape: torch.Size) -> Tensor:
    """[3, *shape] or [*shape] -> [3, T]."""
    if position_ids.shape == shape:
        return position_ids.reshape(1, -1).expand(3, -1)
    if position_ids.shape != (3, *shape):
        raise ValueError(
            f"position_ids must be {(3, *shape)} or {tuple(shape)} for input_ids {tuple(shape)}, "
            f"got {tuple(position_ids.shape)}"
        )
    return position_ids.reshape(3, -1)
