"""How long does the first step of stage 2 wait, in a new process? Kernels are built and libraries loaded then.

python -m benchmarks.speed_first 1920x1088 [--exact]

With `--exact` each query has a window of its own. As in a run of the pipeline, stage 1 comes first, here for a few
seconds, while kernels are built behind it. The last line printed is JSON.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.speed_model import TINY, WAN_1_3B, Setting, inputs, random_transformer, settle
from freeswim import FreeSwimConfig, apply_freeswim
from freeswim.warmup import build_kernels_behind
from freeswim.windows import balanced_tile

_LAYERS = 2
_NATIVE_SECONDS = 15.0  # that stage 1 is run here; 50 steps of the whole model take a minute


def first_step(size: str, *, exact: bool = False, tiny: bool = False) -> dict[str, float]:
    """Seconds of a step's first pass in a new process and in its second run, the difference being what it waited."""
    command = [sys.executable, "-m", "benchmarks.speed_first", size, *["--exact"] * exact, *["--tiny"] * tiny]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(run.stderr[-300:])
    result: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return result


def measure(setting: Setting, size: str, native: str, native_seconds: float, *, exact: bool) -> dict[str, Any]:
    """In this process, which must be new."""
    transformer = random_transformer(setting, _LAYERS)
    small, large = (inputs(setting, setting.grid(name)) for name in (native, size))
    grid = setting.grid(size)
    tile = (1, 1) if exact else balanced_tile(grid[1:], setting.window)
    config = FreeSwimConfig(window=setting.window, query_tile=tile)

    def timed(work: Callable[[], object]) -> float:
        settle(setting.device)
        start = time.perf_counter()
        work()
        settle(setting.device)
        return time.perf_counter() - start

    building = build_kernels_behind(transformer, setting.device, [(grid, config)])
    native_first = timed(lambda: transformer(**small))
    passed = native_first
    while passed < native_seconds:
        passed += timed(lambda: transformer(**small))

    def step() -> None:
        with transformer.cache_context("cond", step_index=0, sigma=0.9, num_inference_steps=setting.steps):
            transformer(**large)

    def call() -> None:
        if building is not None:
            building.join()
        apply_freeswim(transformer, config)
        step()

    first, again = timed(call), timed(step)
    return {"native_first_s": native_first, "first_s": first, "again_s": again, "waited_s": first - again}


if __name__ == "__main__":
    tiny = "--tiny" in sys.argv
    chosen = Setting(config=TINY, window=(3, 4), latent_frames=2, text_length=8) if tiny else Setting(config=WAN_1_3B)
    with torch.no_grad():
        made = measure(
            chosen,
            sys.argv[1],
            "64x48" if tiny else "832x480",
            0.0 if tiny else _NATIVE_SECONDS,
            exact="--exact" in sys.argv,
        )
    print(json.dumps(made))
