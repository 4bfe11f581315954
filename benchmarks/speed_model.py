"""What the speed benchmark runs on: a Wan transformer of random weights, a clock, and counted operations.

Time does not depend on the values of weights (but on their being random: zeros run faster).
"""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import WanTransformer3DModel

GIB = 1 << 30
Grid = tuple[int, int, int]

WAN_1_3B: dict[str, Any] = {
    "num_attention_heads": 12,
    "attention_head_dim": 128,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 4096,
    "freq_dim": 256,
    "ffn_dim": 8960,
    "num_layers": 30,
    "rope_max_seq_len": 1024,
}
WAN_14B: dict[str, Any] = WAN_1_3B | {"num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40}
TINY: dict[str, Any] = WAN_1_3B | {
    "num_attention_heads": 2,
    "attention_head_dim": 24,
    "text_dim": 16,
    "freq_dim": 32,
    "ffn_dim": 64,
    "num_layers": 2,
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is common to all measurements: the model's configuration, the trained window, frames and steps."""

    config: dict[str, Any]
    window: tuple[int, int] = (30, 52)
    latent_frames: int = 21
    text_length: int = 512
    steps: int = 35
    interval: int = 5
    repeats: int = 3
    strength: float = 0.7
    flow_shift: float = 9.0

    def sigma(self, step: int) -> float:
        """Noise level of a step of the refine stage, which denoises from `strength` on."""
        left = self.strength * (1 - step / self.steps)
        return self.flow_shift * left / (1 + (self.flow_shift - 1) * left)

    @property
    def device(self) -> torch.device:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.device.type == "cuda" else torch.float32

    def grid(self, size: str) -> Grid:
        """Tokens (T, H, W) of a video of "1920x1088" pixels."""
        width, height = (int(side) for side in size.split("x"))
        return self.latent_frames, height // 16, width // 16


def random_transformer(
    setting: Setting, layers: int, model: type[WanTransformer3DModel] = WanTransformer3DModel
) -> WanTransformer3DModel:
    """A transformer of `layers` layers in the precision in which `from_pretrained` would load it."""
    torch.manual_seed(0)
    with torch.device(setting.device):
        transformer = model(**(setting.config | {"num_layers": layers}))
    kept = model._keep_in_fp32_modules
    with torch.no_grad():
        for name, parameter in transformer.named_parameters():
            if not any(part in name.split(".") for part in kept):
                parameter.data = parameter.data.to(setting.dtype)
    return transformer.eval().requires_grad_(False)


def inputs(setting: Setting, grid: Grid) -> dict[str, Any]:
    """Random latents, timestep and text for one call of the transformer."""
    generator = torch.Generator(setting.device).manual_seed(1)
    frames, height, width = grid

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, device=setting.device, dtype=setting.dtype)

    return {
        "hidden_states": noise(1, setting.config["in_channels"], frames, 2 * height, 2 * width),
        "timestep": torch.tensor([900.0], device=setting.device),
        "encoder_hidden_states": noise(1, setting.text_length, setting.config["text_dim"]),
        "return_dict": False,
    }


def settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], object], device: torch.device, *, repeats: int = 3, warm_up: int = 1) -> float:
    """Median time of `work` after `warm_up` calls, the device idle before and after each.

    What takes a second and more hardly varies, and is timed fewer times.
    """
    for _ in range(warm_up):
        work()
    times: list[float] = []
    while len(times) < repeats and sum(times) < 2:
        settle(device)
        start = time.perf_counter()
        work()
        settle(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def peak_memory(work: Callable[[], object], device: torch.device) -> float:
    """GiB at the peak of `work`, with all that lies on the device; 0 without CUDA."""
    if device.type != "cuda":
        work()
        return 0.0
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    work()
    settle(device)
    return torch.cuda.max_memory_allocated(device) / GIB


def sustained_rate(setting: Setting) -> float:
    """Operations per second of a large matrix product in the model's precision, on random numbers, after a second of
    such work, when a GPU has lowered its clock to stay within its power."""
    side = 8192 if setting.device.type == "cuda" else 256
    a, b = (torch.randn(side, side, device=setting.device, dtype=setting.dtype) for _ in range(2))
    until = time.perf_counter() + (1.0 if setting.device.type == "cuda" else 0.0)
    while time.perf_counter() < until:
        seconds(lambda: a @ b, setting.device, repeats=20)
    return 2 * side**3 / seconds(lambda: a @ b, setting.device, repeats=50)


def linear_operations(setting: Setting, tokens: int, *, cross_attention: bool) -> float:
    """Of one layer's linear layers, and of its cross-attention unless the guide's output takes its place."""
    width = setting.config["num_attention_heads"] * setting.config["attention_head_dim"]
    work = 2.0 * tokens * width * (4 * width + 2 * setting.config["ffn_dim"])
    if cross_attention:
        work += 4 * tokens * width**2 + 4 * setting.text_length * width**2 + 4 * tokens * setting.text_length * width
    return work


def attention_operations(setting: Setting, tokens: int, keys: int) -> float:
    """Of one layer's self-attention in which each token sees `keys` keys."""
    return 4.0 * tokens * keys * setting.config["num_attention_heads"] * setting.config["attention_head_dim"]


def window_keys(setting: Setting, grid: Grid) -> int:
    """Keys that a query of the grid sees in its window."""
    return grid[0] * math.prod(min(pair) for pair in zip(grid[1:], setting.window, strict=True))
