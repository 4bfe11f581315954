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
    core: bool = False
    """Run at every size, not at 2x alone."""

    def config(self, default: FreeSwimConfig) -> FreeSwimConfig | None:
        """The config of this row; `default` is what a visitor gets who changes nothing."""
        if self.choices is None:
            return None
        if self.choices.get("guide") == "none" and "logit_scale" in self.choices:
            return FreeSwimConfig(window=default.window, **self.choices)
        choices = dict(self.choices)
        if self.tile_share is not None:
            choices["query_tile"] = tuple(round(side * self.tile_share) for side in default.window)
        return dataclasses.replace(default, **choices)


def file_stem(name: str) -> str:
    """A row's name as the beginning of a file's."""
    return "".join(c if c.isalnum() else "-" for c in name)


NAIVE: Mapping[str, Any] = {"guide": "none", "logit_scale": 1.0, "query_tile": (1, 1)}
PAPER: Mapping[str, Any] = {"guide": "full", "override": "output", "guide_unconditional": False, "query_tile": (1, 1)}
PER_QUERY: Mapping[str, Any] = {"query_tile": (1, 1)}
OUTPUT: Mapping[str, Any] = {"override": "output", "guide_unconditional": False}


def variants() -> list[Variant]:
    """All rows that denoise."""
    return [
        Variant("full attention", "no guide", None, core=True),
        Variant("blocks (naive)", "no guide", {**NAIVE, "window_mode": "blocks"}),
        Variant("clipped windows (naive)", "no guide", {**NAIVE, "window_mode": "clipped"}, core=True),
        Variant("inward windows", "no guide", {"guide": "none", "query_tile": (1, 1)}, core=True),
        Variant("paper: full guide, output, every step", "full guide", {**PAPER, "refresh_interval": 1}),
        Variant("paper: every 2 steps", "full guide", {**PAPER, "refresh_interval": 2}, core=True),
        Variant("paper: every 5 steps", "full guide", {**PAPER, "refresh_interval": 5}),
        Variant("paper: both passes guided", "full guide", {**PAPER, "guide_unconditional": True}),
        Variant("full guide, both overrides", "full guide", {"guide": "full"}),
        Variant("output, every step", "downsampled guide, output", {**OUTPUT, "refresh_interval": 1}),
        Variant("output, every 2 steps", "downsampled guide, output", {**OUTPUT, "refresh_interval": 2}, core=True),
        Variant("output, every 5 steps", "downsampled guide, output", {**OUTPUT, "refresh_interval": 5}),
        Variant("output, frozen after a tenth", "downsampled guide, output", {**OUTPUT, "refresh_until": 0.1}),
        Variant("output, both passes guided", "downsampled guide, output", {**OUTPUT, "guide_unconditional": True}),
        Variant("context", "downsampled guide, context", {"override": "context"}, core=True),
        Variant("default", "downsampled guide, both", core=True),
        Variant("default, context to the end", "downsampled guide, both", {"context_until": 1.0}, core=True),
        Variant("default, context in the first half", "downsampled guide, both", {"context_until": 0.5}),
        Variant("default, every step", "downsampled guide, both", {"refresh_interval": 1}),
        Variant("default, every 5 steps", "downsampled guide, both", {"refresh_interval": 5}),
        Variant("default, frozen after a tenth", "downsampled guide, both", {"refresh_until": 0.1}),
        Variant("prompted pass guided only", "downsampled guide, both", {"guide_unconditional": False}, core=True),
        Variant("default, logit scale off", "details", {"logit_scale": 1.0}),
        Variant("default, a window per query", "details", PER_QUERY),
        Variant("default, shifted tiles", "details", {"shift_tiles": True}),
        Variant("default, tiles of two thirds", "details", tile_share=2 / 3),
        Variant("default, tiles of the whole window", "details", tile_share=1),
        Variant("default, whole-window tiles, shifted", "details", {"shift_tiles": True}, tile_share=1),
        *(
            Variant(f"{name}, strength {strength}", f"strength {strength}", choices, strength, core=strength > 0.7)
            for strength in (0.5, 0.85, 1.0)
            for name, choices in (("clipped windows (naive)", {**NAIVE, "window_mode": "clipped"}), ("default", {}))
        ),
    ]
