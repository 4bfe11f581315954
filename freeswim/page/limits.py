"""What this device can take: refuses what cannot fit before anything waits, and names the nearest that does."""

import dataclasses
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freeswim.cost import GIB, Estimate, Meter
from freeswim.models import MODELS, BaseModel
from freeswim.own_video import target_sizes
from freeswim.page.quality import QUALITIES, Quality, quality_values
from freeswim.page.source import Source, plan_of
from freeswim.page.status import clock
from freeswim.page.text import size_label
from freeswim.plan import Plan
from freeswim.request import Request, Resolved
from freeswim.sizes import SAME_SHAPE, Size, native_size


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one run may use: bytes of memory, and seconds where a GPU is lent for a time. None: no limit known."""

    memory: int | None = None
    seconds: float | None = None


def device_limits() -> Limits:
    """The memory of this device: its GPU's, or this computer's own (or as much of it as a container may use)."""
    import torch

    if torch.cuda.is_available():
        return Limits(memory=torch.cuda.get_device_properties(0).total_memory)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    allowed = Path("/sys/fs/cgroup/memory.max")
    if allowed.is_file() and (text := allowed.read_text().strip()).isdigit():
        memory = min(memory, int(text))
    return Limits(memory=memory)


def device_meter() -> Meter:
    """A meter of this device, as a model loaded by `load_pipeline` with offload="auto" runs on it."""
    import torch

    from freeswim.attention import hopper

    if not torch.cuda.is_available():
        return Meter()
    gpu_memory = torch.cuda.get_device_properties(0).total_memory
    return Meter(accelerated=True, hopper=hopper.is_for(torch.device("cuda", 0)), gpu_memory=gpu_memory)


@dataclass(frozen=True)
class Gate:
    """Judges requests by what `meter` expects of them."""

    meter: Meter
    limits: Limits = Limits()
    seconds_of: Callable[[Plan, Estimate], float] = lambda plan, estimate: estimate.seconds  # that count as lent

    def refusal(self, request: Request, source: Source | None = None) -> str | None:
        """Why a request cannot be run here, and what could; None when it can."""
        plan = plan_of(request, source)
        if self.limits == Limits():
            return None
        short = self._too_much(plan, self.meter.estimate(plan))
        if short is None:
            return None
        return f"{short}: {self.advice(request, source)}"

    def advice(self, request: Request, source: Source | None = None, *, below: int | None = None) -> str:
        """What to choose instead: the nearest setting that fits. `below`: bytes that were not enough."""
        nearest = self.nearest(plan_of(request, source).request, source, below=below)
        if nearest is None:
            return "nothing smaller would fit either; choose another model or fewer frames"
        size = size_label(nearest.width, nearest.height)
        details = f"{nearest.steps} steps, {nearest.num_frames} frames"
        seconds = clock(self.meter.estimate(plan_of(nearest, source)).seconds)
        return f"{size} with {details} would fit, in about {seconds}"

    def nearest(self, request: Resolved, source: Source | None = None, *, below: int | None = None) -> Resolved | None:
        """Of the smaller sizes, shorter videos and fewer steps that fit, what takes the longest; None if none does."""
        best, most = None, -1.0
        for candidate in _smaller(request, source):
            plan = plan_of(candidate, source)
            expected = self.meter.estimate(plan)
            fits = self._too_much(plan, expected) is None and (below is None or expected.memory < below)
            if fits and expected.seconds > most:
                best, most = candidate, expected.seconds
        return best

    def start(self, model: BaseModel) -> tuple[str, Quality]:
        """The resolution and the quality that a form begins with: the first preset if it can be run, else native."""
        for _, width, height in (*model.presets[:1], ("native", *model.native)):
            for quality in reversed(QUALITIES[:2]):
                values = quality_values(model, quality)
                request = Request(
                    prompt="-",
                    model=model.name,
                    width=width,
                    height=height,
                    num_frames=values["frames"],
                    steps=values["steps"],
                    refresh_interval=values["refresh_interval"],
                    compare=True,
                )
                if self.refusal(request) is None:
                    return f"{width}x{height}", quality
        return f"{model.presets[0][1]}x{model.presets[0][2]}", "balanced"

    def _too_much(self, plan: Plan, expected: Estimate) -> str | None:
        memory, seconds = self.limits.memory, self.limits.seconds
        size = size_label(plan.request.width, plan.request.height)
        if memory is not None and expected.memory > memory:
            return (
                f"{size} needs about {expected.memory / GIB:.1f} GB of memory and there are {memory / GIB:.1f} GB here"
            )
        if seconds is not None and (needed := self.seconds_of(plan, expected)) > seconds:
            return f"{size} would take about {clock(needed)} and a GPU is lent for {clock(seconds)} here"
        return None


def _smaller(request: Resolved, source: Source | None) -> Iterator[Resolved]:
    """The request at the same and every smaller offered size, each with its own and with Draft's steps and frames."""
    draft = quality_values(MODELS[request.model], "draft")
    lengths = {request.num_frames} if source else {request.num_frames, min(request.num_frames, draft["frames"])}
    interval = max(request.refresh_interval or 1, draft["refresh_interval"])
    for size in (Size(request.width, request.height), *smaller_sizes(request, source)):
        same = resized(request, size)
        for frames in lengths:
            yield dataclasses.replace(same, num_frames=frames).resolved()
            fewer = min(request.steps, draft["steps"])
            yield dataclasses.replace(same, num_frames=frames, steps=fewer, refresh_interval=interval).resolved()


def resized(request: Request, size: Size) -> Resolved:
    """The request at another size. What was the default of its shape becomes that of the new shape."""
    model = MODELS[request.model]
    before = native_size(Size(request.width or 0, request.height or 0), model.native, model.token_pixels)
    after = native_size(size, model.native, model.token_pixels)
    open_again: dict[str, Any] = {} if before == after else {"window": None, "query_tile": None, "logit_scale": None}
    return dataclasses.replace(request, width=size.width, height=size.height, **open_again).resolved()


def smaller_sizes(request: Resolved, source: Source | None) -> list[Size]:
    """The offered sizes with fewer pixels than the request's, in about its shape."""
    return [size for size in _offered(request, source) if size.width * size.height < request.width * request.height]


def larger_size(request: Resolved, source: Source | None) -> Size:
    """The next offered size above the request's; a third more each way where none is offered."""
    now = Size(request.width, request.height)
    larger = [size for size in _offered(request, source) if size.width * size.height > 1.1 * now.width * now.height]
    return larger[0] if larger else Size(*(16 * round(side * 4 / 3 / 16) for side in now))


def _offered(request: Resolved, source: Source | None) -> list[Size]:
    """The sizes on the page, smallest first; in the request's own shape where theirs is another one."""
    model: BaseModel = MODELS[request.model]
    if source is not None and source.own is not None:
        return [size for _, size in target_sizes(source.own.width, source.own.height, model)]
    sizes = [Size(width, height) for _, width, height in model.presets]
    if source is None:
        sizes.insert(0, model.native)
    return [_in_shape(size, request.width / request.height, model.token_pixels) for size in sizes]


def _in_shape(size: Size, shape: float, token: int) -> Size:
    """`size` itself where it has about the shape (width over height), else about as many pixels in whole tokens."""
    if 1 / SAME_SHAPE <= shape * size.height / size.width <= SAME_SHAPE:
        return size
    height = (size.width * size.height / shape) ** 0.5
    return Size(*(token * max(1, round(side / token)) for side in (height * shape, height)))
