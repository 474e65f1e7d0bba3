"""Shots begin where PySceneDetect says, frame by frame."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from scenedetect import AdaptiveDetector, FrameTimecode

from pipelines.shots import ShotDetector


def both(frames: list[np.ndarray]) -> tuple[list[int], list[int]]:
    ours, theirs = ShotDetector(), AdaptiveDetector(min_scene_len=1)
    cuts = []
    for number, pixels in enumerate(frames):
        ours.see(pixels)
        cuts += [cut.frame_num for cut in theirs.process_frame(FrameTimecode(number, 25.0), pixels)]
    cuts += [cut.frame_num for cut in theirs.post_process(FrameTimecode(len(frames), 25.0))]
    return ours.cuts, cuts


@pytest.mark.parametrize("name", ["bikes.mp4", "bunny-trailer.mp4"])
def test_cuts_of_real_films_are_pyscenedetects(examples: Path, name: str) -> None:
    with av.open(str(examples / "videos" / name)) as container:
        frames = [
            frame.to_ndarray(format="bgr24", width=160, height=90)
            for frame, _ in zip(container.decode(video=0), range(900), strict=False)
        ]
    ours, theirs = both(frames)
    assert ours == theirs
    assert len(ours) >= 2


def test_cuts_of_made_films_are_pyscenedetects() -> None:
    """Cuts out of stillness, out of noise, one after another, at the ends, and none where everything changes all the time."""
    rng = np.random.default_rng(3)
    for _ in range(30):
        scenes = rng.integers(0, 256, (6, 24, 32, 3), dtype=np.uint8)
        frames = []
        for scene in scenes:
            for _ in range(int(rng.integers(1, 9))):
                noise = rng.integers(0, int(rng.choice([1, 4, 60])), scene.shape)
                frames.append(np.clip(scene + noise, 0, 255).astype(np.uint8))
        ours, theirs = both(frames)
        assert ours == theirs
