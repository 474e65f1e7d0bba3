"""How one launch uses the machine: what may differ from launch to launch of a run without changing what is trained.

Decided here: a stage manifest says what is learnt, and in which order; a launch says on what. So nothing here enters a plan or
a run's identity, and an unfinished stage may be resumed with other values.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from manifests.require import require

OnBadMedia = Literal["stop", "replace"]
WORKERS_MAX = 8


@dataclass(frozen=True, kw_only=True)
class Launch:
    """The choices of one call of `trainer.train`; the defaults suit any machine.

    Attributes:
        zero_stage: DeepSpeed ZeRO stage, 0 to 3; None takes the recipe's ``train.zero_stage``, and 0 for one rank in fp32.
        sequence_parallel: ranks that share one packed sequence, each a part of its tokens.
        expert_parallel: ranks that share one set of experts, each an equal part of every layer's.
        recall_steps: optimiser steps between measurements of the indexer's recall on a training sequence, where an indexer
            trains; 0 for none. A measurement takes a dense pass over one sample. None: with every checkpoint.
        workers: processes that read, decode and resize ahead of need, for each rank; 0 reads in a thread of the trainer. None:
            as many as fit the machine, see `workers_for`.
        on_bad_media: what to do about a picture that is missing, damaged or no picture: ``stop`` with the sample's id, or
            ``replace``: it is shown grey, its sample teaches nothing, and ``replaced.jsonl`` says so. Counts and order stay.
        tokens: folder where sequences are kept as tokens, so that a stage is rendered once and not by every run; runs may share
            it, and ranks that all see it. None: samples are rendered while training.
        media_cache: folder for what is fetched of a corpus behind an address; None: below the user's cache folder.
        media_cache_bytes: what that folder holds at most, over all runs that share it.
        checkpoint_in_background: write checkpoints while training goes on, from a copy of the optimiser's state.
    """

    zero_stage: int | None = None
    sequence_parallel: int = 1
    expert_parallel: int = 1
    recall_steps: int | None = None
    workers: int | None = None
    on_bad_media: OnBadMedia = "stop"
    tokens: str | None = None
    media_cache: str | None = None
    media_cache_bytes: int = 20 * 2**30
    checkpoint_in_background: bool = False

    def __post_init__(self) -> None:
        require(self.zero_stage in (None, 0, 1, 2, 3), f"launch: zero_stage={self.zero_stage} must be 0 to 3")
        for name in ("sequence_parallel", "expert_parallel"):
            value = getattr(self, name)
            require(value >= 1, f"launch: {name}={value} must be at least 1")
        sound = self.recall_steps is None or self.recall_steps >= 0
        require(sound, f"launch: recall_steps={self.recall_steps} must be 0 or above")
        require(self.workers is None or 0 <= self.workers <= 256, f"launch: workers={self.workers} must be 0 to 256")
        bad = get_args(OnBadMedia)
        require(self.on_bad_media in bad, f"launch: on_bad_media={self.on_bad_media!r} must be {' or '.join(bad)}")
        least = 64 * 2**20
        require(
            self.media_cache_bytes >= least, f"launch: media_cache_bytes={self.media_cache_bytes} must be at least {least:,}"
        )

    @property
    def cache_folder(self) -> Path:
        """Where fetched media are kept."""
        if self.media_cache is not None:
            return Path(self.media_cache)
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "longreel" / "media"

    def workers_for(self, *, on_gpu: bool, neighbours: int) -> int:
        """Reader processes of one rank.

        Beside a GPU every core but one is free, up to `WORKERS_MAX`. Where the CPU trains, a thread that reads ahead keeps up
        (the demo waits for 0.2 % of its time) and processes would only take cores and memory.

        Args:
            neighbours: ranks of this machine.
        """
        if self.workers is not None:
            return self.workers
        return max(1, min(WORKERS_MAX, len(os.sched_getaffinity(0)) // neighbours - 1)) if on_gpu else 0
