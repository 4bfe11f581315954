"""How long a run will take and how much memory it needs, before it begins and without loading the model.

Time is counted work over measured speed. The work is the floating-point operations of every stage: linear layers and
attention of each forward pass (native, window and guide passes, with and without the prompt), and the VAE's
convolutions. The speed is that of a short matrix product and a short convolution on this device, times the share of it
that each kind of stage reaches; those shares start from what was measured on a two-core CPU or on an H100 and then
follow what runs in this process really took. Memory is weights, activations and the VAE's largest feature maps; on an
accelerator it is the least that will do, since the guide's record moves to main memory and the VAE's tiles shrink where
there is no room for more, and with models that take turns it is the largest turn.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median

from freeswim.config import FreeSwimConfig
from freeswim.offload import choose_offload
from freeswim.plan import Plan
from freeswim.sizes import Size
from freeswim.windows import guide_grid

GIB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What decides the work of a model. The VAE's numbers are operations per pixel of video, counted by torch."""

    layers: int
    width: int
    feed_forward: int
    encode_per_pixel: float
    decode_per_pixel: float
    vae_channels: int  # of the VAE's widest full-size feature map, over the square of its patch
    text_bytes: int  # of the text encoder, with what it computes; these three as they are loaded on an accelerator
    transformer_bytes: int
    vae_bytes: int

    @property
    def weight_bytes(self) -> int:
        return self.text_bytes + self.transformer_bytes + self.vae_bytes


SHAPES: Mapping[str, Shape] = {
    "embedded": Shape(
        layers=8, width=320, feed_forward=1280, encode_per_pixel=1.22e5, decode_per_pixel=1.91e5, vae_channels=8,
        text_bytes=2 << 20, transformer_bytes=58 << 20, vae_bytes=40 << 20,
    ),
    "wan2.1-1.3b": Shape(
        layers=30, width=1536, feed_forward=8960, encode_per_pixel=5.19e6, decode_per_pixel=8.70e6, vae_channels=96,
        text_bytes=round(10.9 * GIB), transformer_bytes=round(2.65 * GIB), vae_bytes=round(0.5 * GIB),
    ),
    "wan2.1-14b": Shape(
        layers=40, width=5120, feed_forward=13824, encode_per_pixel=5.19e6, decode_per_pixel=8.70e6, vae_channels=96,
        text_bytes=round(10.9 * GIB), transformer_bytes=round(26.7 * GIB), vae_bytes=round(0.5 * GIB),
    ),
}  # fmt: skip

# Share of the measured speed that each kind of stage is taken to reach before one was observed: roughly what the
# embedded model does on two cores, and Wan2.1-1.3B on an H100 (docs/performance.md). "queries" are passes with a window
# for each query, as naive ones have it; the kernel for Hopper makes them as fast as tiles.
_CPU_SHARES = {"native": 0.55, "tiles": 0.62, "queries": 0.53, "encode": 1.2, "decode": 1.3}
_GPU_SHARES = {"native": 0.55, "tiles": 0.7, "queries": 0.53, "encode": 0.77, "decode": 0.77}
_HOPPER_SHARES = _GPU_SHARES | {"tiles": 0.73, "queries": 0.73}

# Bytes of activations per token and channel of the transformer, and per pixel and channel of the VAE's largest maps.
_TOKEN_BYTES = 60
_GPU_TOKEN_BYTES = 16  # blocks run fused there; the kernel for Hopper takes one or two more
_LATENT_BYTES = 768  # per token: what guidance and the scheduler keep between passes
_PIXEL_BYTES = 80
_PROCESS_BYTES = 900 << 20  # Python, torch and diffusers themselves
CONTEXT_BYTES = 800 << 20  # CUDA's context and the workspaces of its libraries, measured on an H100
_GPU_TILE_BYTES = 66 * 256 * 256 * 4  # per channel: the VAE in float32 on the smallest tile that it is cut into


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Operations per second of this device: of large matrix products, and of the VAE's kind of convolution."""

    matrix: float
    convolution: float


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Seconds of the whole run and of each stage, and bytes at the peak."""

    seconds: float
    stages: dict[str, float]
    memory: int


def measure_speed(device: str | None = None) -> Speed:
    """Times a matrix product and a convolution for about a tenth of a second each."""
    import torch

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    cuda = device.startswith("cuda")
    side, dtype = (8192, torch.bfloat16) if cuda else (768, torch.float32)
    a = torch.randn(side, side, device=device, dtype=dtype)
    channels, height = (96, 256) if cuda else (32, 96)
    video = torch.randn(1, channels, 3, height, height, device=device)
    kernel = torch.randn(channels, channels, 3, 3, 3, device=device)
    settle: Callable[[], object] = torch.cuda.synchronize if cuda else lambda: None

    def rate(work: Callable[[], object], operations: float) -> float:
        work()
        settle()
        times: list[float] = []
        began = time.perf_counter()
        while len(times) < 3 or time.perf_counter() - began < 0.1:
            start = time.perf_counter()
            work()
            settle()
            times.append(time.perf_counter() - start)
        return operations / min(times)  # other work on the device only ever adds time

    with torch.no_grad():
        return Speed(
            matrix=rate(lambda: a @ a, 2 * side**3),
            convolution=rate(
                lambda: torch.nn.functional.conv3d(video, kernel, padding=(0, 1, 1)),
                2 * channels**2 * 27 * height**2,
            ),
        )


@dataclass
class Meter:
    """Estimates runs on one device and learns from those that ended. `speed` is measured at the first estimate."""

    speed: Speed | None = None
    accelerated: bool = False  # a GPU
    hopper: bool = False  # one that runs the attention kernel for Hopper
    gpu_memory: int | None = None  # bytes, by which offload="auto" decides; None: all models stay on the GPU
    _shares: dict[tuple[str, str], deque[float]] = field(default_factory=dict)  # (model, kind) -> the latest ones

    def estimate(self, plan: Plan) -> Estimate:
        """Raises ValueError for a model whose shape isn't known (a local folder)."""
        stages = {name: self._seconds(plan, name, work) for name, work in operations(plan).items()}
        needed = memory(plan, accelerated=self.accelerated, gpu_memory=self.gpu_memory)
        return Estimate(seconds=sum(stages.values()), stages=stages, memory=needed)

    def observe(self, plan: Plan, seconds: Mapping[str, float]) -> None:
        """Takes note of how long the stages of a finished run took."""
        for name, work in operations(plan).items():
            if seconds.get(name, 0) > 0:
                kind = _kind(plan, name)
                share = work / (seconds[name] * self._rate(kind))
                key = plan.model.name, kind
                self._shares.setdefault(key, deque(maxlen=5)).append(share)

    def _seconds(self, plan: Plan, name: str, work: float) -> float:
        kind = _kind(plan, name)
        seen = self._shares.get((plan.model.name, kind))
        on_gpu = _HOPPER_SHARES if self.hopper else _GPU_SHARES
        shares = on_gpu if self.accelerated else _CPU_SHARES
        return work / (self._rate(kind) * (median(seen) if seen else shares[kind]))

    def _rate(self, kind: str) -> float:
        self.speed = self.speed or measure_speed()
        return self.speed.convolution if kind in ("encode", "decode") else self.speed.matrix


def operations(plan: Plan) -> dict[str, float]:
    """Floating-point operations of each stage of a run, by the stages' names."""
    shape, steps = _shape(plan), plan.request.steps
    branches = 2 if plan.request.guidance_scale > 1 else 1
    work: dict[str, float] = {}
    if not plan.own_video:
        tokens = math.prod(plan.grid(plan.native))
        work["native"] = steps * branches * _forward(plan, tokens, tokens)
        work["decode native"] = shape.decode_per_pixel * _pixels(plan, plan.native)
    if not plan.passes or plan.begin == steps:
        return work
    if plan.begin:
        work["encode"] = shape.encode_per_pixel * _pixels(plan, plan.padded)
    for name, config in plan.passes.items():
        work[name] = _refine(plan, config, steps - plan.begin, branches)
        work[f"decode {name}"] = shape.decode_per_pixel * _pixels(plan, plan.padded)
    return work


def memory(plan: Plan, *, accelerated: bool = False, gpu_memory: int | None = None) -> int:
    """Bytes at the peak of a run: of the accelerator the least that will do, else of the process.

    gpu_memory: bytes of a GPU whose models take turns where `choose_offload` says so; None: all of them stay there.
    """
    shape = _shape(plan)
    size = plan.padded if plan.refines else plan.native
    tokens = math.prod(plan.grid(size))
    values = tokens * shape.width
    block_record = plan.config.tensors_recorded * shape.width * _guide_tokens(plan, plan.config)
    if accelerated:
        # Half precision. Of the guide's record a block's part and the next one's are there at a time.
        activations = values * _GPU_TOKEN_BYTES + tokens * _LATENT_BYTES + 2 * 2 * block_record
        tile = shape.vae_channels * _GPU_TILE_BYTES
        if gpu_memory is None or choose_offload(shape.weight_bytes, gpu_memory) == "none":
            most = shape.weight_bytes + max(activations, tile)
        else:
            # Nothing makes the VAE leave for stage 2, which it has just encoded for.
            turns = shape.text_bytes, shape.transformer_bytes + shape.vae_bytes + activations, shape.vae_bytes + tile
            most = max(turns)
        return int(most + CONTEXT_BYTES)
    record = 2 * shape.layers * block_record * 4  # of both branches
    frames = 12.0 * plan.request.num_frames * size.width * size.height  # float32 RGB
    vae = size.width * size.height * plan.model.frames_per_latent * shape.vae_channels * _PIXEL_BYTES + 2 * frames
    return int(shape.weight_bytes + max(values * _TOKEN_BYTES + record, vae) + _PROCESS_BYTES)


def _shape(plan: Plan) -> Shape:
    if plan.model.name not in SHAPES:
        raise ValueError(f"model={plan.model.name!r} has no known cost; choose one of {', '.join(SHAPES)}")
    return SHAPES[plan.model.name]


def _kind(plan: Plan, stage: str) -> str:
    kind = stage.split(" ")[0]
    if kind not in plan.passes:
        return kind
    return "queries" if plan.passes[kind].query_tile == (1, 1) else "tiles"


def _pixels(plan: Plan, size: Size) -> int:
    return plan.request.num_frames * size.width * size.height


def _forward(plan: Plan, tokens: int, keys: int) -> float:
    """One pass of the transformer over `tokens`, each of which sees `keys` tokens and the whole prompt."""
    shape, text = _shape(plan), plan.model.max_sequence_length
    linear = 2 * tokens * shape.width * (6 * shape.width + 2 * shape.feed_forward) + 4 * text * shape.width**2
    attention = 4 * tokens * (keys + text) * shape.width
    return shape.layers * (linear + attention)


def _refine(plan: Plan, config: FreeSwimConfig, steps: int, branches: int) -> float:
    """All passes of stage 2: a window pass per step and branch, and the guide's passes when they are due."""
    grid = plan.grid(plan.padded)
    seen = math.prod(min(side, window) for side, window in zip(grid[1:], config.window, strict=True))
    guide = _guide_tokens(plan, config)
    guided = 0 if not guide else branches if config.guide_unconditional else 1
    windows = _forward(plan, math.prod(grid), grid[0] * seen)
    extra = _forward(plan, math.prod(grid), grid[0] * seen + guide)
    seeing = guided * sum(config.sees_context(i, steps) for i in range(steps))
    refreshes = guided * sum(config.refreshes_guide(i, steps, plan.sigma(i)) for i in range(steps))
    return seeing * extra + (steps * branches - seeing) * windows + refreshes * _forward(plan, guide, guide)


def _guide_tokens(plan: Plan, config: FreeSwimConfig) -> int:
    """Tokens of the guide's pass; 0 without one, as where the target fits into the window."""
    frames, *grid = plan.grid(plan.padded)
    if not plan.refines or config.guide == "none" or all(g <= w for g, w in zip(grid, config.window, strict=True)):
        return 0
    small = (grid[0], grid[1])
    if config.guide == "downsampled":
        small = config.guide_grid or guide_grid(small, config.window)
    return frames * math.prod(small)
