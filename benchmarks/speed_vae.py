"""Time and memory of Wan's VAE at its full size, with random weights, by the package's own encode and decode."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan

from benchmarks.speed_model import Setting, peak_memory, seconds
from freeswim import codec
from freeswim.sizes import Size

TINY: dict[str, Any] = {"base_dim": 8, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}


def random_vae(setting: Setting, *, tiny: bool = False) -> AutoencoderKLWan:
    torch.manual_seed(0)
    with torch.device(setting.device):
        return AutoencoderKLWan(**(TINY if tiny else {})).eval().requires_grad_(False)


def vae_times(setting: Setting, size: str, native: str, frames: int, *, tiny: bool = False) -> Any:
    """Seconds and GiB at the peak of decoding and encoding a video of `size`, tiled as in a run of the pipeline.

    frames: 4k + 1.
    """
    vae = random_vae(setting, tiny=tiny)
    target, small = (Size(*(int(side) for side in text.split("x"))) for text in (size, native))
    codec.set_tiling(vae, target, small, setting.device)
    shape = (1, vae.config.z_dim, (frames - 1) // 4 + 1, target.height // 8, target.width // 8)
    latents = torch.randn(shape, device=setting.device)
    video = np.random.default_rng(0).integers(0, 256, (frames, small.height, small.width, 3), np.uint8)

    def decode() -> None:
        codec.decode(vae, latents, target)

    def encode() -> None:
        codec.encode_frames(vae, video, target, target, device=setting.device)

    result: dict[str, Any] = {"frames": frames}
    with torch.no_grad():
        for name, work in {"decode": decode, "encode": encode}.items():
            result[name] = _timed(work, setting)
    return result


def _timed(work: Callable[[], None], setting: Setting) -> dict[str, float]:
    """Of one run without a warm-up, as in a run of the pipeline."""
    taken: list[float] = []
    peak = peak_memory(lambda: taken.append(seconds(work, setting.device, repeats=1, warm_up=0)), setting.device)
    return {"s": taken[0], "peak_GiB": peak}
