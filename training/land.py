"""The ridges at the horizon and the ground before them. Shapes and units as in `training.canvas`."""

from dataclasses import dataclass

import torch
from torch import Tensor

from training.canvas import Canvas, mix, smooth
from training.noise import faded
from training.scenes import WATER


def draw_ridges(c: Canvas, picture: Tensor) -> Tensor:
    """Two ridges, the far one first."""
    is_mountains = c.mask(lambda s: s.ridge == "mountains")
    for layer in (0, 1):
        top = c.horizon - c.skyline(c.x, layer)
        cover = smooth(-0.6, 0.6, (c.y - top) / c.pixel)
        relief = _relief(c, layer)
        base = c.ridge_hue * (0.62 + 0.38 * c.light)[..., None]
        colour = base * (1 + (0.42 * is_mountains + 0.26 * (1 - is_mountains)) * relief)[..., None]
        if layer == 0:
            altitude = (c.horizon - c.y) / c.ridge_height
            snow = smooth(0.72, 0.86, altitude + 0.22 * relief) * is_mountains
            white = (0.86 + 0.10 * relief)[..., None] * (0.45 + 0.55 * c.light)[..., None]
            colour = mix(colour, white, 0.85 * snow)
        # air between the eye and the ridge: the far one is paler, both pale towards their feet
        haze = (0.46 if layer == 0 else 0.10) + 0.22 * smooth(0.0, 1.0, (c.y - top) / c.ridge_height)
        picture = mix(picture, mix(colour, c.haze, haze), cover)
        c.subject = c.subject * (1 - cover)
    return picture


def _relief(c: Canvas, layer: int) -> Tensor:
    """Relief of a slope in -1..1: the height field lit from the upper left."""
    px, py, step = c.x + c.ox + 50 * layer, c.y + c.oy, 0.012
    a = c.noise.octaves(px, 0.75 * py, 7.0, 6, c.pixel, 0.62)
    b = c.noise.octaves(px + step, 0.75 * (py + step), 7.0, 6, c.pixel, 0.62)
    return (2.6 * (b - a)).clamp(-1, 1)


@dataclass
class Ground:
    """The ground plane in perspective: x and y on it, a pixel's footprint across and along the line of sight, both in
    its units, and `depth`, 0 at the horizon and 1 at the picture's lower edge."""

    x: Tensor
    y: Tensor
    across: Tensor
    along: Tensor
    depth: Tensor


def draw_ground(c: Canvas, picture: Tensor) -> Tensor:
    below = c.y - c.horizon
    cover = smooth(-0.5, 0.5, below / c.pixel)
    c.subject = c.subject * (1 - cover)
    depth = (below / (c.height - c.horizon)).clamp(0, 1)
    perspective = 1 / (0.16 + 0.84 * depth)
    x, y = (c.x - 0.9) * perspective + c.ox, 1.6 * perspective + c.oy
    # a pixel's footprint grows with distance, more so along the line of sight
    across, along = c.pixel * perspective, 1.35 * c.pixel * perspective * perspective
    g = Ground(x, y, across, along, depth)
    for kinds, draw in ((("meadow",), _meadow), (("desert",), _desert), (("snow",), _snow), (WATER, _water)):
        chosen = c.column([float(s.ground in kinds) for s in c.scenes])
        if float(chosen.max()) > 0:
            picture = mix(picture, draw(c, g), cover * chosen)
    return picture


def _soil(c: Canvas, g: Ground, dark: list[float], bright: list[float], tone: Tensor, air: float) -> Tensor:
    """From `dark` to `bright` by `tone`, under the scene's light, with `air` before its far end."""
    colour = mix(g.x.new_tensor(dark), g.x.new_tensor(bright), tone.clamp(0, 1))
    return mix(colour * (0.28 + 0.72 * c.light)[..., None], c.haze, air * (1 - g.depth) ** 3)


def _meadow(c: Canvas, g: Ground) -> Tensor:
    broad = c.noise.octaves(g.x, g.y, 1.6, 4, g.along, 0.55)
    # blades: fine across, long along the line of sight
    blades = c.noise.octaves(g.x, 0.22 * g.y, 9.0, 6, torch.maximum(g.across, 0.22 * g.along), 0.78)
    tone = 0.45 + 0.30 * broad + 0.55 * blades
    return _soil(c, g, [0.13, 0.27, 0.10], [0.50, 0.66, 0.24], tone, air=0.35)


def _desert(c: Canvas, g: Ground) -> Tensor:
    warp = c.noise.octaves(g.x, g.y, 0.9, 3, g.along, 0.5)
    crest = torch.sin(5.2 * (g.y + 0.55 * warp + 0.18 * g.x))
    ripples = torch.sin(95 * (g.y + 0.30 * warp + 0.10 * g.x)) * faded(16, g.along)
    grain = c.noise.octaves(g.x, g.y, 12.0, 5, g.along, 0.8)
    tone = 0.52 + 0.30 * crest + 0.10 * ripples + 0.22 * grain
    return _soil(c, g, [0.56, 0.37, 0.19], [0.95, 0.77, 0.46], tone, air=0.30)


def _snow(c: Canvas, g: Ground) -> Tensor:
    drifts = c.noise.octaves(g.x, g.y, 1.1, 5, g.along, 0.5)
    towards_light = c.noise.octaves(g.x + 0.10, g.y + 0.08, 1.1, 5, g.along, 0.5)
    crust = c.noise.octaves(g.x, g.y, 10.0, 5, g.along, 0.8)
    tone = 0.62 + 1.5 * (drifts - towards_light) + 0.20 * crust
    return _soil(c, g, [0.60, 0.68, 0.80], [0.95, 0.96, 0.98], tone, air=0.30)


def _water(c: Canvas, g: Ground) -> Tensor:
    """A sea has higher waves, a lake mirrors the far ridge; sun and moon lay a path of light on both."""
    is_sea, depth = c.mask(lambda s: s.ground == "sea"), g.depth
    flow = 0.25 * c.time
    swell = c.noise.octaves(0.8 * g.x + flow, 2.4 * g.y - flow, 2.2, 6, 2.4 * g.along, 0.62)
    glint = c.noise.octaves(0.6 * g.x - flow, 3.0 * g.y + 0.5 * flow, 5.0, 5, 3.0 * g.along, 0.7)
    deep = 0.42 * c.zenith + c.zenith.new_tensor([0.0, 0.05, 0.08])
    base = mix(0.80 * c.haze + 0.06, deep, depth**0.6)
    strength = 0.55 * is_sea + 0.30 * (1 - is_sea)
    colour = base * (1 + strength * swell * (0.35 + 0.65 * depth))[..., None]
    # the ridge stands on its head in a lake, shaken by the ripples
    shaken = c.x + 0.030 * swell * (0.3 + depth)
    mirrored = (c.y - c.horizon) * 1.15 + 0.03 * glint * depth
    image = smooth(0.5, -0.5, (mirrored - c.skyline(shaken, 0)) / 0.012)
    ridge = 0.75 * c.ridge_hue * (0.62 + 0.38 * c.light)[..., None]
    colour = mix(colour, ridge, 0.55 * image * (1 - is_sea))
    shines = c.mask(lambda s: s.subject in ("sun", "moon"))
    if float(shines.max()) > 0:
        spread = 0.05 + 0.10 * depth
        path = torch.exp(-(((c.x - c.sx + 0.05 * swell) / spread) ** 2)) * shines
        sparkle = smooth(-0.05, 0.55, glint + 0.3 * swell)
        colour = mix(colour, 0.60 * c.hue + 0.40, 0.75 * path * sparkle)
    return colour
