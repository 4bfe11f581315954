"""Sun, moon, balloon and boat. Shapes and units as in `training.canvas`; x and y here are in radii of the subject."""

import torch
from torch import Tensor

from training.canvas import Canvas, mix, smooth


def draw_sun_and_moon(c: Canvas, picture: Tensor) -> Tensor:
    is_sun, is_moon = c.mask(lambda s: s.subject == "sun"), c.mask(lambda s: s.subject == "moon")
    if not c.any(lambda s: s.subject in ("sun", "moon")):
        return picture
    dx, dy = (c.x - c.sx) / c.radius, (c.y - c.sy) / c.radius
    distance = torch.sqrt(dx * dx + dy * dy + 1e-8)
    glow = torch.exp(-(distance - 1).clamp(min=0) * 1.5) * (0.42 * is_sun + 0.16 * is_moon)
    picture = mix(picture, 0.55 * c.hue + 0.45, glow)
    disc = smooth(0.5, -0.5, (distance - 1) * c.radius / c.pixel) * (is_sun + is_moon)
    c.subject = disc
    limb = (1 - distance * distance).clamp(0, 1)
    surface = c.hue * (0.93 + 0.07 * limb)[..., None]
    if c.any(lambda s: s.subject == "moon"):
        craters = c.noise.octaves(dx * 0.1 + c.ox, dy * 0.1 + c.oy, 11.0, 5, c.pixel / c.radius * 0.1, 0.62)
        lunar = c.hue * (0.80 + 0.20 * limb.sqrt() + 0.22 * craters.clamp(-1, 0.25))[..., None]
        surface = mix(surface, lunar, is_moon)
    return mix(picture, surface, disc)


def draw_balloon(c: Canvas, picture: Tensor) -> Tensor:
    if not c.any(lambda s: s.subject == "balloon"):
        return picture
    chosen = c.mask(lambda s: s.subject == "balloon")
    edge = c.pixel / c.radius

    def inside(value: Tensor) -> Tensor:
        return smooth(0.5, -0.5, value / edge)

    x, y = (c.x - c.sx) / c.radius, (c.y - c.sy) / c.radius + 0.35
    taper = 0.937 - 0.74 * ((y - 0.35) / 1.0).clamp(0, 1) ** 1.15
    half = torch.where(y < 0.35, torch.sqrt((1 - y * y).clamp(min=1e-4)), taper)
    envelope = inside(x.abs() - half) * smooth(-0.5, 0.5, (y + 1) / edge)
    envelope = envelope * inside(y - 1.35)
    angle = torch.asin((x / half.clamp(min=0.05)).clamp(-0.999, 0.999))
    gore = smooth(-0.25, 0.25, torch.sin(5 * angle))
    seam = torch.exp(-((torch.sin(5 * angle) / (0.06 + 3 * edge)) ** 2)) * (0.10 / (0.10 + 2 * edge))
    light = (0.86 - 0.26 * torch.sin(angle + 0.25) - 0.10 * y) * (0.62 + 0.38 * c.light)
    cloth = mix(c.hue, 0.60 * c.hue + 0.40, 0.55 * gore) * (light * (1 - 0.35 * seam))[..., None]
    picture = mix(picture, cloth, envelope * chosen)

    basket = inside(x.abs() - 0.20) * inside((y - 1.78).abs() - 0.16)
    ropes = smooth(0.6, -0.6, ((x.abs() - 0.19).abs() - 0.012) / edge) * inside((y - 1.5).abs() - 0.16)
    c.subject = torch.maximum(c.subject, torch.maximum(envelope, basket) * chosen)
    wicker = 0.5 + 0.5 * torch.sin(70 * y) * torch.sin(60 * x) * (1 - 12 * edge).clamp(0, 1)
    brown = x.new_tensor([0.36, 0.23, 0.12]) * (0.75 + 0.35 * wicker * c.light)[..., None]
    return mix(mix(picture, brown, 0.7 * ropes * chosen), brown, basket * chosen)


def draw_boat(c: Canvas, picture: Tensor) -> Tensor:
    if not c.any(lambda s: s.subject == "boat"):
        return picture
    chosen = c.mask(lambda s: s.subject == "boat")
    edge = c.pixel / c.radius
    bob = 0.05 * torch.sin(6.3 * c.time + c.ox)
    heads = c.column([1.0 if s.motion.endswith("right") else -1.0 for s in c.scenes])
    x, y = heads * (c.x - c.sx) / c.radius, (c.y - c.sy) / c.radius + bob

    def inside(value: Tensor) -> Tensor:
        return smooth(0.5, -0.5, value / edge)

    # y = 0 is the water line; the mast stands at x = -0.05
    mainsail = inside(-0.02 - x) * inside(x - 0.02 - 0.62 * (y + 1.55) / 1.3) * inside(y + 0.27)
    jib = inside(x + 0.10) * inside(-0.10 - 0.50 * (y + 1.35) / 1.05 - x) * inside(y + 0.30)
    hull = inside(y) * inside(-0.20 - y) * inside(x.abs() - (0.78 - 0.9 * (y + 0.20)).clamp(min=0.3))
    mast = inside((x + 0.05).abs() - 0.03) * inside(-1.62 - y) * inside(y + 0.2)
    seams = 1 - 0.16 * torch.exp(-((torch.sin(9.0 * y) / (0.10 + 4 * edge)) ** 2)) * (0.2 / (0.2 + 2 * edge))
    light = (0.92 + 0.12 * x) * (0.62 + 0.38 * c.light) * seams
    sails = c.hue * light[..., None]
    wood = x.new_tensor([0.33, 0.20, 0.12]) * (1.15 - 0.5 * (y + 0.1).clamp(0, 1))[..., None]
    wood = wood * (0.5 + 0.5 * c.light)[..., None]
    # the image in the water, broken by ripples, fading downwards
    ripple = c.noise.octaves(0.7 * c.x + c.ox, 6 * c.y - 0.3 * c.time, 7.0, 4, 6 * c.pixel, 0.6)
    mx = x + 0.12 * ripple
    image = inside(mx.abs() - 0.55 + 0.34 * y) * smooth(-0.02, 0.05, y) * (1 - y / 1.5).clamp(0, 1)
    picture = mix(picture, 0.55 * sails + 0.45 * picture, 0.55 * image * chosen)
    for shape, colour in ((mast, wood), (jib, 0.94 * sails), (mainsail, sails), (hull, wood)):
        picture = mix(picture, colour, shape * chosen)
        c.subject = torch.maximum(c.subject, shape * chosen)
    return picture
