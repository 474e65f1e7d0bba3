"""The model: vision tower, projector, DSA-MoE decoder, generation, checkpoint names. Torch only.

Importing this package loads torch when one of its names is first used, not before.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model import presets
    from model.config import ModelConfig
    from model.output import ModelOutput
    from model.patches import image_to_patches, images_to_patches
    from model.positions import mrope_positions
    from model.vlm import PARTS, VisionLanguageModel

_HOME = {
    "PARTS": "model.vlm",
    "VisionLanguageModel": "model.vlm",
    "ModelConfig": "model.config",
    "ModelOutput": "model.output",
    "image_to_patches": "model.patches",
    "images_to_patches": "model.patches",
    "mrope_positions": "model.positions",
}

__all__ = [
    "PARTS",
    "ModelConfig",
    "ModelOutput",
    "VisionLanguageModel",
    "image_to_patches",
    "images_to_patches",
    "mrope_positions",
    "presets",
]


def __getattr__(name: str) -> Any:
    if name == "presets":
        return importlib.import_module("model.presets")
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'model' has no attribute {name!r}")
