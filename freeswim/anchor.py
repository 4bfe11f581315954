"""The anchor: the guide's own estimate of the clean latents takes the place of the window pass's coarse structure.

Flow matching mixes x = (1 - s) x0 + s n and predicts v = n - x0, so that x - s v estimates the clean x0. The guide's
pass yields such an estimate of the whole picture at the trained size, where one scene is what the model makes. Below
the resolution of that estimate a window pass then has no say about what is where; above it, all detail is its own.
"""

import torch
import torch.nn.functional as F

from freeswim.downsample import average_down


def clean_estimate(velocity_BCTHW: torch.Tensor, latents_BCTHW: torch.Tensor, sigma: float) -> torch.Tensor:
    """The clean latents that a prediction amounts to, float32, without the conditions behind the noisy channels."""
    channels = velocity_BCTHW.shape[1]
    return latents_BCTHW[:, :channels].float() - sigma * velocity_BCTHW.float()


def anchored(
    velocity_BCTHW: torch.Tensor, latents_BCTHW: torch.Tensor, clean_BCThw: torch.Tensor, *, sigma: float
) -> torch.Tensor:
    """The velocity whose clean estimate agrees with `clean_BCThw` on its grid and keeps its own finer structure.

    Args:
        velocity_BCTHW: What the transformer predicts, in its dtype.
        latents_BCTHW: What it predicted that from, at noise level `sigma` in (0, 1]; further channels (conditions of
            image-to-video) are ignored.
        clean_BCThw: The guide's estimate, at its size (h, w) of at most (H, W), float32.

    Returns:
        Like `velocity_BCTHW`.
    """
    clean = clean_estimate(velocity_BCTHW, latents_BCTHW, sigma)
    difference = clean_BCThw - average_down(clean, (clean_BCThw.shape[-2], clean_BCThw.shape[-1]))
    frames = difference.transpose(1, 2).flatten(0, 1)
    large = F.interpolate(frames, clean.shape[-2:], mode="bicubic").unflatten(0, (len(clean), -1)).transpose(1, 2)
    return (velocity_BCTHW.float() - large / sigma).to(velocity_BCTHW.dtype)
