"""A look at latents while they are still being denoised: a linear map from latents to small RGB frames.

    colours = LatentColours.shipped("embedded") or LatentColours.fit(native_latents, native_frames)
    small = colours.frames(clean_latents)  # uint8 (T, h', w', 3), one frame per latent frame

The map is fitted by least squares: each latent pixel with its eight neighbours gives a block of pixels of the frames
averaged down. For the embedded model its PSNR is 24 dB (12 unseen drawn clips; see `training.latent_colours`):
what is where and in about which colour can be told, sharp edges cannot. What is passed to `frames` should be the clean
estimate of a step (for flow matching `latents - sigma * velocity`): noisy latents look like noise, as they are.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from freeswim.embedded import MODEL_DIR

DETAIL = 4  # pixels along each side of a latent pixel that are worth fitting; see training.latent_colours
LIMIT = 480  # pixels of a preview's longer side
_RIDGE = 1e-3  # of the features' mean square: one short native clip leaves some directions hardly seen
_SHIPPED = {"embedded": MODEL_DIR / "latent_colours.safetensors"}


@dataclass(frozen=True)
class LatentColours:
    """`weight` (detail * detail * 3, C, 3, 3) and `bias` (detail * detail * 3) of a convolution, colours in 0..1."""

    weight: Tensor
    bias: Tensor

    @property
    def detail(self) -> int:
        """Pixels that a latent pixel becomes along each side."""
        return math.isqrt(len(self.bias) // 3)

    @classmethod
    def shipped(cls, model: str) -> "LatentColours | None":
        """The map that comes with the package for `model`; None for a model that has to be fitted first."""
        return cls.load(_SHIPPED[model]) if model in _SHIPPED else None

    @classmethod
    def fit(cls, latents: Tensor, frames: NDArray[np.uint8], *, detail: int = DETAIL) -> Self:
        """The map that fits a video best: `latents` (1, C, T, h, w) and what they decode to, uint8 (F, H, W, 3).

        The first latent frame stands for the first frame, each later one for the average of (F - 1) / (T - 1) frames.
        Frames may end before the latents do at the right and at the bottom, where padding was cut off. ValueError when
        the two can't belong together.
        """
        return cls.fit_all([(latents, frames)], detail=detail)

    @classmethod
    def fit_all(cls, pairs: list[tuple[Tensor, NDArray[np.uint8]]], *, detail: int = DETAIL) -> Self:
        """As `fit`, for several videos of any sizes together."""
        squares: Tensor | None = None
        products: Tensor | None = None
        for latents, frames in pairs:
            seen = _neighbourhoods(latents).double()  # (N, C * 9 + 1)
            wanted = pixel_blocks(latents, frames, detail).double()  # (N, detail * detail * 3)
            squares = seen.T @ seen + (0 if squares is None else squares)
            products = seen.T @ wanted + (0 if products is None else products)
        if squares is None or products is None:
            raise ValueError("pairs=[] holds no video to fit")
        ridge = torch.full_like(squares[0], _RIDGE * float(squares.diagonal()[:-1].mean()))
        ridge[-1] = 0  # the constant is free
        solved = torch.linalg.solve(squares + ridge.diag(), products).float()
        channels = (len(solved) - 1) // 9
        return cls(solved[:-1].T.reshape(-1, channels, 3, 3).contiguous(), solved[-1].contiguous())

    def frames(self, latents: Tensor, *, limit: int = LIMIT) -> NDArray[np.uint8]:
        """Frames uint8 (T, h', w', 3) of `latents` (1, C, T, h, w), no side longer than `limit` pixels.

        Worked out on the latents' device, with as much detail as fits into the limit.
        """
        if latents.ndim != 5 or len(latents) != 1 or latents.shape[1] != self.weight.shape[1]:
            raise ValueError(f"{tuple(latents.shape)=} must be (1, {self.weight.shape[1]}, T, h, w)")
        longer = max(latents.shape[-2:])
        detail = next(d for d in range(self.detail, 0, -1) if d == 1 or (self.detail % d == 0 and longer * d <= limit))
        weight, bias = self._coarser(self.weight, detail), self._coarser(self.bias, detail)
        with torch.no_grad():
            padded = F.pad(latents[0].transpose(0, 1).float(), (1, 1, 1, 1), mode="replicate")
            blocks = F.conv2d(padded, weight.to(latents.device), bias.to(latents.device))
            pictures = F.pixel_shuffle(blocks, detail)
            if max(pictures.shape[-2:]) > limit:
                size = [max(1, round(side * limit / longer)) for side in latents.shape[-2:]]
                pictures = F.interpolate(pictures, size, mode="area")
            shown: NDArray[np.uint8] = (pictures * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
        return shown

    def _coarser(self, maps: Tensor, detail: int) -> Tensor:
        """`weight` or `bias` for fewer pixels: the average of maps is the map to the average, and far less work."""
        times = self.detail // detail
        return maps.unflatten(0, (3, detail, times, detail, times)).mean((2, 4)).flatten(0, 2)

    def save(self, path: Path) -> None:
        save_file({"weight": self.weight.half().contiguous(), "bias": self.bias.half().contiguous()}, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """The map that `save` wrote."""
        tensors = load_file(path)
        return cls(tensors["weight"].float(), tensors["bias"].float())


def _neighbourhoods(latents: Tensor) -> Tensor:
    """Latents (1, C, T, h, w) as (T * h * w, C * 9 + 1): each pixel with its neighbours, and a constant."""
    padded = F.pad(latents[0].transpose(0, 1).float(), (1, 1, 1, 1), mode="replicate")
    seen = F.unfold(padded, 3).transpose(1, 2).flatten(0, 1)
    return F.pad(seen, (0, 1), value=1.0)


def latent_averages(frames: NDArray[np.uint8], count: int) -> Tensor:
    """Frames (F, H, W, 3) averaged to `count` latent frames: (count, 3, H, W) in 0..1. The first stands alone."""
    group, rest = divmod(len(frames) - 1, max(1, count - 1))
    if rest or (group == 0) != (count == 1):
        raise ValueError(f"{len(frames)=} can't be {count} latent frames: 1 + a multiple of {count - 1} is expected")
    pictures = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255
    if count == 1:
        return pictures
    later = pictures[1:].unflatten(0, (count - 1, group)).mean(1)
    return torch.cat([pictures[:1], later])


def pixel_blocks(latents: Tensor, frames: NDArray[np.uint8], detail: int) -> Tensor:
    """What `latents` (1, C, T, h, w) should show: (T * h * w, 3 * detail * detail), averaged `frames` in 0..1."""
    if latents.ndim != 5 or len(latents) != 1:
        raise ValueError(f"{tuple(latents.shape)=} must be (1, C, T, h, w)")
    _, _, count, height, width = latents.shape
    pictures = latent_averages(frames, count)
    factor = max(math.ceil(frames.shape[1] / height), math.ceil(frames.shape[2] / width))
    missing = (factor * width - frames.shape[2], factor * height - frames.shape[1])
    if factor < detail or max(missing) >= 4 * factor:
        raise ValueError(f"{frames.shape=} can't be what latents of {height}x{width} decode to")
    pictures = F.pad(pictures, (0, missing[0], 0, missing[1]), mode="replicate")
    small = F.interpolate(pictures, (height * detail, width * detail), mode="area")
    return F.pixel_unshuffle(small, detail).flatten(2).transpose(1, 2).flatten(0, 1).to(latents.device)
