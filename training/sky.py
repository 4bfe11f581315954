"""The sky with its stars, and the clouds. Shapes and units as in `training.canvas`."""

import torch
from torch import Tensor

from training.canvas import Canvas, mix, smooth

STAR_CELL = 0.085  # units; one star each


def draw_sky(c: Canvas) -> Tensor:
    depth = (c.y / c.horizon).clamp(0, 1)
    picture = mix(c.zenith, c.haze, depth**1.3)
    if c.any(lambda s: s.sky == "night"):
        shine = _stars(c) * c.mask(lambda s: s.sky == "night") * (1 - depth)
        picture = picture + shine[..., None] * picture.new_tensor([1.0, 0.97, 0.9])
    return picture


def _stars(c: Canvas) -> Tensor:
    """Brightness of the stars, spots that never get smaller than a pixel but fainter."""
    x, y = c.x / STAR_CELL + c.ox, c.y / STAR_CELL + c.oy
    cx, cy = x.floor(), y.floor()
    # at whole coordinates the noise is its lattice: one independent number a cell
    jx, jy = c.noise(cx + 101, cy + 57), c.noise(cx + 211, cy + 17)
    dx, dy = x - cx - 0.5 - 0.38 * jx, y - cy - 0.5 - 0.38 * jy
    size = (0.0035 + 0.0035 * jx.abs()) / STAR_CELL
    size = torch.maximum(size, 0.55 * c.pixel / STAR_CELL)
    spot = torch.exp(-(dx * dx + dy * dy) / (size * size))
    return spot * (jy.abs() + 0.2) * (0.0045 / STAR_CELL / size).clamp(max=1)


def draw_clouds(c: Canvas, picture: Tensor) -> Tensor:
    if not c.any(lambda s: s.clouds):
        return picture
    x, y = c.x - c.drift + c.ox, c.y + c.oy
    # flat bottoms and long shapes: the field is stretched along x
    body = c.noise.octaves(x * 0.55, y * 1.5, 2.2, 7, c.pixel, 0.52)
    cover = smooth(0.02, 0.5, body + 0.06) * c.mask(lambda s: s.clouds)
    cover = cover * smooth(0.0, 0.22, c.horizon - c.y)
    towards_light = c.noise.octaves(x * 0.55 + 0.015, y * 1.5 + 0.03, 2.2, 5, c.pixel, 0.52)
    shade = (0.5 + 1.6 * (body - towards_light)).clamp(0, 1)
    white = c.haze * 0.35 + 0.65
    colour = mix(0.74 * c.haze + 0.10, white, shade)
    return mix(picture, colour, 0.85 * cover)
