"""The rivals of the speed benchmark, each a set of timed forward passes and how a refine stage is made of them."""

import importlib
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed_model import Grid, Setting, inputs, peak_memory, random_transformer, seconds, settle
from freeswim import FreeSwimConfig, apply_freeswim, remove_freeswim
from freeswim.windows import axis_segments, balanced_tile

Result = dict[str, Any]
CUDNN = "_native_cudnn"


def refreshes(setting: Setting) -> int:
    """How often the guide runs in the refine stage."""
    return -(-setting.steps // setting.interval)


def stock(setting: Setting, grid: Grid, layers: int, backend: str) -> Result:
    """diffusers' transformer with full attention: two equal passes a step."""
    transformer = random_transformer(setting, layers)
    transformer.set_attention_backend(backend)
    arguments = inputs(setting, grid)

    def forward() -> None:
        transformer(**arguments)

    peak = peak_memory(forward, setting.device)
    took = seconds(forward, setting.device, repeats=setting.repeats, warm_up=0)
    return _result({"forward": took}, peak, layers, setting, step=2 * took, stage=2 * setting.steps * took)


def ours(
    setting: Setting, grid: Grid, layers: int, *, compiled: bool = False, record: str = "auto", **options: Any
) -> Result:
    """FreeSwim as this package does it. `options` are FreeSwimConfig's.

    Each kind of pass that the refine stage has (with the guide or without, and so on) is timed where it first occurs.
    """
    transformer = random_transformer(setting, layers)
    if setting.device.type == "cuda":
        transformer.set_attention_backend(CUDNN)
    tile = options.pop("query_tile", None) or balanced_tile(grid[1:], setting.window)
    config = FreeSwimConfig(window=setting.window, query_tile=tile, refresh_interval=setting.interval, **options)
    if compiled:
        transformer.compile_repeated_blocks()
    arguments = inputs(setting, grid)

    def call(step: int, branch: str = "cond") -> object:
        sigma = setting.sigma(step)
        with transformer.cache_context(branch, step_index=step, sigma=sigma, num_inference_steps=setting.steps):
            return transformer(**arguments)

    def timed(step: int, branch: str = "cond") -> float:
        # Whole models are timed after passes of the same shapes, and take long.
        warm_up = int(layers < setting.config["num_layers"])
        return seconds(lambda: call(step, branch), setting.device, repeats=setting.repeats, warm_up=warm_up)

    kinds = [_kind_of_pass(config, setting, step) for step in range(setting.steps)]
    apply_freeswim(transformer, config, record=record)  # type: ignore[arg-type]
    try:
        first = seconds(lambda: call(0), setting.device, repeats=1, warm_up=0)
        peak = peak_memory(lambda: [call(step, b) for step in (0, 1) for b in ("cond", "uncond")], setting.device)
        passes = {kind: timed(kinds.index(kind)) for kind in dict.fromkeys(kinds)}  # in the order in which they occur
        away = None if config.guide_unconditional else timed(1, "uncond")
    finally:
        remove_freeswim(transformer)
    refresh, reuse = passes[kinds[0]], passes[kinds[1]]
    stage = sum(passes[kind] + (away or passes[kind]) for kind in kinds)
    share = (refresh - reuse) / refresh
    if away is not None:
        passes["unconditional"] = away
    result = _result(passes, peak, layers, setting, step=reuse + (away or reuse), stage=stage)
    return result | {"query_tile": list(tile), "first_call_excess_s": first - refresh, "guide_share_of_a_step": share}


def _kind_of_pass(config: FreeSwimConfig, setting: Setting, step: int) -> str:
    sigma = setting.sigma(step)
    refreshes = config.refreshes_guide(step, setting.steps, sigma)
    parts = ["guide and window" if refreshes else "window"]
    parts += ["context"] * config.sees_context(step, setting.steps) + ["anchor"] * config.anchors(sigma)
    return ", ".join(parts)


def official(setting: Setting, grid: Grid, layers: int, checkout: Path, *, cached: bool) -> Result:
    """The authors' transformer and processors, from a checkout outside this repository."""
    with _module(checkout / ("cache" if cached else "nocache")) as (model, processors):
        mask_seconds = _official_mask(setting, grid, processors)
        transformer = random_transformer(setting, layers, model.WanTransformer3DModel)
        window, cross = processors.WanFlexAttnProcessor_, processors.WanCrossAttnProcessor
        transformer.set_attn_processor(
            {name: cross() if "attn2" in name else window() for name in transformer.attn_processors}
        )
        arguments = inputs(setting, grid)
        # Its pipeline hands over two copies of the latents and of the timestep.
        for name in ("hidden_states", "timestep"):
            arguments[name] = torch.cat([arguments[name]] * 2)
        if not cached:
            return _uncached(setting, layers, transformer, arguments, mask_seconds)
        return _cached(setting, layers, transformer, arguments, mask_seconds)


def _uncached(setting: Setting, layers: int, transformer: Any, arguments: Result, mask_seconds: float) -> Result:
    def forward() -> None:
        transformer(**arguments, cond=True)

    forward()
    peak = peak_memory(forward, setting.device)
    took = seconds(forward, setting.device, repeats=setting.repeats, warm_up=0)
    result = _result({"forward": took}, peak, layers, setting, step=2 * took, stage=2 * setting.steps * took)
    return result | {"mask_s": mask_seconds}


def _cached(setting: Setting, layers: int, transformer: Any, arguments: Result, mask_seconds: float) -> Result:
    kept: list[torch.Tensor] = []

    def refresh() -> None:
        kept[:] = transformer(**arguments, cache_cross_ouput=True, cond=True)[-1]

    def reuse() -> None:
        transformer(**arguments, reuse_cross_output=kept, cond=True)

    def away() -> None:
        transformer(**arguments, cond=False)

    for work in (refresh, reuse, away):
        work()
    settle(setting.device)
    peak = peak_memory(lambda: [work() for work in (refresh, reuse, away)], setting.device)
    passes = {
        name: seconds(work, setting.device, repeats=setting.repeats, warm_up=0)
        for name, work in (("guide and window", refresh), ("window", reuse), ("unconditional", away))
    }
    due = refreshes(setting)
    stage = due * passes["guide and window"] + (setting.steps - due) * passes["window"]
    stage += setting.steps * passes["unconditional"]
    step = passes["window"] + passes["unconditional"]
    return _result(passes, peak, layers, setting, step=step, stage=stage) | {"mask_s": mask_seconds}


def _official_mask(setting: Setting, grid: Grid, processors: Any) -> float:
    """Have the authors' block mask built, by their own function up to 1920x1088 (its time is returned).

    Above, where theirs takes minutes, an equal mask is built here; 0 is returned.
    """
    half = setting.window[0] // 2, setting.window[1] // 2
    frames, height, width = grid
    if frames * height * width <= 200_000:
        options = {"num_frames": frames, "height": height, "width": width, "d_h": half[0], "d_w": half[1]}
        return seconds(
            lambda: processors.init_mask_flex(**options, device=setting.device), setting.device, repeats=1, warm_up=0
        )
    from benchmarks.speed_kernels import row_major_mask

    rows, columns = (axis_segments(n, 2 * h + 1) for n, h in zip(grid[1:], half, strict=True))
    processors.BLOCK_MASK = row_major_mask(grid, rows, columns, setting.device)
    return 0.0


@contextmanager
def _module(folder: Path) -> Iterator[tuple[types.ModuleType, types.ModuleType]]:
    """The authors' two modules, which import each other by bare or by package name."""
    root = str(folder.parent)
    sys.path[:0] = [root, str(folder)]
    try:
        names = (f"{folder.name}.transformer_wan", f"{folder.name}.attention_processor_")
        model, processors = (importlib.import_module(name) for name in names)
        yield model, processors
    finally:
        sys.path.remove(root)
        sys.path.remove(str(folder))


def _result(
    passes: dict[str, float], peak: float, layers: int, setting: Setting, *, step: float, stage: float
) -> Result:
    """Times of `layers` layers scaled to the whole model; the peak as it was."""
    factor = setting.config["num_layers"] / layers
    return {
        "layers_timed": layers,
        "passes_s": {name: took * factor for name, took in passes.items()},
        "step_s": step * factor,
        "stage_s": stage * factor,
        "peak_GiB": peak,
    }
