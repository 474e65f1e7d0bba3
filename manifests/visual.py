"""How many tokens a picture or a video costs, and at which size and which times it is looked at.

One visual token is a square of ``patch * merge`` = 28 pixels. An image keeps its aspect ratio and is resized to multiples of 28
pixels within a token budget. A video is sampled on a grid of ``fps``; its share of the stage's visual budget depends on its
duration (the published adaptive rule), and the frames share that budget evenly. Whole-video samples take every n-th point of
the same grid, so a frame that several samples show is decoded and stored once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class VisualSpec:
    """The rules of visual cost; the defaults are the published ones.

    Attributes:
        patch: side of a patch in pixels.
        merge: patches merged along each side into one visual token.
        image_tokens_min, image_tokens_max: bounds for a single image.
        frame_tokens_min, frame_tokens_max: bounds for one frame of a video.
        fps: frames sampled a second.
        adaptive: ``(seconds, factor)`` pairs in rising order: a video of at most that duration gets that share of the stage's
            visual budget; longer ones get all of it (Keye-VL-2.0 report).
    """

    patch: int = 14
    merge: int = 2
    image_tokens_min: int = 4
    image_tokens_max: int = 20_480
    frame_tokens_min: int = 64
    frame_tokens_max: int = 256
    fps: float = 2.0
    adaptive: tuple[tuple[float, float], ...] = ((256.0, 0.125), (512.0, 0.25), (1024.0, 0.5))

    def __post_init__(self) -> None:
        if self.patch < 1 or self.merge < 1:
            raise ValueError(f"patch={self.patch} and merge={self.merge} must be at least 1")
        if not 1 <= self.image_tokens_min <= self.image_tokens_max:
            raise ValueError(
                f"image_tokens_min={self.image_tokens_min} and image_tokens_max={self.image_tokens_max} do not bound a range"
            )
        if not 1 <= self.frame_tokens_min <= self.frame_tokens_max:
            raise ValueError(
                f"frame_tokens_min={self.frame_tokens_min} and frame_tokens_max={self.frame_tokens_max} do not bound a range"
            )
        if not self.fps > 0:
            raise ValueError(f"fps={self.fps} must be above 0")
        if list(self.adaptive) != sorted(self.adaptive) or any(not 0 < factor <= 1 for _, factor in self.adaptive):
            raise ValueError(f"adaptive={self.adaptive} must rise in seconds, with factors in (0, 1]")

    @property
    def unit(self) -> int:
        """Pixels along one side of a visual token."""
        return self.patch * self.merge

    def tokens(self, height: int, width: int) -> int:
        """Visual tokens of a picture whose sides are already multiples of `unit` pixels.

        Raises:
            ValueError: a side is no multiple.
        """
        if height % self.unit or width % self.unit or not height or not width:
            raise ValueError(f"{width}x{height} px is no multiple of {self.unit} px")
        return (height // self.unit) * (width // self.unit)

    def image_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width in pixels at which an image of this size is read."""
        return self.resize(height, width, self.image_tokens_min, self.image_tokens_max)

    def resize(self, height: int, width: int, tokens_min: int, tokens_max: int) -> tuple[int, int]:
        """The size nearest to ``height`` x ``width`` whose tokens lie in the budget; the larger budget end binds last.

        Both sides are rounded to `unit`; above the budget both are scaled by ``sqrt(budget / area)`` and rounded down, below
        it likewise and rounded up (the resize rule of native-resolution vision-language models). A shape so long that its short
        side would vanish keeps one unit there, and its long side is cut to the budget.

        Raises:
            ValueError: a side is not positive, or the budget is empty.
        """
        if height < 1 or width < 1:
            raise ValueError(f"a picture of {width}x{height} px has no area")
        if not 1 <= tokens_min <= tokens_max:
            raise ValueError(f"no token budget between {tokens_min} and {tokens_max}")
        unit = self.unit
        rows, columns = max(1, round(height / unit)), max(1, round(width / unit))
        if rows * columns > tokens_max:
            scale = math.sqrt(tokens_max * unit * unit / (height * width))
            rows = max(1, math.floor(height * scale / unit))
            columns = max(1, math.floor(width * scale / unit))
        elif rows * columns < tokens_min:
            scale = math.sqrt(tokens_min * unit * unit / (height * width))
            rows = max(1, math.ceil(height * scale / unit))
            columns = max(1, math.ceil(width * scale / unit))
        if rows * columns > tokens_max:
            rows, columns = (min(rows, tokens_max), 1) if rows > columns else (1, min(columns, tokens_max))
        return rows * unit, columns * unit

    def adaptive_factor(self, duration_s: float) -> float:
        """The share of a stage's visual budget that a video of this duration gets."""
        for seconds, factor in self.adaptive:
            if duration_s <= seconds:
                return factor
        return 1.0

    def frames(self, start_s: float, end_s: float, height: int, width: int, budget: int) -> FramePlan:
        """Which frames of ``[start_s, end_s)`` are read, and at which size.

        Args:
            start_s, end_s: seconds of the source video.
            height, width: pixels of the source video.
            budget: visual tokens that the longest video of this stage may cost.

        Raises:
            ValueError: the interval is empty or the budget does not hold one frame.
        """
        duration = end_s - start_s
        if not duration > 0:
            raise ValueError(f"the interval {start_s}-{end_s} s is empty")
        share = int(budget * self.adaptive_factor(duration))
        if share < self.frame_tokens_min:
            raise ValueError(f"a visual budget of {share} tokens does not hold one frame of {self.frame_tokens_min}")
        first = math.ceil(round(start_s * self.fps, 6))
        last = math.ceil(round(end_s * self.fps, 6))
        grid = range(first, max(last, first + 1))
        stride = max(1, math.ceil(len(grid) / (share // self.frame_tokens_min)))
        points = [point for point in grid if (point - first) % stride == 0]
        each = max(self.frame_tokens_min, min(self.frame_tokens_max, share // len(points)))
        size = self.resize(height, width, self.frame_tokens_min, each)
        return FramePlan(points=tuple(points), height=size[0], width=size[1])


@dataclass(frozen=True, kw_only=True)
class FramePlan:
    """The frames of one clip.

    Attributes:
        points: indices on the grid of ``VisualSpec.fps``: point p stands for the frame shown at p / fps seconds.
        height, width: pixels at which every frame is read.
    """

    points: tuple[int, ...]
    height: int
    width: int
