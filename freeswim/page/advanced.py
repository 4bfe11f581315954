"""The advanced settings as the page shows them: pairs as two sliders each, and what follows from what.

Windows, tiles, the guide's size and the logit scale have a default that depends on the resolution. A slider that still
stands at its default follows it; one that was moved stays.
"""

from collections.abc import Mapping
from typing import Any

from freeswim.config import FreeSwimConfig
from freeswim.models import MODELS, BaseModel
from freeswim.page.diagram import window_diagram
from freeswim.page.quality import quality_values
from freeswim.plan import make_plan
from freeswim.request import Request, parse_size
from freeswim.windows import guide_grid

# lowest, highest, step
RANGES: dict[str, tuple[float, float, float]] = {
    "frames": (1, 161, 4),
    "steps": (1, 100, 1),
    "strength": (0, 1, 0.05),
    "guidance_scale": (1, 15, 0.5),
    "flow_shift": (1, 20, 0.5),
    "context_until": (0.05, 1, 0.05),
    "anchor_above": (0, 1, 0.05),
    "refresh_interval": (1, 10, 1),
    "refresh_until": (0.05, 1, 0.05),
    "window_height": (1, 136, 1),
    "window_width": (1, 240, 1),
    "tile_height": (1, 60, 1),
    "tile_width": (1, 80, 1),
    "guide_height": (1, 136, 1),
    "guide_width": (1, 240, 1),
    "logit_scale": (0.8, 1.4, 0.0001),
}

# Settings of two numbers, (height, width) in tokens, and the sliders they are.
PAIRS: dict[str, tuple[str, str]] = {
    "window": ("window_height", "window_width"),
    "query_tile": ("tile_height", "tile_width"),
    "guide_grid": ("guide_height", "guide_width"),
}
AUTOMATIC = (*(side for pair in PAIRS.values() for side in pair), "logit_scale")

# What "Reset to preset" sets: everything that the accordion shows.
NAMES = (
    "frames", "steps", "strength", "guidance_scale", "flow_shift", "negative_prompt", "window_height", "window_width",
    "tile_height", "tile_width", "shift_tiles", "window_mode", "guide", "override", "context_until", "anchor_above",
    "refresh_interval", "refresh_until", "guide_unconditional", "guide_height", "guide_width", "logit_scale",
    "naive_mode",
)  # fmt: skip


def values(model: BaseModel, resolution: str | None = None, quality: str | None = None) -> dict[str, Any]:
    """Every advanced setting by its slider's name, at the defaults of a model, a resolution and a quality.

    An unreadable resolution counts as the model's first preset.
    """
    request = Request(prompt="-", model=model.name)
    asked: dict[str, Any] = {}
    try:
        if resolution:
            asked["width"], asked["height"] = parse_size(resolution)
        shown = Request(prompt="-", model=model.name, **asked).resolved().to_dict()
    except ValueError:
        shown = request.resolved().to_dict()
    shown["frames"] = shown["num_frames"]
    shown |= quality_values(model, quality or "balanced")
    shown |= follow(model, f"{shown['width']}x{shown['height']}", {})
    return {name: shown[name] for name in NAMES}


def follow(model: BaseModel, resolution: str, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """What windows, tiles, guide and logit scale are by default at a resolution, around the `chosen` sliders.

    `chosen`: values by slider's name; a tile follows a window that was chosen, and so on.
    """
    width, height = parse_size(resolution)
    base = Request(prompt="-", model=model.name, width=width, height=height)
    found: dict[str, Any] = {}
    window = base.resolved().window
    found["window_height"], found["window_width"] = window
    window = tuple(int(chosen.get(name, found[name])) for name in PAIRS["window"])  # type: ignore[assignment]
    with_window = Request(prompt="-", model=model.name, width=width, height=height, window=window).resolved()
    found["tile_height"], found["tile_width"] = with_window.query_tile
    plan = make_plan(with_window)
    grid = plan.grid(plan.padded)[1:]
    found["guide_height"], found["guide_width"] = guide_grid((grid[0], grid[1]), window)
    found["logit_scale"] = round(FreeSwimConfig(window=window).effective_logit_scale, 4)
    return found


def automatic(shown: Mapping[str, Any]) -> dict[str, Any]:
    """Of an advanced form's values at its defaults, those that follow the resolution."""
    return {name: shown[name] for name in AUTOMATIC}


def followed(form: Mapping[str, Any], auto: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The sliders that change because the resolution or the window did, and the defaults they have now.

    `auto` holds the defaults they had before: a slider that differs from it was moved by a person, and stays.
    ValueError for a resolution that can't be read.
    """
    chosen = {name: form[name] for name in AUTOMATIC if form[name] != auto[name]}
    now = follow(MODELS[form["model"]], str(form["resolution"]), chosen)
    return {name: now[name] for name in AUTOMATIC if name not in chosen and form[name] != now[name]}, now


def joined(form: Mapping[str, Any]) -> dict[str, Any]:
    """A form with its pairs of sliders as the settings they are: window="9x16" and so on.

    A guide of the default size is left open, as it is in a request that never named it.
    """
    merged = {name: value for name, value in form.items() if not any(name in pair for pair in PAIRS.values())}
    for name, (height, width) in PAIRS.items():
        if form.get(height) is not None and form.get(width) is not None:
            merged[name] = f"{form[height]}x{form[width]}"
    try:
        now = follow(MODELS[form["model"]], str(form["resolution"]), {"window_height": form["window_height"],
                                                                     "window_width": form["window_width"]})  # fmt: skip
    except (KeyError, ValueError, TypeError):
        return merged  # refused elsewhere, by name
    if merged.get("guide_grid") == f"{now['guide_height']}x{now['guide_width']}":
        merged["guide_grid"] = ""
    if form.get("logit_scale") == now["logit_scale"]:
        merged["logit_scale"] = ""
    return merged


def split(form: Mapping[str, Any]) -> dict[str, Any]:
    """The opposite of `joined`, for a form with every pair and its resolution filled in."""
    apart = {name: value for name, value in form.items() if name not in PAIRS}
    for name, sides in PAIRS.items():
        if form.get(name):
            apart |= dict(zip(sides, (int(side) for side in str(form[name]).split("x")), strict=True))
    now = follow(MODELS[form["model"]], str(form["resolution"]), apart)
    for name in AUTOMATIC:
        if apart.get(name) in (None, ""):
            apart[name] = now[name]
    apart["logit_scale"] = round(float(apart["logit_scale"]), 4)  # as fine as its slider
    return apart


def diagram(form: Mapping[str, Any]) -> str:
    """The drawing of windows, tiles and guide for a form's sliders, its model and resolution.

    Empty while they make no config: a tile larger than the window, a resolution that is still being typed.
    """
    try:
        width, height = parse_size(str(form["resolution"]))
        sizes: dict[str, Any] = {name: (int(form[sides[0]]), int(form[sides[1]])) for name, sides in PAIRS.items()}
        request = Request(
            prompt="-",
            model=form["model"],
            width=width,
            height=height,
            window_mode=form["window_mode"],
            shift_tiles=bool(form["shift_tiles"]),
            **sizes,
        )
        plan = make_plan(request)
    except (ValueError, TypeError):
        return ""
    grid, config = plan.grid(plan.padded)[1:], plan.config
    return window_diagram(
        grid=(grid[0], grid[1]),
        window=config.window,
        query_tile=config.query_tile,
        window_mode=config.window_mode,
        guide_grid=config.guide_grid if form["guide"] == "downsampled" else None,
        shift_tiles=config.shift_tiles,
    )
