"""The downsampled guide's latents: exact for flow matching, at whole and other ratios."""

import pytest
import torch
import torch.nn.functional as F

from freeswim.downsample import area_matrix, downsample_latents


@pytest.mark.parametrize(("size", "target"), [(12, 4), (12, 12), (12, 5), (7, 3), (136, 60)])
def test_area_matrix_averages_cells_by_their_overlap(size: int, target: int) -> None:
    matrix = area_matrix(size, target)
    assert matrix.shape == (target, size)
    torch.testing.assert_close(matrix.sum(1), torch.ones(target, dtype=torch.float64))
    torch.testing.assert_close(matrix.sum(0), torch.full((size,), target / size, dtype=torch.float64))
    for row in range(target):  # on a fine axis that both sizes divide
        cells = torch.zeros(size * target, dtype=torch.float64)
        cells[row * size : (row + 1) * size] = 1 / size
        torch.testing.assert_close(matrix[row], cells.unflatten(0, (size, target)).sum(1))


@pytest.mark.parametrize("sigma", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("ratio", [2, 3])
def test_whole_ratios_are_exact(ratio: int, sigma: float) -> None:
    """The result is (1 - s') x + s' n' of the averaged picture and of noise with deviation 1."""
    generator = torch.Generator().manual_seed(0)
    clean = F.interpolate(torch.randn(1, 4, 2, 40, 40, generator=generator), scale_factor=(1, ratio, ratio))
    noise = torch.randn(clean.shape, generator=generator)
    latents, shrink = downsample_latents((1 - sigma) * clean + sigma * noise, (40, 40), sigma=sigma, noisy_channels=4)
    level = sigma * shrink
    mean = clean[..., ::ratio, ::ratio]
    left = latents - (1 - level) * mean
    expected = level * ratio * F.avg_pool3d(noise, (1, ratio, ratio))
    torch.testing.assert_close(left, expected, atol=1e-5, rtol=1e-5)
    assert left.std().item() == pytest.approx(level, rel=0.02, abs=1e-5)
    assert level <= sigma


def test_other_ratios_have_the_right_noise_on_average() -> None:
    noise = torch.randn(1, 8, 4, 90, 100, generator=torch.Generator().manual_seed(0))
    latents, shrink = downsample_latents(noise, (40, 40), sigma=1.0, noisy_channels=8)
    assert shrink == 1.0
    assert latents.std().item() == pytest.approx(1, rel=0.01)


def test_equal_sizes_change_nothing_and_conditions_are_only_averaged() -> None:
    latents = torch.randn(1, 6, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    same, shrink = downsample_latents(latents, (8, 8), sigma=0.5, noisy_channels=6)
    assert torch.equal(same, latents)
    assert shrink == 1.0
    small, _ = downsample_latents(latents, (4, 4), sigma=0.5, noisy_channels=4)
    torch.testing.assert_close(small[:, 4:], F.avg_pool3d(latents[:, 4:], (1, 2, 2)))
    torch.testing.assert_close(small[:, :4], F.avg_pool3d(latents[:, :4], (1, 2, 2)) / 0.75)


def test_dtype_is_kept() -> None:
    assert (
        downsample_latents(torch.zeros(1, 4, 1, 8, 8).bfloat16(), (4, 4), sigma=1, noisy_channels=4)[0].dtype
        == torch.bfloat16
    )
