"""Rotary embeddings against Wan's own."""

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed

from freeswim.rotary import apply_rotary, rotary_embedding, scaled_positions

CPU = torch.device("cpu")


@pytest.mark.parametrize("dim", [24, 64, 128])
def test_whole_positions_give_the_stock_embedding(dim: int) -> None:
    rope = WanRotaryPosEmbed(dim, (1, 2, 2), 256)
    grid = (5, 60, 104)
    stock = rope(torch.empty(1, 1, grid[0], 2 * grid[1], 2 * grid[2]))
    for ours, theirs in zip(rotary_embedding(rope, [torch.arange(n) for n in grid], CPU), stock, strict=True):
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, atol=1e-7, rtol=0)


def test_fractional_positions_rotate_by_fractions() -> None:
    """Rotating by 0.5 twice is rotating by 1, on each axis."""
    rope = WanRotaryPosEmbed(24, (1, 2, 2), 8)
    x = torch.randn(1, 1, 2, 24, generator=torch.Generator().manual_seed(0))
    half = rotary_embedding(rope, [torch.tensor([0.5])] * 3, CPU)
    whole = rotary_embedding(rope, [torch.tensor([1.0])] * 3, CPU)
    torch.testing.assert_close(apply_rotary(apply_rotary(x, half), half), apply_rotary(x, whole))


def test_scaled_positions_are_centres() -> None:
    assert scaled_positions(2, 6).tolist() == [1.0, 4.0]
    assert scaled_positions(3, 6).tolist() == [0.5, 2.5, 4.5]
    assert scaled_positions(5, 5).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_applying_equals_stock_bit_for_bit(dtype: torch.dtype) -> None:
    rope = WanRotaryPosEmbed(24, (1, 2, 2), 8)
    cos, sin = rope(torch.empty(1, 1, 2, 6, 8))
    x = torch.randn(2, 24, 3, 24, generator=torch.Generator().manual_seed(0)).to(dtype)
    expected = torch.empty_like(x)
    even, odd = x[..., 0::2], x[..., 1::2]
    expected[..., 0::2] = even * cos[..., 0::2] - odd * sin[..., 1::2]
    expected[..., 1::2] = even * sin[..., 1::2] + odd * cos[..., 0::2]
    assert torch.equal(apply_rotary(x, (cos, sin)), expected)
