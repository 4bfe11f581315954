"""Draws docs/performance.png from the speed benchmark's results. For developers: needs matplotlib.

python -m benchmarks.speed_plot benchmarks/results/speed-h100.json benchmarks/results/speed-h200.json \
    docs/performance.png

What a file doesn't have is taken from the next one: a rival may not run on every device.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Beginning of names in the results, label, colour, marker, and where a point's number stands (offset, alignment).
LINES = (
    ("official, cached", "the authors' code, cached", "#b3541e", "s", (-9, 4), "right"),
    ("stock", "stock diffusers, full attention", "#5b5b66", "^", (-9, 4), "right"),
    ("freeswim, context", "FreeSwim with context keys in every step", "#1f6fb2", "o", (7, -10), "left"),
    ("freeswim, default", "FreeSwim, the default", "#0f9d7a", "D", (7, -10), "left"),
)


def stage_times(files: Sequence[dict[str, Any]], name: str) -> dict[float, tuple[float, str]]:
    """Megapixels of a frame -> seconds of the refine stage, the fastest of a rival's variants, and the device."""
    times: dict[float, tuple[float, str]] = {}
    for data in reversed(files):  # the first file has the last word
        for size, results in data["sizes"].items():
            width, height = (int(side) for side in size.split("x"))
            measured = [value["stage_s"] for key, value in results.items() if _is_of(key, name) and "stage_s" in value]
            if measured:
                times[width * height / 1e6] = min(measured), data["device"]
    return dict(sorted(times.items()))


def _is_of(key: str, name: str) -> bool:
    return key == name or key.startswith(f"{name},")


def draw(files: Sequence[dict[str, Any]], file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.8), dpi=150)
    data = files[0]
    for name, label, colour, marker, place, side in LINES:
        times = stage_times(files, name)
        seconds = [y for y, _ in times.values()]
        axes.plot(list(times), seconds, color=colour, marker=marker, label=label, linewidth=1.8)
        for x, (y, device) in times.items():
            text = f"{y:,.0f} s" if y < 3600 else f"{y / 3600:.1f} h"
            if device != data["device"]:
                text += f" ({device.removeprefix('NVIDIA ')})"
            options: dict[str, Any] = {"textcoords": "offset points", "xytext": place, "ha": side}
            under = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}  # where a line passes
            axes.annotate(text, (x, y), fontsize=8, color=colour, bbox=under, **options)
    sizes = {tuple(int(side) for side in size.split("x")): size for size in data["sizes"]}
    axes.set(xscale="log", yscale="log", ylabel="seconds of the refine stage")
    axes.set_xticks([width * height / 1e6 for width, height in sizes], [f"{w}×{h}" for w, h in sizes])
    axes.minorticks_off()
    axes.set_xlim(axes.get_xlim()[0] * 0.85, axes.get_xlim()[1] * 1.25)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
    axes.set_title(
        f"Wan2.1-1.3B, {data['frames']} frames, {data['steps']} steps with guidance, one {data['device']}", fontsize=10
    )
    figure.tight_layout()
    figure.savefig(file)


if __name__ == "__main__":
    *results, picture = sys.argv[1:]
    draw([json.loads(Path(file).read_text()) for file in results], Path(picture))
