"""One typed description of a run, shared by the command line, the page, the API and the settings in a video file.

A Request says what was asked for: None is "the model's own default". `Request.resolved()` fills those in and checks
everything, before anything heavy is imported or loaded; `freeswim.plan` turns the result into sizes and configs.
"""

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

from freeswim.config import FreeSwimConfig, Guide, Override, WindowMode
from freeswim.models import BaseModel, find_model
from freeswim.sizes import Size, native_size, padded_size
from freeswim.windows import balanced_tile

NaiveMode = Literal["clipped", "blocks"]

MIN_SIDE, MAX_SIDE = 64, 8192  # pixels
MAX_FRAMES = 1025
MAX_STEPS = 1000  # the number of noise levels these models were trained on
MAX_SEED = 2**32 - 1  # torch's CPU generator looks at 32 bits only
MAX_PROMPT = 10_000  # letters; far more than any of the text encoders reads

# Request fields that are FreeSwimConfig fields under the same name.
CONFIG_FIELDS = (
    "window",
    "query_tile",
    "shift_tiles",
    "window_mode",
    "guide",
    "override",
    "context_until",
    "anchor_above",
    "refresh_interval",
    "refresh_until",
    "guide_unconditional",
    "logit_scale",
    "guide_grid",
)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to make. Sizes are in pixels, windows and tiles are (height, width) in tokens."""

    prompt: str
    negative_prompt: str | None = None
    model: str = "embedded"  # a name in MODELS, or a checkpoint's folder
    width: int | None = None  # even; None: the model's first preset
    height: int | None = None
    num_frames: int | None = None  # 4k + 1
    steps: int | None = None
    guidance_scale: float | None = None  # 1 is off
    strength: float | None = None  # share of the steps that stage 2 runs; 1 starts from pure noise
    flow_shift: float | None = None  # of stage 2
    seed: int = 0
    compare: bool = False  # make the naive video as well
    naive_mode: NaiveMode = "clipped"
    window: tuple[int, int] | None = None  # None: the grid that the model was trained on, in the target's shape
    query_tile: tuple[int, int] | None = None  # None: up to a third of the window each way, even on the grid
    shift_tiles: bool | None = None
    window_mode: WindowMode | None = None
    guide: Guide | None = None
    override: Override | None = None
    context_until: float | None = None
    anchor_above: float | None = None
    refresh_interval: int | None = None
    refresh_until: float | None = None
    guide_unconditional: bool | None = None
    logit_scale: float | None = None
    guide_grid: tuple[int, int] | None = None  # None: the target's shape, about as many tokens as the window has

    def resolved(self, model: BaseModel | None = None) -> "Resolved":
        """This request with every None filled in from `model` (default: the one it names), everything checked.

        Raises:
            ValueError: In one line, naming the value and what to do. Nothing was loaded by then.
        """
        _check_text("prompt", self.prompt, empty_allowed=False)
        model = model or find_model(self.model)
        if self.naive_mode not in get_args(NaiveMode):
            raise ValueError(f"naive_mode={self.naive_mode!r} is unknown: use {' or '.join(get_args(NaiveMode))}")
        if not isinstance(self.compare, bool):
            raise ValueError(f"compare={self.compare!r} must be true or false")
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)} | {"model": model.name}
        values |= _with_defaults(self, model)
        values |= _checked_numbers(values, model)
        _check_text("negative_prompt", values["negative_prompt"])
        _check_strength(values["steps"], values["strength"])
        return Resolved(**values | _config_values(values, model))

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-safe values."""
        values = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def to_json(self) -> str:
        return json.dumps(self.to_dict())

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The request of a `to_dict`, or of a video file's settings (whose "run", what came of it, is left out)."""
        values = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items() if name != "run"}
        unknown = sorted(set(values) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise ValueError(f"unknown settings: {', '.join(unknown)}; were they written by another version?")
        if "prompt" not in values:
            raise ValueError("the settings have no prompt")
        return cls(**values)

    @classmethod
    def from_json(cls, text: str) -> Self:
        try:
            values = json.loads(text)
        except ValueError as error:
            raise ValueError(f"the settings are no valid JSON: {error}") from error
        if not isinstance(values, dict):
            raise ValueError("the settings must be a JSON object")
        return cls.from_dict(values)


@dataclass(frozen=True, kw_only=True)
class Resolved(Request):
    """A request with nothing left open, checked. Made by `Request.resolved()`."""

    negative_prompt: str
    width: int
    height: int
    num_frames: int
    steps: int
    guidance_scale: float
    strength: float
    flow_shift: float
    window: tuple[int, int]
    query_tile: tuple[int, int]


def parse_size(text: str) -> tuple[int, int]:
    """(width, height) in pixels from "512x288"; ValueError for anything else and for sizes out of range."""
    width, height = _parse_pair("size", text, 'WIDTHxHEIGHT in pixels, such as "512x288"')
    return _side("width", width), _side("height", height)


def parse_tokens(name: str, text: str) -> tuple[int, int]:
    """(height, width) in tokens from "9x16"; ValueError naming the option `name` for anything else."""
    height, width = _parse_pair(name, text, 'HEIGHTxWIDTH in tokens, such as "9x16"')
    if height < 1 or width < 1:
        raise ValueError(f"{name}={text!r}: both numbers must be 1 or more tokens")
    return height, width


def _parse_pair(name: str, text: str, form: str) -> tuple[int, int]:
    match = re.fullmatch(r"\s*(-?\d{1,9})\s*[xX×*]\s*(-?\d{1,9})\s*", text) if isinstance(text, str) else None
    if not match:
        raise ValueError(f"{name}={text!r} isn't understood: write it as {form}")
    return int(match[1]), int(match[2])


def _with_defaults(request: Request, model: BaseModel) -> dict[str, Any]:
    """The fields that the request leaves open, from the model (the config's fields come later)."""
    if (request.width is None) != (request.height is None):
        raise ValueError(f"width={request.width} and height={request.height}: give both, or neither for the default")
    defaults = {
        "negative_prompt": model.default_negative_prompt,
        "width": model.presets[0][1],
        "height": model.presets[0][2],
        "num_frames": model.native_frames,
        "steps": model.default_steps,
        "guidance_scale": model.guidance_scale,
        "strength": model.strength,
        "flow_shift": model.refine_shift,
    }
    return {name: value for name, value in defaults.items() if getattr(request, name) is None}


def _checked_numbers(values: Mapping[str, Any], model: BaseModel) -> dict[str, Any]:
    k = model.frames_per_latent
    frames = _integer("num_frames", values["num_frames"], 1, MAX_FRAMES)
    below = frames - (frames - 1) % k
    if frames != below:
        raise ValueError(f"num_frames={frames} must be {k}k + 1 for this model: use {below} or {below + k}")
    return {
        "width": _side("width", values["width"]),
        "height": _side("height", values["height"]),
        "num_frames": frames,
        "steps": _integer("steps", values["steps"], 1, MAX_STEPS),
        "seed": _integer("seed", values["seed"], 0, MAX_SEED),
        "guidance_scale": _number("guidance_scale", values["guidance_scale"], 1, 100, "1 switches guidance off"),
        "strength": _number("strength", values["strength"], 0, 1, "0 only enlarges, 1 starts from pure noise"),
        "flow_shift": _number("flow_shift", values["flow_shift"], 0.01, 100, "the method's is 9"),
    }


def _check_strength(steps: int, strength: float) -> None:
    """A strength above 0 must select a step."""
    if strength > 0 and refine_steps(steps, strength) == 0:
        raise ValueError(
            f"strength={strength} of steps={steps} selects no step at all: raise strength to {1 / steps:.3g} or more, "
            "raise steps, or use strength 0 to only enlarge"
        )


def refine_steps(steps: int, strength: float) -> int:
    """How many of `steps` denoising steps stage 2 runs: the last round(steps * strength) of them (SDEdit)."""
    return min(steps, math.floor(steps * strength + 0.5))


def _config_values(values: Mapping[str, Any], model: BaseModel) -> dict[str, Any]:
    """Every FreeSwimConfig field of the request, filled in and checked by FreeSwimConfig itself."""
    asked = {name: values[name] for name in CONFIG_FIELDS if values[name] is not None}
    if "window" not in asked:
        native = native_size(Size(values["width"], values["height"]), model.native, model.token_pixels)
        asked["window"] = native.height // model.token_pixels, native.width // model.token_pixels
    fields = {**model.freeswim, **asked}
    # Up to a third of the window each way a tile leaves no visible seam (measured on the embedded model).
    window = FreeSwimConfig(window=fields["window"]).window
    target = padded_size(Size(values["width"], values["height"]), model.token_pixels)
    grid = target.height // model.token_pixels, target.width // model.token_pixels
    fields.setdefault("query_tile", balanced_tile(grid, window))
    config = FreeSwimConfig(**fields)
    return {name: getattr(config, name) for name in CONFIG_FIELDS} | {"logit_scale": config.effective_logit_scale}


def _side(name: str, value: object) -> int:
    side = _integer(name, value, MIN_SIDE, MAX_SIDE, " pixels")
    if side % 2:
        raise ValueError(f"{name}={side} is odd, which H.264 video can't be: use {side - 1} or {side + 1}")
    return side


def _integer(name: str, value: object, low: int, high: int, unit: str = "") -> int:
    # JSON and sliders give whole numbers as floats.
    whole = value if isinstance(value, int) else int(value) if isinstance(value, float) and value.is_integer() else None
    if whole is None or isinstance(value, bool) or not low <= whole <= high:
        raise ValueError(f"{name}={value!r} must be a whole number from {low} to {high}{unit}")
    return whole


def _number(name: str, value: object, low: float, high: float, hint: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:  # nan fails too
        raise ValueError(f"{name}={value!r} must be a number from {low:g} to {high:g} ({hint})")
    return float(value)


def _check_text(name: str, value: object, *, empty_allowed: bool = True) -> None:
    if not isinstance(value, str):
        raise ValueError(f"{name}={value!r} must be text")
    if not empty_allowed and not value.strip():
        raise ValueError(f"{name}={value!r} is empty: say what the video should show")
    if len(value) > MAX_PROMPT:
        raise ValueError(f"{name} has {len(value)} letters: use at most {MAX_PROMPT}")
