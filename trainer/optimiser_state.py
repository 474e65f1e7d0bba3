"""The state of an optimiser, independent of how it is spread: for every trained parameter its fp32 value and two Adam moments.

Decided here: a parameter is a flat run of numbers under its published name, and each rank holds spans of it: with ZeRO 1 to 3
what DeepSpeed gave it, with ZeRO 0 an even share of what all hold alike. A rank writes its spans and later reads whichever it
then holds, so the number of ranks and the ZeRO stage may change between the two, and nothing is gathered. DeepSpeed's own
checkpoints bind the world size; its universal ones need a conversion of the whole checkpoint before each resume
(docs/lab-notes.md has what that costs). Reading only moves numbers, so the same ranks go on to the bit.

    key of a tensor     NAME|FIRST|WHAT      WHAT is weight, exp_avg or exp_avg_sq; fp32 [length]
    of a buffer         NAME|buffer          its own type and shape, written by the leading rank
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from manifests.errors import CorruptCorpusError
from trainer.ranks import Ranks

MOMENTS = ("exp_avg", "exp_avg_sq")
WEIGHT = "weight"
BUFFER = "buffer"


@dataclass(frozen=True)
class Place:
    """Where a rank's parameter stands in the published one, in flat elements: it begins at `start` of `whole`.

    A parameter of which every rank has all has ``Place(0, numel)``; a rank that holds experts 4 to 7 of 8 has
    ``Place(numel, 2 * numel)``.
    """

    start: int
    whole: int


@dataclass(frozen=True)
class Span:
    """The part of a published parameter that this rank's optimiser updates.

    Attributes:
        name: published.
        first, length: in flat elements of the published parameter.
        flat: the fp32 tensor that the optimiser knows, which holds it (and may hold others).
        offset: where in `flat`, flattened.
        shared: every rank has and updates the same.
    """

    name: str
    first: int
    length: int
    flat: Tensor
    offset: int
    shared: bool = False

    def of(self, tensor: Tensor) -> Tensor:
        """The span in a tensor of the shape of `flat`: a view [length]."""
        return tensor.detach().view(-1)[self.offset : self.offset + self.length]


class OptimiserState:
    """Reads and sets the state of a DeepSpeed engine's Adam.

    Args:
        engine: what ``deepspeed.initialize`` returned.
        model: the model in it, whose parameters have the published names.
        places: of parameters that this rank holds a part of; the others are whole.
    """

    def __init__(self, engine: Any, model: nn.Module, ranks: Ranks, places: Mapping[str, Place] | None = None) -> None:
        self.engine, self.model, self.ranks, self.places = engine, model, ranks, dict(places or {})

    @property
    def adam(self) -> torch.optim.Optimizer:
        """The optimiser proper, under whatever DeepSpeed wraps around it."""
        optimiser: torch.optim.Optimizer = self.engine.basic_optimizer
        return optimiser

    def snapshot(self) -> dict[str, Tensor]:
        """This rank's part of the state, by key: views on the live numbers. Before the first update the moments are zero."""
        kept: dict[str, Tensor] = {}
        for whole in self.spans():
            span = self._own_share(whole) if whole.shared else whole
            kept[f"{span.name}|{span.first}|{WEIGHT}"] = span.of(span.flat)
            moments = self.adam.state.get(span.flat) or {}
            for what in MOMENTS:
                value = span.of(moments[what]) if what in moments else torch.zeros(span.length)
                kept[f"{span.name}|{span.first}|{what}"] = value
        if self.ranks.leads:
            kept.update({f"{name}|{BUFFER}": buffer.detach() for name, buffer in self._buffers()})
        return kept

    def restore(self, files: Iterable[Path], updates: int) -> None:
        """Takes this rank's spans from the files of all ranks of the writer.

        Args:
            updates: optimiser steps that the state has seen.

        Raises:
            CorruptCorpusError: the files do not hold all of them.
        """
        stored = StoredState(files)
        for span in self.spans():
            self._begin(span.flat, updates)
            stored.fill(span.name, WEIGHT, span.first, span.of(span.flat))
            for what in MOMENTS:
                stored.fill(span.name, what, span.first, span.of(self.adam.state[span.flat][what]))
        for name, buffer in self._buffers():
            stored.fill_buffer(name, buffer)
        self._publish()

    def spans(self) -> Iterator[Span]:
        """What this rank's optimiser holds of the trained parameters; over all ranks, everything at least once."""
        for name, parameter in self.model.named_parameters():
            if not parameter.requires_grad:
                continue
            if hasattr(parameter, "ds_id"):
                yield from self._zero3_span(name, parameter)
            elif hasattr(parameter, "_hp_mapping"):
                yield from self._partitioned_span(name, parameter)
            else:
                yield from self._shared_span(name, parameter)

    def _place(self, name: str, elements: int) -> Place:
        return self.places.get(name) or Place(0, elements)

    def _shared_span(self, name: str, parameter: nn.Parameter) -> Iterator[Span]:
        """ZeRO 0: the parameter itself."""
        yield Span(name, self._place(name, parameter.numel()).start, parameter.numel(), parameter, 0, name not in self.places)

    def _own_share(self, span: Span) -> Span:
        """What of a span that all ranks have this one writes."""
        first, end = (span.length * rank // self.ranks.world for rank in (self.ranks.rank, self.ranks.rank + 1))
        return replace(span, first=span.first + first, length=end - first, offset=span.offset + first)

    def _partitioned_span(self, name: str, parameter: Any) -> Iterator[Span]:
        """ZeRO 1 and 2, and bf16 without ZeRO: a fragment of the group's flat partition, or none."""
        mapping = parameter._hp_mapping
        if mapping is None:
            return
        partitions = getattr(self.engine.optimizer, "single_partition_of_fp32_groups", None)
        if partitions is None:
            partitions = self.engine.optimizer.fp32_groups_flat_partition
        here, there = mapping.hp_fragment_address, mapping.lp_fragment_address
        first = self._place(name, parameter.numel()).start + there.start
        yield Span(name, first, here.numel, partitions[mapping.param_group_index], here.start)

    def _zero3_span(self, name: str, parameter: Any) -> Iterator[Span]:
        """ZeRO 3: every rank has an equal part, the last ones padded."""
        optimiser = self.engine.optimizer
        group, offset, length = optimiser.grad_position[optimiser.get_param_id(parameter)]
        begin = optimiser._get_param_partition_rank(parameter) * length
        length = min(length, parameter.ds_numel - begin)
        if length > 0:
            first = self._place(name, parameter.ds_numel).start + begin
            yield Span(name, first, length, optimiser.fp32_partitioned_groups_flat[group], offset)

    def _begin(self, flat: Tensor, updates: int) -> None:
        """Gives the optimiser a state for one of its tensors, as its first step would, and sets the step count."""
        state = self.adam.state[flat]
        for what in MOMENTS:
            if what not in state:
                state[what] = torch.zeros_like(flat, memory_format=torch.preserve_format).detach()
        if not torch.is_tensor(state.get("step")):
            state["step"] = torch.zeros((), dtype=torch.float32, device=flat.device)
        state["step"].fill_(updates)

    def _publish(self) -> None:
        """Brings the fp32 values into the weights that the model computes with."""
        optimiser = self.engine.optimizer
        if hasattr(optimiser, "update_lp_params"):
            optimiser.update_lp_params()
        elif hasattr(optimiser, "fp16_partitioned_groups_flat"):
            for group in range(len(optimiser.fp16_partitioned_groups_flat)):
                optimiser._reassign_or_swap_out_partitioned_parameters(group)
            if optimiser.persistent_parameters:
                optimiser.persistent_parameters[0].all_gather(optimiser.persistent_parameters)

    def _buffers(self) -> Iterator[tuple[str, Tensor]]:
        """What the model keeps and no optimiser updates (a router's selection bias); not what it only caches."""
        kept = set(self.model.state_dict(keep_vars=True))
        return ((name, buffer) for name, buffer in self.model.named_buffers() if name in kept)


class StoredState:
    """The spans that files hold, by parameter; a range of one may come from several files.

    Raises:
        CorruptCorpusError: a key is not one of ours.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self._spans: dict[tuple[str, str], list[tuple[int, int, Any, str]]] = {}
        self._of_buffer: dict[str, tuple[Any, str]] = {}
        for path in files:
            opened = safe_open(path, framework="pt")
            for key in opened.keys():  # noqa: SIM118 - not a dictionary
                name, *rest = key.split("|")
                if rest == [BUFFER]:
                    self._of_buffer[name] = (opened, key)
                elif len(rest) == 2 and rest[0].isdigit():
                    (length,) = opened.get_slice(key).get_shape()
                    self._spans.setdefault((name, rest[1]), []).append((int(rest[0]), length, opened, key))
                else:
                    raise CorruptCorpusError(f"{path} holds {key!r}, which is no part of an optimiser's state")

    def fill(self, name: str, what: str, first: int, target: Tensor) -> None:
        """Copies elements ``[first, first + len(target))`` of a parameter into `target`.

        Raises:
            CorruptCorpusError: some of them are in no file.
        """
        have, end = first, first + target.numel()
        for start, length, opened, key in sorted(self._spans.get((name, what), []), key=lambda span: span[:2]):
            stop = min(start + length, end)
            if start <= have < stop:
                target[have - first : stop - first].copy_(opened.get_slice(key)[have - start : stop - start])
                have = stop
        if have < end:
            raise CorruptCorpusError(f"the checkpoint has {what} of {name} only up to element {have:,} of {end:,}")

    def fill_buffer(self, name: str, target: Tensor) -> None:
        """Copies a buffer.

        Raises:
            CorruptCorpusError: it is in no file.
        """
        if name not in self._of_buffer:
            raise CorruptCorpusError(f"the checkpoint has no {name}")
        opened, key = self._of_buffer[name]
        with torch.no_grad():
            target.copy_(opened.get_tensor(key))
