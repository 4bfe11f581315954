"""The rows of the quality table: one choice changed at a time."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from freeswim import FreeSwimConfig


@dataclass(frozen=True)
class Variant:
    """One way to run stage 2."""

    name: str
    group: str
    """Rows of a group are read together."""
    choices: Mapping[str, Any] | None = field(default_factory=dict)
    """FreeSwimConfig fields that differ from the package's defaults. None: the stock model, full attention."""
    strength: float | None = None
    """None: the model's own."""
    tile_share: float | None = None
    """The query tile as a share of the window, each way. None: as in `choices`, or the default's third."""
    guide_share: float | None = None
    """The guide's grid as a share of the window, each way, in the trained shape. None: all of it."""
    core: bool = False
    """Run at every size."""
    large: bool = False
    """Run at 2x and 3x. Neither: at 2x alone."""

    def config(self, default: FreeSwimConfig) -> FreeSwimConfig | None:
        """The config of this row; `default` is what a visitor gets who changes nothing."""
        if self.choices is None:
            return None
        if self.choices.get("guide") == "none" and "logit_scale" in self.choices:
            return FreeSwimConfig(window=default.window, **self.choices)
        choices = dict(self.choices)
        if self.tile_share is not None:
            choices["query_tile"] = tuple(round(side * self.tile_share) for side in default.window)
        if self.guide_share is not None:
            choices["guide_grid"] = tuple(round(side * self.guide_share) for side in default.window)
        return dataclasses.replace(default, **choices)


def file_stem(name: str) -> str:
    """A row's name as the beginning of a file's."""
    return "".join(c if c.isalnum() else "-" for c in name)


OFF: Mapping[str, Any] = {"anchor_above": 1.0}
NAIVE: Mapping[str, Any] = {"guide": "none", "logit_scale": 1.0, "query_tile": (1, 1)}
CLIPPED: Mapping[str, Any] = {**NAIVE, "window_mode": "clipped"}
PAPER: Mapping[str, Any] = {
    **OFF, "guide": "full", "override": "output", "guide_unconditional": False, "query_tile": (1, 1),
}  # fmt: skip
OUTPUT: Mapping[str, Any] = {**OFF, "override": "output", "guide_unconditional": False}
BOTH: Mapping[str, Any] = {**OFF, "override": "both", "context_until": 0.7}
CONTEXT: Mapping[str, Any] = {**OFF, "override": "context", "context_until": 1.0}


def variants() -> list[Variant]:
    """All rows that denoise."""
    return [
        Variant("default", "anchored", core=True),
        Variant("clipped windows (naive)", "no guide", CLIPPED, core=True),
        Variant("full attention", "no guide", None, core=True),
        Variant("paper: every 2 steps", "full guide", {**PAPER, "refresh_interval": 2}, core=True),
        Variant("output, every 2 steps", "downsampled guide", {**OUTPUT, "refresh_interval": 2}, core=True),
        Variant("output and context", "downsampled guide", BOTH, core=True),
        *(
            Variant(f"{name}, strength {strength}", f"strength {strength}", choices, strength, large=strength > 0.7)
            for strength in (1.0, 0.85, 0.5)
            for name, choices in (("clipped windows (naive)", CLIPPED), ("default", {}))
        ),
        Variant("anchored above 0.5", "anchored", {"anchor_above": 0.5}, large=True),
        Variant("anchored above 0.7", "anchored", {"anchor_above": 0.7}, large=True),
        Variant("anchored above 0.7, output and context", "anchored", {**BOTH, "anchor_above": 0.7}, large=True),
        Variant("inward windows", "no guide", {"guide": "none", "query_tile": (1, 1)}, large=True),
        Variant("blocks (naive)", "no guide", {**NAIVE, "window_mode": "blocks"}),
        Variant("paper: full guide, output, every step", "full guide", {**PAPER, "refresh_interval": 1}),
        Variant("paper: every 5 steps", "full guide", {**PAPER, "refresh_interval": 5}),
        Variant("paper: both passes guided", "full guide", {**PAPER, "guide_unconditional": True}),
        Variant("full guide, anchored", "full guide", {"guide": "full", "query_tile": (1, 1)}),
        Variant("output, every step", "downsampled guide", {**OUTPUT, "refresh_interval": 1}),
        Variant("output, every 5 steps", "downsampled guide", {**OUTPUT, "refresh_interval": 5}),
        Variant("output, frozen after a tenth", "downsampled guide", {**OUTPUT, "refresh_until": 0.1}),
        Variant("output, both passes guided", "downsampled guide", {**OUTPUT, "guide_unconditional": True}),
        Variant("context", "downsampled guide", CONTEXT),
        Variant("output and context, to the end", "downsampled guide", {**BOTH, "context_until": 1.0}),
        Variant("default, every step", "anchored", {"refresh_interval": 1}),
        Variant("default, every 5 steps", "anchored", {"refresh_interval": 5}),
        Variant("default, frozen after a tenth", "anchored", {"refresh_until": 0.1}),
        Variant("default, prompted pass guided only", "anchored", {"guide_unconditional": False}),
        Variant("guide of three quarters", "anchored", guide_share=3 / 4, large=True),
        Variant("guide of a half", "anchored", guide_share=1 / 2, large=True),
        Variant("default, logit scale off", "details", {"logit_scale": 1.0}),
        Variant("default, a window per query", "details", {"query_tile": (1, 1)}),
        Variant("default, shifted tiles", "details", {"shift_tiles": True}),
        Variant("default, tiles of two thirds", "details", tile_share=2 / 3),
        Variant("default, tiles of the whole window", "details", tile_share=1),
        Variant("default, whole-window tiles, shifted", "details", {"shift_tiles": True}, tile_share=1),
    ]
