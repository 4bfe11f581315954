"""Noisy latents at a smaller size: what the downsampled guide sees.

Flow matching mixes x = (1 - s) x0 + s n with n ~ N(0, 1). Averaging r x r latents leaves (1 - s) mean(x0) + (s / r) n',
which has less noise than the model expects at level s. With d = (1 - s) + s / r, mean(x) / d is such a mixture again,
at the level s' = (s / r) / d. For integer r this is exact.
"""

import torch


def area_matrix(size: int, target: int) -> torch.Tensor:
    """(target, size) float64: averages `size` cells over `target` cells of equal length; a cut cell counts in part."""
    ratio = size / target
    start = torch.arange(target, dtype=torch.float64)[:, None] * ratio
    cell = torch.arange(size, dtype=torch.float64)[None]
    overlap = torch.minimum(start + ratio, cell + 1) - torch.maximum(start, cell)
    return overlap.clamp(min=0) / ratio


def average_down(latents_BCTHW: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Area averages of latents at `size` = (h, w), float32."""
    return _averaged(latents_BCTHW, *_area_matrices(latents_BCTHW, size))


def downsample_latents(
    latents_BCTHW: torch.Tensor, size: tuple[int, int], *, sigma: float, noisy_channels: int
) -> tuple[torch.Tensor, float]:
    """Average latents at noise level `sigma` down to `size` = (h, w), as latents at the noise level that this leaves.

    Args:
        latents_BCTHW: x = (1 - sigma) x0 + sigma n in the first `noisy_channels` channels. Channels behind these are
            conditions without noise (image-to-video) and are only averaged.
        sigma: Noise level, in [0, 1].

    Returns:
        The latents (B, C, T, h, w) in their dtype, and sigma' / sigma, by which the timestep shrinks too. Where a ratio
        of sizes is no integer, the noise of the outputs varies a little and its root mean square is used.
    """
    rows, columns = _area_matrices(latents_BCTHW, size)
    # Independent noise averaged with weights w keeps sqrt(sum of w^2) of its deviation: 1 / r for r x r equal ones.
    noise = float((rows.square().sum(dim=1).mean() * columns.square().sum(dim=1).mean()).sqrt())
    divisor = (1 - sigma) + sigma * noise
    x = _averaged(latents_BCTHW, rows, columns)
    x[:, :noisy_channels] /= divisor
    return x.to(latents_BCTHW.dtype), noise / divisor


def _area_matrices(latents_BCTHW: torch.Tensor, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    height, width = latents_BCTHW.shape[-2:]
    return area_matrix(height, size[0]), area_matrix(width, size[1])


def _averaged(latents_BCTHW: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    x = latents_BCTHW.float()
    return rows.to(x) @ x @ columns.to(x).T
