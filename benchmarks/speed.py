"""How fast is FreeSwim on this device, beside its rivals and beside what the hardware allows?

    python -m benchmarks.speed --output speed.json
    python -m benchmarks.speed --sizes 1920x1088 --official ../FreeSwim-checkout --layers 4 --whole

Every rival gets Wan2.1's configuration (the 1.3B model's, or `--model 14b`) with random weights in bfloat16, 81 frames
and the trained window of 30x52 tokens (45x80). A few layers are timed and scaled to all (`--whole` times all too).
Forward passes are timed apart, after a warm-up, and composed to the refine stage: 35 steps with classifier-free
guidance, the guide run every 5 steps.
What is measured is written to `--output` as it comes, and is the last line printed, as JSON. `--tiny` runs everything
in seconds on a CPU, which says nothing about speed.
"""

import argparse
import gc
import json
import math
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from benchmarks import speed_rivals as rivals
from benchmarks.speed_first import first_step
from benchmarks.speed_kernels import attention_times
from benchmarks.speed_model import (
    TINY,
    WAN_1_3B,
    WAN_14B,
    Grid,
    Setting,
    attention_operations,
    linear_operations,
    sustained_rate,
    window_keys,
)
from benchmarks.speed_vae import vae_times
from freeswim import __version__
from freeswim.cost import Speed, measure_speed
from freeswim.windows import guide_grid

MODELS = {"1.3b": Setting(config=WAN_1_3B), "14b": Setting(config=WAN_14B, window=(45, 80))}
SIZES = ("832x480", "1280x720", "1920x1088", "2560x1440", "3840x2160")
TINY_SIZES = ("128x96", "192x160")
# Ours, as FreeSwimConfig's fields. "paper" is the method as published: its guide has full attention at the target size
# and guides the conditional branch. "output" is the default without its anchor; "both" has context keys in the first
# seven tenths of the steps, "context" in all.
WAYS: dict[str, dict[str, Any]] = {
    "default": {},
    "output": {"anchor_above": 1.0},
    "exact": {"query_tile": (1, 1)},
    "paper": {"query_tile": (1, 1), "guide": "full", "guide_unconditional": False, "anchor_above": 1.0},
    "compiled": {"compiled": True},
    "both": {"override": "both"},
    "context": {"override": "both", "context_until": 1.0, "anchor_above": 1.0},
}


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.first_step and options.model != "1.3b":
        parser.error("--first-step runs the 1.3B model")
    setting = MODELS[options.model]
    if options.tiny:
        setting = Setting(config=TINY, window=(3, 4), latent_frames=2, text_length=8, steps=10, repeats=1)
    report = Report(setting, options.output, limit=options.limit)
    speed = measure_speed(str(setting.device))
    report.data["speed_for_estimates"] = asdict(speed)
    for size in options.sizes or (TINY_SIZES if options.tiny else SIZES):
        for job in jobs(setting, size, options, speed):
            report.measure(job)
    print(json.dumps(report.data))
    return report.data


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(MODELS), default="1.3b", help="Wan2.1's size (default 1.3b)")
    parser.add_argument("--sizes", nargs="+", metavar="WxH", help=f"default: {' '.join(SIZES)}")
    parser.add_argument(
        "--rivals", nargs="+", default=["default", "context", "stock"], choices=[*WAYS, "stock"], metavar="NAME",
        help=f"what to time: {', '.join(WAYS)}, stock (default: default context stock)",
    )  # fmt: skip
    parser.add_argument("--official", type=Path, metavar="PATH", help="a checkout of the authors' code, timed as well")
    parser.add_argument("--official-uncached", action="store_true", help="time the authors' uncached mode too")
    parser.add_argument("--layers", type=int, default=2, help="layers timed, scaled to the model's (default 2)")
    parser.add_argument(
        "--whole", nargs="*", choices=list(WAYS), metavar="NAME",
        help="time these of ours, and their memory, with all layers too (default)",
    )  # fmt: skip
    parser.add_argument("--first-step", action="store_true", help="time the first step of a process, behind stage 1")
    parser.add_argument("--kernels", action="store_true", help="time the attention kernels alone")
    parser.add_argument("--flex", action="store_true", help="FlexAttention among the kernels")
    parser.add_argument("--natten", action="store_true", help="NATTEN, if it is installed, among the kernels")
    parser.add_argument(
        "--vae", type=int, nargs="?", const=81, metavar="FRAMES", help="time the VAE above the native size (81 frames)"
    )
    parser.add_argument("--limit", type=float, default=float("inf"), help="seconds after which nothing new is begun")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes, for a test on the CPU")
    parser.add_argument("--output", type=Path, help="JSON file, rewritten after every measurement")
    return parser


class Report:
    """Everything measured so far, on disk after each measurement: a run that is cut off loses nothing."""

    def __init__(self, setting: Setting, output: Path | None, *, limit: float) -> None:
        self.output, self.limit, self.began = output, limit, perf_counter()
        cuda = setting.device.type == "cuda"
        self.data: dict[str, Any] = {
            "device": torch.cuda.get_device_name(setting.device) if cuda else platform.processor() or "cpu",
            "versions": {"torch": torch.__version__, "diffusers": version("diffusers"), "freeswim": __version__},
            "precision": str(setting.dtype).removeprefix("torch."),
            "frames": 4 * (setting.latent_frames - 1) + 1,
            "window": list(setting.window),
            "steps": setting.steps,
            "interval": setting.interval,
            "layers": setting.config["num_layers"],
            "sizes": {},
        }
        if cuda:
            self.data["versions"]["cudnn"] = str(torch.backends.cudnn.version())

    def measure(self, job: "Job") -> None:
        """Does a job; one that fails or doesn't fit into the time says so in its place."""
        place = self.data if job.size is None else self.data["sizes"].setdefault(job.size, {})
        start = perf_counter()
        if start - self.began > self.limit:
            place[job.name] = {"not run": "no time left"}
        else:
            try:
                with torch.no_grad():
                    place[job.name] = job.work()
            except Exception as error:  # a rival that cannot run here must not cost the others' numbers
                place[job.name] = {"failed": f"{type(error).__name__}: {str(error)[:300]}"}
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        took = perf_counter() - start
        print(f"{job.size or ''} {job.name}: {json.dumps(place[job.name])} [{took:.1f} s]", flush=True)
        if self.output is not None:
            self.output.write_text(json.dumps(self.data, indent=1) + "\n")


@dataclass(frozen=True)
class Job:
    """One measurement: a name in the report, what makes its value, and the size it belongs to."""

    name: str
    work: Callable[[], Any]
    size: str | None = None


def jobs(setting: Setting, size: str, options: argparse.Namespace, speed: Speed) -> list[Job]:
    """All that `options` ask for at one size. At the native size everything fits into the window: stock alone."""
    layers, cuda, grid = options.layers, setting.device.type == "cuda", setting.grid(size)
    context = grid[0] * math.prod(guide_grid(grid[1:], setting.window))
    native = all(side <= window for side, window in zip(grid[1:], setting.window, strict=True))
    made = [Job("floor", partial(floors, setting, grid, context, speed), size)]
    backends = ("_native_cudnn", "native", "_native_flash") if cuda and math.prod(grid) < 200_000 else ("native",)
    if "stock" in options.rivals:
        made += [Job(f"stock, {name}", partial(rivals.stock, setting, grid, layers, name), size) for name in backends]
    if native:
        return made
    for name in (name for name in WAYS if name in options.rivals):
        made.append(Job(f"freeswim, {name}", partial(rivals.ours, setting, grid, layers, **WAYS[name]), size))
    if options.whole is not None:
        made += _whole_models(setting, size, grid, options.whole or ["default"])
    if options.first_step:
        for name, exact in (("first step", False), ("first step, exact", True)):
            made.append(Job(name, partial(first_step, size, exact=exact, tiny=options.tiny), size))
    if options.kernels:
        full = math.prod(grid) <= 200_000
        others = {"flex": options.flex, "natten": options.natten}
        kernels = partial(attention_times, setting, grid, context, full=full, **others)
        made.append(Job("kernels", kernels, size))
    if options.official is not None:
        for mode in ("cached", "uncached") if options.official_uncached else ("cached",):
            work = partial(rivals.official, setting, grid, layers, options.official, cached=mode == "cached")
            made.append(Job(f"official, {mode}", work, size))
    if options.vae:
        trained = f"{16 * setting.window[1]}x{16 * setting.window[0]}"
        made.append(Job("vae", partial(vae_times, setting, size, trained, options.vae, tiny=options.tiny), size))
    return made


def _whole_models(setting: Setting, size: str, grid: Grid, ways: Sequence[str]) -> list[Job]:
    # Of the largest sizes one timing is enough: the record's place hardly makes a difference to time.
    places = (("", "auto"), (", record in main memory", "host"))
    layers = setting.config["num_layers"]
    return [
        Job(
            f"freeswim, {way}, all layers{name}",
            partial(rivals.ours, setting, grid, layers, record=place, **WAYS[way]),
            size,
        )
        for way in ways
        for name, place in (places if math.prod(grid) < 200_000 else places[1:])
    ]


def floors(setting: Setting, grid: Grid, context: int, speed: Speed) -> dict[str, float]:
    """Rates of a matrix product, in short runs and after a second of work, and the seconds at the former of a reuse
    step, both branches guided, with the context override and without, and of a step with full attention."""
    tokens, keys, layers = math.prod(grid), window_keys(setting, grid), setting.config["num_layers"]
    linear = linear_operations(setting, tokens, cross_attention=False)

    def step(keys: int) -> float:
        return 2 * layers * (linear + attention_operations(setting, tokens, keys)) / speed.matrix

    rates = {
        "matrix_TFLOP/s": speed.matrix / 1e12,
        "matrix_TFLOP/s after a second of work": sustained_rate(setting) / 1e12,
    }
    return rates | {"context": step(keys + context), "output": step(keys), "full attention": step(tokens)}


if __name__ == "__main__":
    main()
