"""What all layers of a picture share: a batch of scenes as tensors, the places of the pixels, and how layers are mixed.

Tensors are (B, T, H, W) unless a shape says otherwise; T is 1 for what does not move. Colours are 0..1 RGB, with a last
axis of 3. Lengths are in units (see `training.scenes`).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from training.noise import Noise, faded
from training.scenes import COLOURS, PIXELS_PER_UNIT, RIDGE_COLOURS, SKIES, Scene, View


def smooth(edge0: float, edge1: float, x: Tensor) -> Tensor:
    """0 at edge0, 1 at edge1, eased between; edge0 may be the larger one."""
    t = ((x - edge0) / (edge1 - edge0)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def mix(a: Tensor, b: Tensor, amount: Tensor) -> Tensor:
    """Colours `a` where `amount` is 0, `b` where it is 1."""
    return a + (b - a) * amount[..., None]


class Canvas:
    """`size` is (height, width) in pixels; `subject` is how much of each pixel the subject covers: layers update it."""

    def __init__(
        self, noise: Noise, scenes: list[Scene], views: list[View], size: tuple[int, int], frames: int
    ) -> None:
        self.noise, self.scenes, self.device = noise, scenes, noise.field.device
        height, width = size
        self.pixel = 1 / (PIXELS_PER_UNIT * self.column([v.zoom for v in views]))
        rows = torch.arange(height, device=self.device, dtype=torch.float32)[:, None] + 0.5
        cols = torch.arange(width, device=self.device, dtype=torch.float32)[None, :] + 0.5
        self.x = self.column([v.x for v in views]) + cols * self.pixel + torch.zeros_like(rows)
        self.y = self.column([v.y for v in views]) + rows * self.pixel + torch.zeros_like(cols)
        self.time = torch.linspace(0, 1, frames, device=self.device)[None, :, None, None]
        self.subject = torch.zeros_like(self.x)

        self.height = self.column([s.height for s in scenes])
        self.horizon = self.column([s.horizon for s in scenes])
        self.ridge_height = self.column([s.ridge_height for s in scenes])
        self.radius = self.column([s.radius for s in scenes])
        self.ox, self.oy = self.column([s.noise[0] for s in scenes]), self.column([s.noise[1] for s in scenes])
        start, end = self.column([s.start for s in scenes]), self.column([s.end for s in scenes])
        path = start + (end - start) * self.time[..., None]
        self.sx, self.sy = path[..., 0], path[..., 1]
        self.drift = self.column([s.cloud_drift for s in scenes]) * self.time

        tint = self.column([s.tint for s in scenes])
        self.zenith = self.column([SKIES[s.sky][0] for s in scenes]) + tint
        self.haze = self.column([SKIES[s.sky][1] for s in scenes]) + tint
        self.hue = self.column([COLOURS[s.colour] for s in scenes])
        self.ridge_hue = self.column([RIDGE_COLOURS[s.ridge_colour] for s in scenes])
        self.light = self.column([0.30 if s.sky == "night" else 1.0 for s in scenes])

    def column(self, values: Sequence[Any]) -> Tensor:
        """One number or one tuple a scene to (B, 1, 1, 1) or (B, 1, 1, 1, n)."""
        return torch.tensor(values, dtype=torch.float32, device=self.device)[:, None, None, None]

    def mask(self, test: Callable[[Scene], bool]) -> Tensor:
        """(B, 1, 1, 1): 1 for the scenes that pass."""
        return self.column([float(test(s)) for s in self.scenes])

    def any(self, test: Callable[[Scene], bool]) -> bool:
        return any(test(s) for s in self.scenes)

    def skyline(self, x: Tensor, layer: int) -> Tensor:
        """Height of a ridge above the horizon at x, in units; layer 0 is the far one."""
        is_mountains = self.mask(lambda s: s.ridge == "mountains")
        line = self.oy + 91.7 * layer
        rolling = 0.5 + 0.5 * self.noise.octaves(x + self.ox, line, 1.7, 3, self.pixel, 0.35)
        total, weight = x.new_zeros(()), 0.0
        for octave in range(7):
            f, amplitude = 1.9 * 2**octave, 0.5**octave
            fade = faded(f, self.pixel)
            total = total + amplitude * fade * (1 - 2 * self.noise(f * (x + self.ox) + 13.1 * octave, line).abs())
            weight += amplitude
        sharp = 0.5 + 0.62 * total / weight
        rise = rolling * 0.75 * (1 - is_mountains) + sharp * is_mountains
        return self.ridge_height * (0.28 + 0.85 * rise) * (1.15 if layer == 0 else 0.72)
