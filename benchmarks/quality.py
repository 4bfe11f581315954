"""What each variant of the method does to the picture, on the embedded model: subjects counted, layout kept.

    python -m benchmarks.quality                                    # short: 4 prompts, 2x, a CPU will do
    python -m benchmarks.quality --prompts 16 --scales 2 3 --steps 25 --sheet sheet.png

All variants of a scale share the native videos, the noise and the seeds. Prompts describe combinations that were held
out from training. Prints a table, then one line of JSON.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from freeswim import FreeSwimConfig, FreeSwimPipeline, apply_freeswim, remove_freeswim
from freeswim.codec import decode, encode, enlarged_input
from freeswim.denoise import denoise
from freeswim.embedded.subjects import SubjectNet, count_subjects, load, shows_exactly
from freeswim.request import refine_steps
from freeswim.sizes import Size
from training.scenes import Scene, View, caption, unseen_scenes

WINDOW = (9, 16)  # the embedded model's trained grid


@dataclass(frozen=True)
class Variant:
    name: str
    config: FreeSwimConfig | None  # None: the stock model, full attention
    strength: float = 0.7


def variants() -> list[Variant]:
    """The rows, naive first; every window is per query."""

    def guided(**choices: Any) -> FreeSwimConfig:
        return FreeSwimConfig(window=WINDOW, **choices)

    return [
        Variant("naive: clipped windows", FreeSwimConfig.naive(WINDOW)),
        Variant("inward windows, no guide", guided(guide="none")),
        Variant("full guide, output (the paper)", guided(guide="full", override="output", guide_unconditional=False)),
        Variant("downsampled guide, output", guided(override="output", guide_unconditional=False)),
        Variant("downsampled guide, both, prompted pass only", guided(guide_unconditional=False)),
        Variant("downsampled guide, both (default)", guided()),
        Variant("naive, strength 0.85", FreeSwimConfig.naive(WINDOW), 0.85),
        Variant("default, strength 0.85", guided(), 0.85),
    ]


@dataclass(frozen=True)
class Inputs:
    """What all variants of a scale start from."""

    scenes: list[Scene]
    prompts: list[str]
    native: list[NDArray[np.uint8]]  # (T, H, W, 3) each
    size: Size
    clean: torch.Tensor  # latents of the enlarged native videos, (N, C, T, H, W)
    noise: torch.Tensor


@torch.no_grad()
def native_latents(pipeline: FreeSwimPipeline, prompts: list[str], steps: int) -> torch.Tensor:
    """Native latents (N, C, T, h, w), prompt i from seed i."""
    model = pipeline.model
    return torch.as_tensor(
        pipeline.pipe(
            prompts, height=model.native_height, width=model.native_width, num_frames=model.native_frames,
            num_inference_steps=steps, guidance_scale=model.guidance_scale, output_type="latent",
            generator=[torch.Generator().manual_seed(seed) for seed in range(len(prompts))],
            max_sequence_length=model.max_sequence_length,
        ).frames
    ).float()  # fmt: skip


@torch.no_grad()
def prepare(
    pipeline: FreeSwimPipeline, scenes: list[Scene], prompts: list[str], latents: torch.Tensor, scale: int
) -> Inputs:
    """Decode the native videos, enlarge and encode them."""
    vae, native = pipeline.pipe.vae, pipeline.model.native
    size = Size(native.width * scale, native.height * scale)
    videos = [decode(vae, one[None], native) for one in latents]
    device, dtype = pipeline.pipe.device, vae.dtype
    clean = torch.cat([encode(vae, enlarged_input(v, size, size, device=device, dtype=dtype)) for v in videos])
    seeds = range(5000, 5000 + len(videos))
    noise = torch.stack([torch.randn(clean.shape[1:], generator=torch.Generator().manual_seed(s)) for s in seeds])
    return Inputs(scenes, prompts, videos, size, clean, noise.to(clean.device))


@torch.no_grad()
def refine(pipeline: FreeSwimPipeline, inputs: Inputs, variant: Variant, steps: int) -> list[NDArray[np.uint8]]:
    """Stage 2 of all prompts as one batch under a variant."""
    pipe, model = pipeline.pipe, pipeline.model
    scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, flow_shift=model.refine_shift)
    scheduler.set_timesteps(steps, device=inputs.clean.device)
    begin = steps - refine_steps(steps, variant.strength)
    scheduler.set_begin_index(begin)
    sigma = float(scheduler.sigmas[begin])
    text, negative = pipe.encode_prompt(inputs.prompts, None, True, max_sequence_length=model.max_sequence_length)
    if variant.config is not None:
        apply_freeswim(pipe.transformer, variant.config)
    try:
        latents = denoise(
            pipe.transformer, scheduler, (1 - sigma) * inputs.clean + sigma * inputs.noise,
            text.to(pipe.transformer.dtype), negative.to(pipe.transformer.dtype), guidance_scale=model.guidance_scale,
        )  # fmt: skip
    finally:
        remove_freeswim(pipe.transformer)
    return [decode(pipe.vae, one[None], inputs.size) for one in latents]


def measure(net: SubjectNet, inputs: Inputs, videos: list[NDArray[np.uint8]]) -> dict[str, float]:
    """Means over the prompts.

    one, right: share with exactly one subject, and with one of the right kind and colour; subjects: their number;
    structure: PSNR in dB of the result, averaged down, against the native video; texture: root mean square of what a
    3x3 average takes away, in grey levels.
    """
    judged = [shows_exactly(net, v, s.subject, s.colour) for v, s in zip(videos, inputs.scenes, strict=True)]
    structure, texture = [], []
    for video, native in zip(videos, inputs.native, strict=True):
        frames = torch.from_numpy(video).permute(0, 3, 1, 2).float()
        small = F.interpolate(frames, native.shape[1:3], mode="area")
        error = (small - torch.from_numpy(native).permute(0, 3, 1, 2)).square().mean()
        structure.append(float(-10 * torch.log10(error / 255**2)))
        smooth = F.avg_pool2d(frames, 3, 1, 1, count_include_pad=False)
        texture.append(float((frames - smooth).square().mean().sqrt()))
    return {
        "one": float(np.mean([one for one, _ in judged])),
        "right": float(np.mean([right for _, right in judged])),
        "subjects": float(np.mean([count_subjects(net, video) for video in videos])),
        "structure": float(np.mean(structure)),
        "texture": float(np.mean(texture)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--scales", type=int, nargs="+", default=[2], choices=(2, 3))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--only", help="only variants whose name contains this")
    parser.add_argument("--sheet", type=Path, help="picture of middle frames: a row a variant, a column a prompt")
    args = parser.parse_args()
    pipeline = FreeSwimPipeline.from_pretrained("embedded")
    net = load(pipeline.pipe.device)
    rng = np.random.default_rng(2024)
    scenes = unseen_scenes(rng, args.prompts)
    prompts = [caption(scene, View(), rng, complete=True) for scene in scenes]
    latents = native_latents(pipeline, prompts, args.steps)
    rows, pictures = [], []
    for scale in args.scales:
        inputs = prepare(pipeline, scenes, prompts, latents, scale)
        for variant in variants():
            if args.only and args.only not in variant.name:
                continue
            began = time.perf_counter()
            videos = refine(pipeline, inputs, variant, args.steps)
            seconds = time.perf_counter() - began
            row = {"scale": scale, "variant": variant.name, **measure(net, inputs, videos), "seconds": seconds}
            rows.append({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()})
            print("  ".join(f"{k} {v}" for k, v in rows[-1].items()), flush=True)
            pictures.append(np.concatenate([v[len(v) // 2] for v in videos[:4]], axis=1))
    if args.sheet:
        from PIL import Image

        width = max(p.shape[1] for p in pictures)
        padded = [np.pad(p, ((0, 0), (0, width - p.shape[1]), (0, 0))) for p in pictures]
        Image.fromarray(np.concatenate(padded)).save(args.sheet)
    print(json.dumps({"device": str(pipeline.pipe.device), "torch": torch.__version__, **vars(args) | {"sheet": None},
                      "rows": rows}))  # fmt: skip


if __name__ == "__main__":
    main()
