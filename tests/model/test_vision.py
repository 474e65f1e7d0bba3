"""The vision tower against transformers' paddleocr_vl; packing changes nothing, chunks not one bit; the projector's shapes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers.models.paddleocr_vl.configuration_paddleocr_vl import PaddleOCRVisionConfig
from transformers.models.paddleocr_vl.modeling_paddleocr_vl import PaddleOCRVisionTransformer

from model import image_to_patches, images_to_patches
from model.vision import _chunks, _gelu

GRIDS = [(4, 4), (2, 30), (54, 2), (26, 28), (10, 6), (10, 6), (6, 10)]


def _patches(grids, seed=0):
    return torch.randn(sum(h * w for h, w in grids), 588, generator=torch.Generator().manual_seed(seed))


def _grid(grids):
    return torch.tensor([(1, h, w) for h, w in grids])


def test_tower_equals_paddleocr_vl_on_several_aspect_ratios(model):
    vision = model.config.vision
    theirs = PaddleOCRVisionTransformer(
        PaddleOCRVisionConfig(
            hidden_size=vision.hidden_size,
            intermediate_size=vision.intermediate_size,
            num_hidden_layers=vision.layers,
            num_attention_heads=vision.heads,
            image_size=384,
            patch_size=14,
            layer_norm_eps=vision.norm_eps,
            rope_parameters={"rope_type": "axial", "rope_theta": vision.rope_theta},
            attn_implementation="eager",
        )
    ).float()
    theirs.load_state_dict(model.visual.vision_model.state_dict(), strict=True)
    grids = [*GRIDS, (27, 27), (1, 5)]  # the tower alone takes odd grids too
    patches, grid = _patches(grids), _grid(grids)
    wanted = theirs(patches.view(1, -1, 3, 14, 14), grid_thw=grid).last_hidden_state
    got = model.visual(patches, grid)
    assert (got - wanted.view_as(got)).abs().max() <= 1e-4


def test_packed_images_equal_separate_ones(model):
    patches, grid = _patches(GRIDS), _grid(GRIDS)
    sizes = [h * w for h, w in GRIDS]
    packed = model.encode_images(patches, grid).split([size // 4 for size in sizes])
    for one, patch, alone in zip(packed, patches.split(sizes), grid, strict=True):
        torch.testing.assert_close(one, model.encode_images(patch, alone[None]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("chunk", [1, 60, 100, 300, 10_000])
def test_chunked_encoding_gives_the_same_bits_at_any_thread_count(model, chunk):
    grids = [(6, 10)] * 12 + [(4, 4)] * 3 + [(2, 2), (26, 28), (2, 2), (10, 6), (6, 10)]
    patches, grid = _patches(grids), _grid(grids)
    whole, threads = model.visual(patches, grid), torch.get_num_threads()
    try:
        for count in (1, 2, 3, 8):
            torch.set_num_threads(count)
            assert torch.equal(model.visual(patches, grid, chunk_patches=chunk), whole)
    finally:
        torch.set_num_threads(threads)


def test_chunks_are_as_large_as_asked_but_never_tiny():
    grids = [(2, 2), (2, 2), (6, 10), (6, 10), (2, 2), (2, 6), (26, 28), (2, 2)]
    assert _chunks(grids, 100, 16) == [[(2, 2), (2, 2), (6, 10)], [(6, 10), (2, 2), (2, 6)], [(26, 28), (2, 2)]]
    assert _chunks(grids[:2], 1, 16) == [grids[:2]]
    for least in (1, 16, 128):
        chunks = _chunks(grids, 1, least)
        assert [grid for chunk in chunks for grid in chunk] == grids
        assert min(sum(h * w for h, w in chunk) for chunk in chunks) >= least


def test_gelu_gives_a_value_the_same_bits_wherever_it_lies():
    """torch's own does not: 5 values and 5 of 100 values go through different loops."""
    values = 3 * torch.randn(64, 1111, generator=torch.Generator().manual_seed(0))
    whole = _gelu(values)
    for start, stop in ((0, 1), (1, 2), (3, 20), (0, 63)):
        assert torch.equal(_gelu(values[start:stop]), whole[start:stop])
    assert torch.equal(_gelu(values.flatten()[7:12]), whole.flatten()[7:12])


def test_gelu_and_its_gradient_are_the_tanh_approximation():
    values = torch.cat((torch.linspace(-12, 12, 10_001), torch.tensor([-1e4, -200.0, 200.0, 1e4]))).requires_grad_()
    exact = values.detach().double().requires_grad_()
    wanted = functional.gelu(exact, approximate="tanh")
    wanted.sum().backward()
    got = _gelu(values)
    got.sum().backward()
    torch.testing.assert_close(got, wanted.float(), atol=5e-7, rtol=1e-6)
    torch.testing.assert_close(values.grad, exact.grad.float(), atol=2e-6, rtol=1e-6)


def test_a_video_grid_is_its_frames(model):
    patches = _patches([(4, 6)] * 3)
    as_frames = model.encode_images(patches, _grid([(4, 6)] * 3))
    assert torch.equal(model.encode_images(patches, torch.tensor([[3, 4, 6]])), as_frames)


def test_projector_merges_two_by_two_neighbours(model):
    model.mlp_AR.pre_norm = torch.nn.Identity()
    model.mlp_AR.linear_1 = torch.nn.Identity()
    model.mlp_AR.linear_2 = torch.nn.Identity()
    features = torch.arange(24.0).view(24, 1).expand(24, 32) + 100.0  # GELU is the identity out there
    merged = model.mlp_AR(features, torch.tensor([[1, 4, 6]]))
    assert (merged[:, ::32] - 100).tolist()[:3] == [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]]


def test_patches_are_raster_ordered_and_normalised():
    image = np.zeros((28, 56, 3), dtype=np.uint8)
    image[0, 0] = (255, 0, 0)
    image[0, 14, 1] = 255
    image[14, 0, 2] = 255
    patches, grid = image_to_patches(image)
    assert grid == (1, 2, 4)
    assert patches.shape == (8, 588)
    bright = (patches == 1.0).nonzero().tolist()
    assert bright == [[0, 0], [1, 196], [4, 392]]
    assert float(patches.min()) == -1.0


@pytest.mark.parametrize("shape", [(28, 30, 3), (28, 28, 4), (28, 28)])
def test_an_image_that_does_not_fit_is_named(shape):
    with pytest.raises(ValueError, match=r"28 x 30|\(28, 28, 4\)|\(28, 28\)"):
        image_to_patches(np.zeros(shape, dtype=np.uint8))


def test_patches_that_do_not_fit_the_grid_are_named(model):
    with pytest.raises(ValueError, match=r"\(10, 588\), but image_grid_thw asks for \(16, 588\)"):
        model.visual(torch.zeros(10, 588), _grid([(4, 4)]))


def test_no_images_pack_to_nothing():
    patches, grid = images_to_patches([])
    assert patches.shape == (0, 588)
    assert grid.shape == (0, 3)


def test_a_grid_that_does_not_merge_is_named(model):
    with pytest.raises(ValueError, match=r"holds \[1, 3, 4\]: h and w must be multiples of 2"):
        model.encode_images(_patches([(3, 4)]), _grid([(3, 4)]))
