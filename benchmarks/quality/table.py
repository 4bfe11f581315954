"""From measurements of clips to a row of the table."""

from typing import Any

import numpy as np

from benchmarks.quality.measures import Values
from benchmarks.quality.statistics import geometric_mean, mean, share

SHARES = ("one", "right", "kind", "colour", "sky", "ground", "motion")
RATIOS = ("detail", "width")
MEANS = ("caption", "subjects", "structure", "seam", "token_seam", "flicker")


def row(values: Values, prompts: int) -> dict[str, Any]:
    """[mean, low, high] of each measure over the clips, of which every `prompts` show the same prompts again.

    one, right: share of clips whose frames mostly show exactly one subject, and the one asked for; subjects: how many;
    caption: share right of kind, colour, sky, ground and motion, each of which is there too; structure: PSNR in dB of
    the video averaged down against the native one; detail: energy of fine structure over that of the true scene
    at this size; width: of the largest subject over its width in the enlarged native video; seam: gradient across tile
    borders over that beside them; token_seam: across all borders of tokens; flicker: change between frames beyond the
    enlarged native video's, in grey levels.
    """
    values = values | {"caption": np.mean([values[n] for n in ("kind", "colour", "sky", "ground", "motion")], axis=0)}
    result: dict[str, tuple[float, float, float]] = {name: share(values[name]) for name in SHARES}
    result |= {name: mean(values[name], prompts) for name in MEANS}
    for name in RATIOS:
        seen = np.where(np.isfinite(values[name]) & (values[name] > 0), values[name], 1.0)  # no subject: no ratio
        result[name] = geometric_mean(seen, prompts)
    return {name: [round(v, 4) for v in three] for name, three in result.items()}


def line(name: str, one: dict[str, Any]) -> str:
    """A row for the terminal."""
    shown = ("one", "right", "subjects", "caption", "structure", "detail", "width", "seam", "flicker")
    cost = "".join(f"  {key} {one[key]}" for key in ("seconds_per_step", "peak_gib") if one.get(key) is not None)
    return f"{name:42s} " + "  ".join(f"{key} {one[key][0]:.3f}" for key in shown) + cost
