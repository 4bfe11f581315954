"""Random landscapes with one subject, and the captions that describe them in a closed vocabulary.

A `Scene` is a handful of numbers and words; `training.render` draws it at any size, so the same scene exists at the
native resolution and, truly, at two or three times that. Lengths are in *units*: the native picture is 144 pixels a
unit, so 256x144 pixels are 16/9 x 1 units, and y points down.
"""

import zlib
from dataclasses import dataclass

import numpy as np

PIXELS_PER_UNIT = 144
ASPECTS = {"wide": (256, 144), "square": (192, 192), "tall": (144, 256)}  # native (width, height), equal token counts

COLOURS = {
    "red": (0.86, 0.13, 0.11),
    "orange": (0.95, 0.47, 0.08),
    "yellow": (0.98, 0.83, 0.16),
    "green": (0.13, 0.58, 0.24),
    "blue": (0.12, 0.33, 0.84),
    "purple": (0.50, 0.17, 0.66),
    "pink": (0.96, 0.38, 0.62),
    "white": (0.96, 0.95, 0.91),
}
SUBJECT_COLOURS = {
    "sun": ("red", "orange", "yellow"),
    "moon": ("white", "yellow", "orange", "pink"),
    "balloon": ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white"),
    "boat": ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white"),
}
MOTIONS = {
    "sun": ("rising", "setting"),
    "moon": ("rising", "setting"),
    "balloon": ("rising", "drifting left", "drifting right"),
    "boat": ("sailing left", "sailing right"),
}
# sky word -> colours of the zenith and of the horizon
SKIES = {
    "blue": ((0.27, 0.50, 0.78), (0.78, 0.87, 0.93)),
    "pink": ((0.52, 0.45, 0.68), (0.95, 0.76, 0.74)),
    "golden": ((0.66, 0.55, 0.52), (0.97, 0.85, 0.62)),
    "grey": ((0.50, 0.55, 0.61), (0.80, 0.82, 0.84)),
    "night": ((0.035, 0.05, 0.13), (0.13, 0.17, 0.31)),
}
RIDGE_COLOURS = {
    "blue": (0.24, 0.34, 0.50),
    "purple": (0.37, 0.29, 0.46),
    "green": (0.21, 0.35, 0.24),
    "grey": (0.40, 0.41, 0.43),
}
RIDGES = ("mountains", "hills")
GROUNDS = {
    "sea": "a calm sea",
    "lake": "a quiet lake",
    "meadow": "a green meadow",
    "desert": "a golden desert",
    "snow": "a snowy plain",
}
WATER = ("sea", "lake")
# A subject that would melt into the sky behind it is never drawn: nobody, and no detector, could count it.
CLASHES = {
    "blue": {"blue", "white"},
    "pink": {"pink", "white"},
    "golden": {"yellow", "orange", "white"},
    "grey": {"white"},
    "night": {"blue", "purple"},
}


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One landscape. Lengths in units, colours linear 0..1, `seed_*` offsets into the noise field."""

    width: float
    height: float
    subject: str
    colour: str
    motion: str
    sky: str
    clouds: bool
    ridge: str
    ridge_colour: str
    ground: str
    horizon: float
    ridge_height: float
    radius: float
    start: tuple[float, float]
    end: tuple[float, float]
    tint: tuple[float, float, float]
    noise: tuple[float, float]
    cloud_drift: float

    def position(self, time: float) -> tuple[float, float]:
        """Centre of the subject at `time` in 0..1."""
        (x0, y0), (x1, y1) = self.start, self.end
        return x0 + (x1 - x0) * time, y0 + (y1 - y0) * time


@dataclass(frozen=True, kw_only=True)
class View:
    """What the camera sees: the rectangle at (x, y) units, drawn at `zoom` * 144 pixels a unit."""

    x: float = 0.0
    y: float = 0.0
    zoom: float = 1.0


def held_out(scene: Scene) -> bool:
    """Whether this combination is kept from training: one in sixteen is, so that tests ask for what was never seen."""
    combination = (scene.subject, scene.colour, scene.ridge, scene.ridge_colour, scene.ground)
    return zlib.crc32(" ".join(combination).encode()) % 16 == 0


def unseen_scenes(rng: np.random.Generator, count: int, aspect: str = "wide") -> list[Scene]:
    """Held-out scenes, the kinds of subject in turn."""
    scenes: list[Scene] = []
    kinds = list(SUBJECT_COLOURS)
    while len(scenes) < count:
        scene = sample_scene(rng, aspect, kinds[len(scenes) % len(kinds)])
        if held_out(scene):
            scenes.append(scene)
    return scenes


def sample_scene(rng: np.random.Generator, aspect: str = "wide", subject: str | None = None) -> Scene:
    """A random scene whose subject stands out and stays inside the picture."""
    px_w, px_h = ASPECTS[aspect]
    width, height = px_w / PIXELS_PER_UNIT, px_h / PIXELS_PER_UNIT
    subject = subject or str(rng.choice(list(SUBJECT_COLOURS)))
    skies = ["night", "night", "pink", "blue"] if subject == "moon" else ["blue", "pink", "golden", "grey"]
    if subject in ("balloon", "boat"):
        skies.append("night")
    sky = str(rng.choice(skies))
    colours = [c for c in SUBJECT_COLOURS[subject] if c not in CLASHES[sky]]
    grounds = list(WATER) if subject == "boat" else list(GROUNDS)
    ground = str(rng.choice(grounds))
    if subject == "boat":
        colours = [c for c in colours if c not in ("blue", "green")] or colours
    colour = str(rng.choice(colours))
    ridge_colour = str(rng.choice([c for c in RIDGE_COLOURS if c != colour or subject != "balloon"]))
    horizon = height * rng.uniform(0.60, 0.72)
    ridge_height = rng.uniform(0.16, 0.30) if subject != "boat" else rng.uniform(0.12, 0.22)
    motion = str(rng.choice(MOTIONS[subject]))
    radius, start, end = _path(rng, subject, motion, width, height, horizon)
    return Scene(
        width=width, height=height, subject=subject, colour=colour, motion=motion, sky=sky,
        clouds=bool(sky != "night" and colour != "white" and rng.random() < 0.55), ridge=str(rng.choice(RIDGES)),
        ridge_colour=ridge_colour, ground=ground, horizon=horizon, ridge_height=ridge_height, radius=radius,
        start=start, end=end, tint=tuple(rng.uniform(-0.03, 0.03, 3)), noise=tuple(rng.uniform(0, 400, 2)),
        cloud_drift=float(rng.choice([-1, 1]) * rng.uniform(0.03, 0.08)),
    )  # fmt: skip


Point = tuple[float, float]


def _path(
    rng: np.random.Generator, subject: str, motion: str, width: float, height: float, horizon: float
) -> tuple[float, Point, Point]:
    """Radius, first and last centre of the subject; travel is 0.22..0.34 units over the clip."""
    travel = rng.uniform(0.22, 0.34)
    if subject in ("sun", "moon"):
        radius = rng.uniform(0.085, 0.115)
        x = width * rng.uniform(0.2, 0.8)
        low = horizon - rng.uniform(0.20, 0.26)
        path = (x, low), (x + rng.uniform(-0.04, 0.04), max(low - travel, radius + 0.03))
        return radius, *(path if motion == "rising" else path[::-1])
    if subject == "balloon":
        radius = rng.uniform(0.095, 0.125)
        margin = 1.4 * radius
        if motion == "rising":
            x, y = width * rng.uniform(0.2, 0.8), horizon - rng.uniform(0.18, 0.26)
            return radius, (x, y), (x + rng.uniform(-0.05, 0.05), max(y - travel, margin))
        y = rng.uniform(margin, max(horizon - 0.26, margin + 0.05))
    else:
        radius = rng.uniform(0.11, 0.14)
        margin = 1.2 * radius
        y = horizon + rng.uniform(0.04, 0.14)
    travel = min(travel, width - 2 * margin - 0.02)
    x = rng.uniform(margin, width - margin - travel)
    path = (x, y), (x + travel, y)
    return radius, *(path if motion.endswith("right") else path[::-1])


def article(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def caption(scene: Scene, view: View, rng: np.random.Generator, *, complete: bool = False) -> str:
    """What `view` shows of `scene`. Unless `complete`, parts are left out at random, and that it is a close view."""
    view_w, view_h = scene.width / view.zoom, scene.height / view.zoom
    x, y = scene.position(0.5)
    parts = []
    if view.x < x < view.x + view_w and view.y < y < view.y + view_h:
        keep_motion = complete or rng.random() < 0.8
        parts.append(article(scene.colour) + f" {scene.subject}" + (f" {scene.motion}" if keep_motion else ""))
    land = []
    sees_ridge = view.y < scene.horizon and view.y + view_h > scene.horizon - 0.7 * scene.ridge_height
    if sees_ridge and (complete or rng.random() < 0.85):
        land.append(f"{scene.ridge_colour} {scene.ridge}")
    if view.y + view_h > scene.horizon + 0.06 and (complete or rng.random() < 0.85):
        land.append(GROUNDS[scene.ground])
    if land:
        parts.append(("over " if parts else "") + " and ".join(land))
    sees_sky = view.y < scene.horizon - scene.ridge_height - 0.1
    if sees_sky and (complete or rng.random() < 0.6):
        sky = f"a {scene.sky} sky"
        if complete or rng.random() < 0.7:
            sky += " with soft clouds" if scene.clouds else (" with stars" if scene.sky == "night" else "")
        parts.append(("under " if parts else "") + sky)
    text = " ".join(parts) or GROUNDS[scene.ground]
    if view.zoom > 1 and (complete or rng.random() < 0.5):
        text = f"a close view of {text}"
    return text


def sample_view(scene: Scene, rng: np.random.Generator, max_zoom: float = 3.0) -> View:
    """A crop of the scene, half of the time around its subject; the crop has the scene's own aspect."""
    zoom = float(rng.uniform(1.5, max_zoom))
    view_w, view_h = scene.width / zoom, scene.height / zoom
    if rng.random() < 0.5:
        (x0, y0), (x1, y1) = scene.start, scene.end
        x = (x0 + x1) / 2 - view_w * rng.uniform(0.3, 0.7)
        y = (y0 + y1) / 2 - view_h * rng.uniform(0.3, 0.7)
    else:
        x, y = rng.uniform(0, scene.width - view_w), rng.uniform(0, scene.height - view_h)
    return View(x=float(np.clip(x, 0, scene.width - view_w)), y=float(np.clip(y, 0, scene.height - view_h)), zoom=zoom)


def vocabulary() -> list[str]:
    """Every word a caption can hold, sorted."""
    phrases = [*COLOURS, "a an over under and with soft clouds stars sky close view of"]
    phrases += [*SUBJECT_COLOURS, *(m for ms in MOTIONS.values() for m in ms), *SKIES, *RIDGE_COLOURS, *RIDGES]
    phrases += GROUNDS.values()
    return sorted({word for phrase in phrases for word in phrase.split()})
