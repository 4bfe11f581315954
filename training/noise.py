"""Smooth value noise at any resolution: every texture of the renderer is a sum of its octaves."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

FIELD = 512  # lattice points of the periodic field, a side


class Noise:
    """A periodic field of random numbers on `device`. Tensors are of any shapes that broadcast together."""

    def __init__(self, device: torch.device) -> None:
        field = torch.rand(1, 1, FIELD, FIELD, generator=torch.Generator().manual_seed(7)) * 2 - 1
        self.field = F.pad(field, (0, 1, 0, 1), mode="circular").to(device)
        # nearly all of a renderer's time goes here; compiled it is one kernel instead of twenty
        self._look_up = torch.compile(_look_up, dynamic=True) if device.type == "cuda" else _look_up

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Noise in -1..1 with one lattice point per unit of x and y."""
        x, y = torch.broadcast_tensors(x, y)
        width = x.shape[-1]  # as two plain matrices, so that one compiled kernel serves all shapes
        values: Tensor = self._look_up(self.field, x.reshape(-1, width), y.reshape(-1, width))
        return values.view(x.shape)

    def octaves(self, x: Tensor, y: Tensor, frequency: float, count: int, pixel: Tensor, gain: float = 0.5) -> Tensor:
        """Octaves of noise, about -1..1, from `frequency` lattice points a unit upwards, each `gain` times as strong.

        `pixel` is the size of a pixel in units. Octaves finer than a pixel fade out, so that a larger picture holds
        truly more detail and a smaller one has no aliasing.
        """
        total, weight = x.new_zeros(()), 0.0
        for octave in range(count):
            f, amplitude = frequency * 2**octave, gain**octave
            fade = faded(f, pixel)
            weight += amplitude
            if float(fade.max()) == 0:
                continue
            # a turn and a shift per octave, so that the lattices never line up
            c, s = math.cos(1.1 * octave), math.sin(1.1 * octave)
            total = total + amplitude * fade * self(f * (c * x - s * y) + 37.3 * octave, f * (s * x + c * y))
        return total / weight * 1.6


def faded(frequency: float, pixel: Tensor) -> Tensor:
    """How much of a detail of `frequency` periods a unit a pixel can hold: 1 below a quarter, 0 above half a period."""
    return (2 - 4 * frequency * pixel).clamp(0, 1)


def _look_up(field: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """`field` (1, 1, FIELD + 1, FIELD + 1) at x, y, both (rows, width), eased between its points, periodic."""

    def ease(c: Tensor) -> Tensor:
        whole = c.floor()
        part = c - whole
        return torch.remainder(whole, FIELD) + part * part * (3 - 2 * part)

    grid = torch.stack((ease(x), ease(y)), dim=-1).reshape(1, -1, x.shape[-1], 2)
    grid = (grid + 0.5) * (2 / (FIELD + 1)) - 1
    return F.grid_sample(field, grid, mode="bilinear", align_corners=False).reshape(x.shape)
