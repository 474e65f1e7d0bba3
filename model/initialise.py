"""Initial weights as a function of (seed, parameter name): the same on every machine, rank and order of construction.

Decided here: every matrix gets its own generator, seeded by a hash of the seed and its name, so adding a part does
not move another's weights. Normal with std 0.02 (Qwen3's `initializer_range`) for the decoder, its output projections
scaled down by 1 / sqrt(2 * layers) (GPT-2's rule: the residual stream keeps its size with depth); LeCun-style 1 /
sqrt(fan in) for the vision tower and the projector, whose widths differ too much for one constant. Norms start at
one, biases at zero.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn


def _generator(seed: int, name: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return torch.Generator(device="cpu").manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def _std(name: str, parameter: Tensor, std: float, layers: int) -> float:
    if name.startswith(("visual.", "mlp_AR.")):
        fan_in = parameter[0].numel()
        return 0.02 if "position_embedding" in name else fan_in**-0.5
    if name.endswith(("o_proj.weight", "experts.down_proj")):
        return std / (2 * layers) ** 0.5
    return std


@torch.no_grad()
def initialise(model: nn.Module, *, seed: int, std: float, only: str = "") -> None:
    """Fills the parameters (and zeroes the buffers) of a `VisionLanguageModel` whose name contains `only`, in place.

    The global random state is neither read nor moved.
    """
    for name, buffer in model.named_buffers():
        if only in name:
            buffer.zero_()
    layers = len(model.get_submodule("model.layers")._modules)
    for name, parameter in model.named_parameters():
        if only not in name:
            continue
        if name.endswith("bias"):
            parameter.zero_()
        elif parameter.ndim == 1:
            parameter.fill_(1.0)
        else:
            values = torch.empty(parameter.shape, dtype=torch.float32)
            values.normal_(0.0, _std(name, parameter, std, layers), generator=_generator(seed, name))
            parameter.copy_(values)
