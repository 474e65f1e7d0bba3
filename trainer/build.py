"""The model that a recipe names, as new or from a folder a stage left."""

from __future__ import annotations

from pathlib import Path

import torch

from manifests.errors import CorruptCorpusError
from manifests.recipe import Recipe, TrainSpec
from model.checkpoint import CheckpointError
from model.vlm import VisionLanguageModel
from trainer.checkpoints import require_written
from trainer.model_shape import model_config


def build_model(recipe: Recipe, *, empty: bool = False) -> VisionLanguageModel:
    """The untrained model of a recipe, from its seed; ``empty`` gives only its shape."""
    with torch.device("meta" if empty else "cpu"):
        model = VisionLanguageModel(model_config(recipe), seed=recipe.model.seed)
    return model if empty else model.to(precision_of(recipe.train))


def load_model(folder: Path, train: TrainSpec) -> VisionLanguageModel:
    """The model a stage or phase left.

    Raises:
        CorruptCorpusError: the folder does not hold it, or a file has other bytes than were written.
    """
    try:
        require_written(folder)
        return VisionLanguageModel.from_pretrained(folder, dtype=precision_of(train))
    except (CheckpointError, OSError) as error:
        raise CorruptCorpusError(f"{folder} holds no whole model ({error}): delete it and train that stage again") from error


def precision_of(train: TrainSpec) -> torch.dtype:
    """The type that weights have and products are computed in."""
    return torch.bfloat16 if train.precision == "bf16" else torch.float32
