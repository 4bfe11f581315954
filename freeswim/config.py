"""FreeSwimConfig: every choice of the method, validated when it is made."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self, get_args

WindowMode = Literal["inward", "clipped", "blocks"]
Guide = Literal["full", "downsampled", "none"]
Override = Literal["output", "context", "both"]


@dataclass(frozen=True, kw_only=True)
class FreeSwimConfig:
    """How FreeSwim (arXiv 2511.14712) runs on a transformer. Lengths are in tokens of the transformer's grid (T, H, W).

    Raises:
        ValueError: A value is out of range; the message names it and says what is allowed.
    """

    window: tuple[int, int]
    """(h, w) of the window that a query sees: the spatial grid the model was trained on, e.g. (30, 52) for 832x480."""

    query_tile: tuple[int, int] = (1, 1)
    """(h, w) of a tile of queries that share one window. (1, 1) is the paper's window per query; a tile is never larger
    than the window, and up to a third of it each way leaves no seam (docs/quality.md: 1.04 as with (1, 1); all of it
    1.53)."""

    shift_tiles: bool = False
    """Shift the tile grid by half a tile in every second block, so that no seam stays in one place. Hardly any tile
    gains by it: of the whole window's 1.53 it leaves 1.50 (docs/quality.md)."""

    window_mode: WindowMode = "inward"
    """Where windows lie: "inward" moves a window at the border inside (the method), "clipped" cuts it off there and
    "blocks" cuts the grid into fixed blocks (the two naive baselines)."""

    guide: Guide = "downsampled"
    """The forward pass that guides the window pass: "full" self-attention at the target size (the paper), "downsampled"
    latents at the trained size, or "none". Decided by docs/quality.md: with the same override the guide at the trained
    size keeps one subject more often, 47 % against 31 %, anchored 97 % against 69 %, and costs less."""

    override: Override = "output"
    """What the guide hands over: its cross-attention "output" replaces the window pass's own (the paper), its
    self-attention keys and values are further "context" for every window query, or "both". Decided by docs/quality.md:
    with the anchor, output alone keeps one subject in 97 % of the clips; the context adds 3 % and doubles attention."""

    context_until: float = 0.7
    """Windows see the guide's keys and values, where these are handed over, in this first part of the steps only; an
    "output" override goes on to the end. In (0, 1]; where nobody tells the number of steps it is 1. Decided by
    docs/quality.md: at 0.7 one subject as often as at 1, 98 %, and detail 0.34 against 0.28."""

    anchor_above: float = 0.6
    """While the noise level is above this, the coarse structure of the clean estimate is the guide's (freeswim.anchor);
    1 is never. Levels are flow matching's, 0..1, so that this does not depend on strength, steps or shift. Decided by
    docs/quality.md: one subject in 97 % of the clips (never: 47 %). Lower, the guide's coarse grid begins to show."""

    refresh_interval: int = 2
    """The guide runs at steps 0, P, 2P, ... and is reused between. 1 or more; the authors' default is 2.
    On the embedded model 1, 2 and 5 look alike (docs/quality.md)."""

    refresh_until: float = 1.0
    """The guide runs in this first part of the steps only and is frozen afterwards. In (0, 1]. A tenth is too little:
    64 % of the clips then show the right thing, not 91 % (docs/quality.md)."""

    guide_unconditional: bool = True
    """Guide the unconditional pass too. Off, that pass is windows alone, as in the authors' cached mode: guidance then
    amplifies the difference between the passes, and texture gets harsh (docs/quality.md: detail 0.57, with it 0.38)."""

    logit_scale: float | None = None
    """Factor on self-attention logits at the target size; 1 is off. None: sqrt(log(2hw) / log(hw)) of the window, the
    authors' entropy correction (1.0461 at 30x52)."""

    guide_grid: tuple[int, int] | None = None
    """(h, w) of the downsampled guide. None: the target's aspect ratio at about as many tokens as the window has."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "window", _pair("window", self.window))
        object.__setattr__(self, "query_tile", _pair("query_tile", self.query_tile))
        if self.guide_grid is not None:
            object.__setattr__(self, "guide_grid", _pair("guide_grid", self.guide_grid))
        if any(tile > window for tile, window in zip(self.query_tile, self.window, strict=True)):
            raise ValueError(
                f"query_tile={self.query_tile} is larger than window={self.window}: its border queries would not see "
                "themselves. Use a tile of at most the window, better a third of it each way."
            )
        for name, choices in (("window_mode", WindowMode), ("guide", Guide), ("override", Override)):
            value = getattr(self, name)
            if value not in get_args(choices):
                raise ValueError(f"{name}={value!r} is not one of {', '.join(map(repr, get_args(choices)))}.")
        for name in ("shift_tiles", "guide_unconditional"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name}={getattr(self, name)!r} must be True or False.")
        if not _is_int(self.refresh_interval) or self.refresh_interval < 1:
            raise ValueError(f"refresh_interval={self.refresh_interval!r} must be a whole number of steps, 1 or more.")
        for name in ("context_until", "refresh_until"):
            value = getattr(self, name)
            if not _is_number(value) or not 0 < value <= 1:
                raise ValueError(f"{name}={value!r} must be a part of the steps, above 0 and at most 1.")
        if not _is_number(self.anchor_above) or not 0 <= self.anchor_above <= 1:
            raise ValueError(f"anchor_above={self.anchor_above!r} must be a noise level, 0 to 1, and 1 is off.")
        if self.logit_scale is not None and (
            not _is_number(self.logit_scale) or not math.isfinite(self.logit_scale) or self.logit_scale <= 0
        ):
            raise ValueError(
                f"logit_scale={self.logit_scale!r} must be a finite number above 0, 1 to switch it off, or None for "
                "the authors' value."
            )

    @classmethod
    def naive(cls, window: tuple[int, int], mode: WindowMode = "clipped") -> Self:
        """The naive baseline: windows of `mode` per query (or per block), no guide, plain logits."""
        return cls(window=window, window_mode=mode, guide="none", logit_scale=1.0)

    @property
    def effective_logit_scale(self) -> float:
        """The factor in use: `logit_scale`, or the authors' value for the window."""
        if self.logit_scale is not None:
            return self.logit_scale
        tokens = math.prod(self.window)
        # One token has entropy 0, and nothing to correct.
        return math.sqrt(math.log(2 * tokens) / math.log(tokens)) if tokens > 1 else 1.0

    @property
    def tensors_recorded(self) -> int:
        """How many a guide pass keeps of each block: the cross-attention's output, self-attention's keys and values."""
        return {"output": 1, "context": 2, "both": 3}[self.override]

    def sees_context(self, step: int, steps: int | None) -> bool:
        """Whether windows see the guide's keys and values at a step of `steps`; None: their number is not known."""
        if self.guide == "none" or self.override == "output":
            return False
        return steps is None or _is_in_first(self.context_until, step, steps)

    def anchors(self, sigma: float | None) -> bool:
        """Whether the guide's coarse structure is put in at noise level `sigma`; never where that is not known."""
        return self.guide != "none" and sigma is not None and sigma > self.anchor_above

    def needs_guide(self, step: int, steps: int | None, sigma: float | None) -> bool:
        """Whether a guide has anything to hand over at a step of `steps`, at noise level `sigma`."""
        if self.guide == "none":
            return False
        return self.override != "context" or self.sees_context(step, steps) or self.anchors(sigma)

    def refreshes_guide(self, step: int, steps: int | None, sigma: float | None) -> bool:
        """Whether the guide is computed anew at a step of `steps`: at 0, P, 2P, ... of the part that has refreshes."""
        if not self.needs_guide(step, steps, sigma) or step % self.refresh_interval:
            return False
        return step == 0 or steps is None or _is_in_first(self.refresh_until, step, steps)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-safe values; `from_dict` reads them back."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The config of a `to_dict` result, also after a trip through JSON."""
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise ValueError(f"Unknown FreeSwimConfig fields: {', '.join(unknown)}.")
        return cls(**values)


def _is_in_first(part: float, step: int, steps: int) -> bool:
    # Divided, not multiplied: 7 / 100 < 0.07 is false, 7 < 0.07 * 100 is true.
    return part == 1 or step / steps < part


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _pair(name: str, value: Any) -> tuple[int, int]:
    if not isinstance(value, tuple | list) or len(value) != 2 or not all(_is_int(v) and v >= 1 for v in value):
        raise ValueError(f"{name}={value!r} must be a pair (height, width) of whole numbers of tokens, each 1 or more.")
    return value[0], value[1]
