"""Three-axis positions: Qwen2-VL's rule, by hand and against transformers; counts that do not fit are named."""

from __future__ import annotations

import pytest
import torch
from small_model import row_with_images

from model import mrope_positions
from model.rope import mrope_tables

IMAGE = 511


def test_text_image_text_by_hand():
    row = torch.tensor([1, 2, IMAGE, IMAGE, IMAGE, IMAGE, IMAGE, IMAGE, 3, 4])
    positions = mrope_positions(row, torch.tensor([[1, 4, 6]]), image_token_id=IMAGE)
    assert positions.tolist() == [
        [0, 1, 2, 2, 2, 2, 2, 2, 5, 6],
        [0, 1, 2, 2, 2, 3, 3, 3, 5, 6],
        [0, 1, 2, 3, 4, 2, 3, 4, 5, 6],
    ]


def test_equal_to_transformers():
    from transformers.models.paddleocr_vl.modeling_paddleocr_vl import PaddleOCRVLModel

    row, _, grid = row_with_images([(4, 6), (2, 2), (8, 4)], text=5)

    class Stand:
        class config:  # noqa: N801
            class vision_config:  # noqa: N801
                spatial_merge_size = 2

    stand = Stand()
    stand.get_vision_position_ids = PaddleOCRVLModel.get_vision_position_ids.__get__(stand)
    theirs, _ = PaddleOCRVLModel.get_rope_index(stand, row[None], (row == IMAGE).int()[None], grid)
    assert torch.equal(mrope_positions(row, grid, image_token_id=IMAGE), theirs[:, 0])


def test_every_sample_starts_at_zero():
    first, _, first_grid = row_with_images([(4, 6)], text=5, seed=1)
    second, _, second_grid = row_with_images([(2, 2), (8, 4)], text=3, seed=2)
    packed = mrope_positions(
        torch.cat((first, second)),
        torch.cat((first_grid, second_grid)),
        torch.tensor([0, len(first), len(first) + len(second)]),
        image_token_id=IMAGE,
    )
    alone = [mrope_positions(row, grid, image_token_id=IMAGE) for row, grid in ((first, first_grid), (second, second_grid))]
    assert torch.equal(packed, torch.cat(alone, dim=1))


def test_three_equal_axes_are_plain_rope():
    positions = torch.arange(50)
    cos, _ = mrope_tables(positions.expand(3, -1), head_dim=32, theta=1e4, sections=(4, 6, 6))
    plain = positions[:, None] * 1e4 ** -(torch.arange(0, 32, 2) / 32)
    torch.testing.assert_close(cos, plain.cos(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ([[1, 4, 4]], "hold 6 visual placeholders .* asks for 4 visual tokens in 1 images"),
        ([[1, 3, 8]], r"holds \[1, 3, 8\]: .* multiples of 2"),
        (None, "hold 6 visual placeholders .* asks for 0 visual tokens in 0 images"),
    ],
)
def test_counts_that_do_not_fit_are_named(grid, message):
    row = torch.tensor([1, *[IMAGE] * 6, 2])
    with pytest.raises(ValueError, match=message):
        mrope_positions(row, None if grid is None else torch.tensor(grid), image_token_id=IMAGE)


def test_the_model_names_both_counts(model):
    row, patches, grid = row_with_images([(4, 6)], text=5)
    with pytest.raises(ValueError, match=r"hold 5 visual placeholders .* asks for 6"):
        model(row[torch.arange(len(row)) != 7], pixel_values=patches, image_grid_thw=grid)
