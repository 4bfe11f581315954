"""Draws scenes at any size. Every texture is a sum of noise octaves, and the ones finer than a pixel fade out, so a
larger picture holds truly more detail and a smaller one has no aliasing.

Tensors are (B, T, H, W) unless a shape says otherwise; T is 1 for what does not move. Colours are 0..1 RGB, last axis.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F

from training.scenes import COLOURS, PIXELS_PER_UNIT, RIDGE_COLOURS, SKIES, Scene, View

FIELD = 512  # lattice points of the periodic noise field, a side


class Renderer:
    """Batched renderer. `device` holds the noise field; scenes of one batch may differ in everything but aspect."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        field = torch.rand(1, 1, FIELD, FIELD, generator=torch.Generator().manual_seed(7)) * 2 - 1
        self.field = F.pad(field, (0, 1, 0, 1), mode="circular").to(self.device)
        # nearly all the time goes here; compiled it is one kernel instead of twenty
        self._noise = torch.compile(_value_noise, dynamic=True) if self.device.type == "cuda" else _value_noise

    @torch.no_grad()
    def __call__(self, scenes: list[Scene], views: list[View], size: tuple[int, int], frames: int) -> torch.Tensor:
        """Draw `scenes` through `views`. `size` is (height, width) in pixels. Returns (B, T, H, W, 3) in 0..1."""
        return self.with_subject(scenes, views, size, frames)[0]

    @torch.no_grad()
    def with_subject(
        self, scenes: list[Scene], views: list[View], size: tuple[int, int], frames: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The pictures, and how much of each pixel the subject itself covers: (B, T, H, W) in 0..1."""
        canvas = _Canvas(self, scenes, views, size, frames)
        picture = canvas.sky()
        picture = canvas.clouds(picture)
        picture = canvas.celestial(picture)
        picture = canvas.ridges(picture)
        picture = canvas.ground(picture)
        picture = canvas.balloon(picture)
        picture = canvas.boat(picture)
        shape = (len(scenes), frames, *size)
        return picture.clamp(0, 1).expand(*shape, 3), canvas.subject.expand(shape)

    def noise(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Smooth value noise in -1..1 with one lattice point per unit of x and y."""
        x, y = torch.broadcast_tensors(x, y)
        width = x.shape[-1]  # as two plain matrices, so that one compiled kernel serves all shapes
        return self._noise(self.field, x.reshape(-1, width), y.reshape(-1, width)).view(x.shape)

    def fbm(self, x, y, frequency: float, octaves: int, pixel, gain: float = 0.5) -> torch.Tensor:
        """Octaves of noise from `frequency` lattice points a unit upwards; `pixel` is the size of a pixel in units."""
        total, weight = 0.0, 0.0
        for octave in range(octaves):
            f, amplitude = frequency * 2**octave, gain**octave
            fade = (2 - 4 * f * pixel).clamp(0, 1)
            weight += amplitude
            if float(fade.max()) == 0:
                continue
            # a turn and a shift per octave, so that the lattices never line up
            c, s = math.cos(1.1 * octave), math.sin(1.1 * octave)
            total = total + amplitude * fade * self.noise(f * (c * x - s * y) + 37.3 * octave, f * (s * x + c * y))
        return total / weight * 1.6


def _value_noise(field: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Look `field` (1, 1, FIELD + 1, FIELD + 1) up at x, y of one shape, eased between its points, periodic."""

    def ease(c: torch.Tensor) -> torch.Tensor:
        whole = c.floor()
        part = c - whole
        return torch.remainder(whole, FIELD) + part * part * (3 - 2 * part)

    grid = torch.stack((ease(x), ease(y)), dim=-1).reshape(1, -1, x.shape[-1], 2)
    grid = (grid + 0.5) * (2 / (FIELD + 1)) - 1
    return F.grid_sample(field, grid, mode="bilinear", align_corners=False).reshape(x.shape)


def _smooth(edge0, edge1, x):
    t = ((x - edge0) / (edge1 - edge0)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def _mix(a, b, amount):
    return a + (b - a) * amount[..., None]


class _Canvas:
    """The parameters of a batch as tensors, and one method a layer, back to front."""

    def __init__(self, renderer: Renderer, scenes, views, size, frames) -> None:
        self.r, self.scenes, self.frames = renderer, scenes, frames
        column = lambda values: torch.tensor(values, dtype=torch.float32, device=renderer.device)[:, None, None, None]  # noqa: E731
        colour = lambda values: torch.tensor(values, dtype=torch.float32, device=renderer.device)[:, None, None, None]  # noqa: E731
        height, width = size
        zoom = column([v.zoom for v in views])
        self.pixel = 1 / (PIXELS_PER_UNIT * zoom)
        rows = torch.arange(height, device=renderer.device, dtype=torch.float32)[:, None] + 0.5
        cols = torch.arange(width, device=renderer.device, dtype=torch.float32)[None, :] + 0.5
        self.x = column([v.x for v in views]) + cols * self.pixel + torch.zeros_like(rows)
        self.y = column([v.y for v in views]) + rows * self.pixel + torch.zeros_like(cols)
        self.time = torch.linspace(0, 1, frames, device=renderer.device)[None, :, None, None]
        self.height = column([s.height for s in scenes])
        self.horizon = column([s.horizon for s in scenes])
        self.ridge_height = column([s.ridge_height for s in scenes])
        self.radius = column([s.radius for s in scenes])
        self.ox, self.oy = column([s.noise[0] for s in scenes]), column([s.noise[1] for s in scenes])
        start, end = (torch.tensor([getattr(s, k) for s in scenes], dtype=torch.float32, device=renderer.device)
                      for k in ("start", "end"))  # fmt: skip
        path = start[:, None] + (end - start)[:, None] * self.time.reshape(1, -1, 1)
        self.sx, self.sy = path[..., 0][..., None, None], path[..., 1][..., None, None]
        self.drift = column([s.cloud_drift for s in scenes]) * self.time
        self.tint = colour([s.tint for s in scenes])
        self.zenith = colour([SKIES[s.sky][0] for s in scenes]) + self.tint
        self.haze = colour([SKIES[s.sky][1] for s in scenes]) + self.tint
        self.hue = colour([COLOURS[s.colour] for s in scenes])
        self.ridge_hue = colour([RIDGE_COLOURS[s.ridge_colour] for s in scenes])
        self.column = column
        self.light = column([0.30 if s.sky == "night" else 1.0 for s in scenes])
        self.subject = torch.zeros_like(self.x)  # coverage of the subject, kept up to date by every layer
        self.is_night = self.mask(lambda s: s.sky == "night")

    def mask(self, test) -> torch.Tensor:
        return self.column([float(test(s)) for s in self.scenes])

    def any(self, test) -> bool:
        return any(test(s) for s in self.scenes)

    # -- sky ---------------------------------------------------------------------------------------------------
    def sky(self) -> torch.Tensor:
        depth = (self.y / self.horizon).clamp(0, 1)
        picture = _mix(self.zenith, self.haze, depth**1.3)
        if self.any(lambda s: s.sky == "night"):
            cell = 0.085
            cx, cy = (self.x / cell + self.ox).floor(), (self.y / cell + self.oy).floor()
            # at whole coordinates the noise is its lattice: one independent number a cell
            jx, jy = self.r.noise(cx + 101, cy + 57), self.r.noise(cx + 211, cy + 17)
            dx = (self.x / cell + self.ox) - cx - 0.5 - 0.38 * jx
            dy = (self.y / cell + self.oy) - cy - 0.5 - 0.38 * jy
            size = (0.0035 + 0.0035 * jx.abs()) / cell
            size = torch.maximum(size, 0.55 * self.pixel / cell)
            star = torch.exp(-(dx * dx + dy * dy) / (size * size)) * (jy.abs() + 0.2) * (0.0045 / cell / size).clamp(max=1)
            picture = picture + (star * self.is_night * (1 - depth))[..., None] * picture.new_tensor([1.0, 0.97, 0.9])
        return picture

    def clouds(self, picture):
        if not self.any(lambda s: s.clouds):
            return picture
        x, y = self.x - self.drift + self.ox, self.y + self.oy
        # flat bottoms and long shapes: the field is stretched along x
        n = self.r.fbm(x * 0.55, y * 1.5, 2.2, 7, self.pixel, 0.52)
        cover = _smooth(0.02, 0.5, n + 0.06) * self.mask(lambda s: s.clouds)
        cover = cover * _smooth(0.0, 0.22, self.horizon - self.y)
        lit = self.r.fbm(x * 0.55 + 0.015, y * 1.5 + 0.03, 2.2, 5, self.pixel, 0.52)
        shade = (0.5 + 1.6 * (n - lit)).clamp(0, 1)
        white = self.haze * 0.35 + 0.65
        colour = _mix(0.74 * self.haze + 0.10, white, shade)
        return _mix(picture, colour, 0.85 * cover)

    # -- sun and moon -------------------------------------------------------------------------------------------
    def celestial(self, picture):
        is_sun, is_moon = self.mask(lambda s: s.subject == "sun"), self.mask(lambda s: s.subject == "moon")
        if not self.any(lambda s: s.subject in ("sun", "moon")):
            return picture
        dx, dy = (self.x - self.sx) / self.radius, (self.y - self.sy) / self.radius
        distance = torch.sqrt(dx * dx + dy * dy + 1e-8)
        glow = torch.exp(-(distance - 1).clamp(min=0) * 1.5) * (0.42 * is_sun + 0.16 * is_moon)
        picture = _mix(picture, 0.55 * self.hue + 0.45, glow)
        disc = _smooth(0.5, -0.5, (distance - 1) * self.radius / self.pixel) * (is_sun + is_moon)
        self.subject = disc
        limb = (1 - distance * distance).clamp(0, 1)
        surface = self.hue * (0.93 + 0.07 * limb)[..., None]
        if self.any(lambda s: s.subject == "moon"):
            craters = self.r.fbm(dx * 0.1 + self.ox, dy * 0.1 + self.oy, 11.0, 5, self.pixel / self.radius * 0.1, 0.62)
            lunar = self.hue * (0.80 + 0.20 * limb.sqrt() + 0.22 * craters.clamp(-1, 0.25))[..., None]
            surface = _mix(surface, lunar, is_moon)
        return _mix(picture, surface, disc)

    # -- ridges --------------------------------------------------------------------------------------------------
    def skyline(self, x, layer: int) -> torch.Tensor:
        """Height of a ridge above the horizon at x, in units; layer 0 is the far one."""
        is_mountains = self.mask(lambda s: s.ridge == "mountains")
        line = self.oy + 91.7 * layer
        smooth = 0.5 + 0.5 * self.r.fbm(x + self.ox, line, 1.7, 3, self.pixel, 0.35)
        total, weight = 0.0, 0.0
        for octave in range(7):
            f, amplitude = 1.9 * 2**octave, 0.5**octave
            fade = (2 - 4 * f * self.pixel).clamp(0, 1)
            total = total + amplitude * fade * (1 - 2 * self.r.noise(f * (x + self.ox) + 13.1 * octave, line).abs())
            weight += amplitude
        sharp = 0.5 + 0.62 * total / weight
        rise = smooth * 0.75 * (1 - is_mountains) + sharp * is_mountains
        return self.ridge_height * (0.28 + 0.85 * rise) * (1.15 if layer == 0 else 0.72)

    def rock(self, x, y, layer: int):
        """Relief of a slope in -1..1: the height field lit from the upper left."""
        px, py, step = x + self.ox + 50 * layer, y + self.oy, 0.012
        a = self.r.fbm(px, 0.75 * py, 7.0, 6, self.pixel, 0.62)
        b = self.r.fbm(px + step, 0.75 * (py + step), 7.0, 6, self.pixel, 0.62)
        return (2.6 * (b - a)).clamp(-1, 1)

    def ridges(self, picture):
        is_mountains = self.mask(lambda s: s.ridge == "mountains")
        for layer in (0, 1):
            top = self.horizon - self.skyline(self.x, layer)
            cover = _smooth(-0.6, 0.6, (self.y - top) / self.pixel)
            relief = self.rock(self.x, self.y, layer)
            base = self.ridge_hue * (0.62 + 0.38 * self.light)[..., None]
            colour = base * (1 + (0.42 * is_mountains + 0.26 * (1 - is_mountains)) * relief)[..., None]
            if layer == 0:
                altitude = (self.horizon - self.y) / self.ridge_height
                snow = _smooth(0.72, 0.86, altitude + 0.22 * relief) * is_mountains
                colour = _mix(colour, (0.86 + 0.10 * relief)[..., None] * (0.45 + 0.55 * self.light)[..., None], 0.85 * snow)
            # air between the eye and the ridge: the far one is paler, both pale towards their feet
            haze = (0.46 if layer == 0 else 0.10) + 0.22 * _smooth(0.0, 1.0, (self.y - top) / self.ridge_height)
            picture = _mix(picture, _mix(colour, self.haze, haze), cover)
            self.subject = self.subject * (1 - cover)
        return picture

    # -- ground --------------------------------------------------------------------------------------------------
    def ground(self, picture):
        below = self.y - self.horizon
        cover = _smooth(-0.5, 0.5, below / self.pixel)
        self.subject = self.subject * (1 - cover)
        depth = (below / (self.height - self.horizon)).clamp(0, 1)
        perspective = 1 / (0.16 + 0.84 * depth)
        wx, wy = (self.x - 0.9) * perspective + self.ox, 1.6 * perspective + self.oy
        # a pixel's footprint on the ground grows with distance, more so along the line of sight
        across, along = self.pixel * perspective, 1.35 * self.pixel * perspective * perspective
        layers = {
            "meadow": self.meadow, "desert": self.desert, "snow": self.snow, "sea": self.water, "lake": self.water,
        }  # fmt: skip
        done = set()
        for name, draw in layers.items():
            if draw in done or not self.any(lambda s, name=name: s.ground == name):
                continue
            done.add(draw)
            kinds = [k for k, d in layers.items() if d == draw]
            chosen = self.mask(lambda s, kinds=kinds: s.ground in kinds)
            picture = _mix(picture, draw(wx, wy, across, along, depth), cover * chosen)
        return picture

    def _lit(self, colour):
        return colour * (0.28 + 0.72 * self.light)[..., None]

    def meadow(self, wx, wy, across, along, depth):
        broad = self.r.fbm(wx, wy, 1.6, 4, along, 0.55)
        # blades: fine across, long along the line of sight
        blades = self.r.fbm(wx, 0.22 * wy, 9.0, 6, torch.maximum(across, 0.22 * along), 0.78)
        tone = (0.45 + 0.30 * broad + 0.55 * blades).clamp(0, 1)
        dark, bright = wx.new_tensor([0.13, 0.27, 0.10]), wx.new_tensor([0.50, 0.66, 0.24])
        return _mix(self._lit(_mix(dark, bright, tone)), self.haze, 0.35 * (1 - depth) ** 3)

    def desert(self, wx, wy, across, along, depth):
        warp = self.r.fbm(wx, wy, 0.9, 3, along, 0.5)
        crest = torch.sin(5.2 * (wy + 0.55 * warp + 0.18 * wx))
        ripple_fade = (2 - 4 * 16 * along).clamp(0, 1)
        ripples = torch.sin(95 * (wy + 0.30 * warp + 0.10 * wx)) * ripple_fade
        grain = self.r.fbm(wx, wy, 12.0, 5, along, 0.8)
        tone = (0.52 + 0.30 * crest + 0.10 * ripples + 0.22 * grain).clamp(0, 1)
        dark, bright = wx.new_tensor([0.56, 0.37, 0.19]), wx.new_tensor([0.95, 0.77, 0.46])
        return _mix(self._lit(_mix(dark, bright, tone)), self.haze, 0.30 * (1 - depth) ** 3)

    def snow(self, wx, wy, across, along, depth):
        drifts = self.r.fbm(wx, wy, 1.1, 5, along, 0.5)
        lit = self.r.fbm(wx + 0.10, wy + 0.08, 1.1, 5, along, 0.5)
        crust = self.r.fbm(wx, wy, 10.0, 5, along, 0.8)
        tone = (0.62 + 1.5 * (drifts - lit) + 0.20 * crust).clamp(0, 1)
        dark, bright = wx.new_tensor([0.60, 0.68, 0.80]), wx.new_tensor([0.95, 0.96, 0.98])
        return _mix(self._lit(_mix(dark, bright, tone)), self.haze, 0.30 * (1 - depth) ** 3)

    def water(self, wx, wy, across, along, depth):
        is_sea = self.mask(lambda s: s.ground == "sea")
        flow = 0.25 * self.time
        swell = self.r.fbm(0.8 * wx + flow, 2.4 * wy - flow, 2.2, 6, 2.4 * along, 0.62)
        glint = self.r.fbm(0.6 * wx - flow, 3.0 * wy + 0.5 * flow, 5.0, 5, 3.0 * along, 0.7)
        deep = 0.42 * self.zenith + self.zenith.new_tensor([0.0, 0.05, 0.08])
        base = _mix(0.80 * self.haze + 0.06, deep, depth**0.6)
        strength = 0.55 * is_sea + 0.30 * (1 - is_sea)
        colour = base * (1 + strength * swell * (0.35 + 0.65 * depth))[..., None]
        # the ridge stands on its head in a lake, shaken by the ripples
        shaken = self.x + 0.030 * swell * (0.3 + depth)
        mirrored = (self.y - self.horizon) * 1.15 + 0.03 * glint * depth
        image = _smooth(0.5, -0.5, (mirrored - self.skyline(shaken, 0)) / 0.012)
        colour = _mix(colour, 0.75 * self.ridge_hue * (0.62 + 0.38 * self.light)[..., None], 0.55 * image * (1 - is_sea))
        # a path of light under the sun and the moon
        shines = self.mask(lambda s: s.subject in ("sun", "moon"))
        if float(shines.max()) > 0:
            spread = 0.05 + 0.10 * depth
            path = torch.exp(-(((self.x - self.sx + 0.05 * swell) / spread) ** 2)) * shines
            sparkle = _smooth(-0.05, 0.55, glint + 0.3 * swell)
            colour = _mix(colour, 0.60 * self.hue + 0.40, 0.75 * path * sparkle)
        return colour

    # -- balloon and boat ----------------------------------------------------------------------------------------
    def balloon(self, picture):
        if not self.any(lambda s: s.subject == "balloon"):
            return picture
        chosen = self.mask(lambda s: s.subject == "balloon")
        edge = self.pixel / self.radius
        x, y = (self.x - self.sx) / self.radius, (self.y - self.sy) / self.radius + 0.35
        taper = 0.937 - 0.74 * ((y - 0.35) / 1.0).clamp(0, 1) ** 1.15
        half = torch.where(y < 0.35, torch.sqrt((1 - y * y).clamp(min=1e-4)), taper)
        envelope = _smooth(0.5, -0.5, (x.abs() - half) / edge) * _smooth(-0.5, 0.5, (y + 1) / edge)
        envelope = envelope * _smooth(0.5, -0.5, (y - 1.35) / edge)
        angle = torch.asin((x / half.clamp(min=0.05)).clamp(-0.999, 0.999))
        gore = _smooth(-0.25, 0.25, torch.sin(5 * angle))
        seam = torch.exp(-((torch.sin(5 * angle) / (0.06 + 3 * edge)) ** 2)) * (0.10 / (0.10 + 2 * edge))
        light = (0.86 - 0.26 * torch.sin(angle + 0.25) - 0.10 * y) * (0.62 + 0.38 * self.light)
        cloth = _mix(self.hue, 0.60 * self.hue + 0.40, 0.55 * gore) * (light * (1 - 0.35 * seam))[..., None]
        picture = _mix(picture, cloth, envelope * chosen)
        wicker = 0.5 + 0.5 * torch.sin(70 * y) * torch.sin(60 * x) * (1 - 12 * edge).clamp(0, 1)
        basket = _smooth(0.5, -0.5, (x.abs() - 0.20) / edge) * _smooth(0.5, -0.5, ((y - 1.78).abs() - 0.16) / edge)
        ropes = _smooth(0.6, -0.6, ((x.abs() - 0.19).abs() - 0.012) / edge) * _smooth(0.5, -0.5, ((y - 1.5).abs() - 0.16) / edge)
        self.subject = torch.maximum(self.subject, torch.maximum(envelope, basket) * chosen)
        brown = x.new_tensor([0.36, 0.23, 0.12]) * (0.75 + 0.35 * wicker * self.light)[..., None]
        return _mix(_mix(picture, brown, 0.7 * ropes * chosen), brown, basket * chosen)

    def boat(self, picture):
        if not self.any(lambda s: s.subject == "boat"):
            return picture
        chosen = self.mask(lambda s: s.subject == "boat")
        edge = self.pixel / self.radius
        bob = 0.05 * torch.sin(6.3 * self.time + self.ox)
        heads = self.column([1.0 if s.motion.endswith("right") else -1.0 for s in self.scenes])
        x, y = heads * (self.x - self.sx) / self.radius, (self.y - self.sy) / self.radius + bob

        def inside(value):
            return _smooth(0.5, -0.5, value / edge)

        # y = 0 is the water line; the mast stands at x = -0.05
        mainsail = inside(-0.02 - x) * inside(x - 0.02 - 0.62 * (y + 1.55) / 1.3) * inside(y + 0.27)
        jib = inside(x + 0.10) * inside(-0.10 - 0.50 * (y + 1.35) / 1.05 - x) * inside(y + 0.30)
        hull = inside(y) * inside(-0.20 - y) * inside(x.abs() - (0.78 - 0.9 * (y + 0.20)).clamp(min=0.3))
        mast = inside((x + 0.05).abs() - 0.03) * inside(-1.62 - y) * inside(y + 0.2)
        seams = 1 - 0.16 * torch.exp(-((torch.sin(9.0 * y) / (0.10 + 4 * edge)) ** 2)) * (0.2 / (0.2 + 2 * edge))
        light = (0.92 + 0.12 * x) * (0.62 + 0.38 * self.light) * seams
        sails = self.hue * light[..., None]
        wood = x.new_tensor([0.33, 0.20, 0.12]) * (1.15 - 0.5 * (y + 0.1).clamp(0, 1))[..., None] * (0.5 + 0.5 * self.light)[..., None]
        # the image in the water, broken by ripples, fading downwards
        ripple = self.r.fbm(0.7 * self.x + self.ox, 6 * self.y - 0.3 * self.time, 7.0, 4, 6 * self.pixel, 0.6)
        mx = x + 0.12 * ripple
        image = inside(mx.abs() - 0.55 + 0.34 * y) * _smooth(-0.02, 0.05, y) * (1 - y / 1.5).clamp(0, 1)
        picture = _mix(picture, 0.55 * sails + 0.45 * picture, 0.55 * image * chosen)
        for shape, colour in ((mast, wood), (jib, 0.94 * sails), (mainsail, sails), (hull, wood)):
            picture = _mix(picture, colour, shape * chosen)
            self.subject = torch.maximum(self.subject, shape * chosen)
        return picture


def to_uint8(video: torch.Tensor) -> np.ndarray:
    """(..., 3) in 0..1 to uint8 on the CPU."""
    return (video * 255).round().to(torch.uint8).cpu().numpy()
