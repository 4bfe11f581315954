"""Native videos and second stages, many prompts at a time, on the embedded model."""

import time
from dataclasses import dataclass

import numpy as np
import torch

from freeswim import FreeSwimConfig, FreeSwimPipeline, Request, apply_freeswim, codec, remove_freeswim
from freeswim.denoise import denoise
from freeswim.plan import Plan, make_plan
from freeswim.request import refine_steps
from freeswim.sizes import Size
from training import whole_clip
from training.clips import FRAMES
from training.render import Renderer, to_uint8
from training.scenes import PIXELS_PER_UNIT, Scene, View, caption, unseen_scenes

SCENE_SEED = 2024  # of the prompts
NATIVE_SEED, REFINE_SEED = 0, 5000  # of the noise: clip i starts from seed + i
MAX_DECODED = 20_000_000  # pixels decoded in one call


@dataclass(frozen=True)
class Clips:
    """What all variants of a size start from: N clips, every prompt once for each seed."""

    plan: Plan
    """Of any of the prompts: all share the sizes, the steps and the default config."""
    scenes: list[Scene]
    prompts: list[str]
    native: torch.Tensor
    """uint8 (N, T, h, w, 3)."""
    clean: torch.Tensor
    """Latents of the enlarged native videos, (N, C, T', H / 8, W / 8)."""
    noise: torch.Tensor
    """Like `clean`."""

    @property
    def size(self) -> Size:
        return self.plan.target


@dataclass(frozen=True)
class Run:
    """A second stage of all clips."""

    videos: torch.Tensor
    """uint8 (N, T, H, W, 3)."""
    seconds_per_step: float | None = None
    """Of all clips at once, both passes, decoding not counted. None: nothing was denoised."""
    peak_gib: float | None = None
    """The most GPU memory during the steps. None on a CPU."""


def aspect_of(size: Size) -> str:
    """The renderer's aspect of a size."""
    return "wide" if size.width > 1.2 * size.height else "tall" if size.height > 1.2 * size.width else "square"


@torch.no_grad()
def prepare(pipeline: FreeSwimPipeline, size: Size, *, prompts: int, seeds: int, steps: int, batch: int) -> Clips:
    """Make the native videos, enlarge and encode them."""
    rng = np.random.default_rng(SCENE_SEED)
    scenes = unseen_scenes(rng, prompts, aspect_of(size))
    texts = [caption(scene, View(), rng, complete=True) for scene in scenes]
    scenes, texts = scenes * seeds, texts * seeds
    plan = make_plan(Request(prompt=texts[0], width=size.width, height=size.height, steps=steps), pipeline.model)
    native = decode(pipeline, native_latents(pipeline, plan, texts, batch), plan.native)
    clean = torch.cat([encode(pipeline, part, plan) for part in native.split(batch)])
    noise = torch.stack([_noise(clean.shape[1:], REFINE_SEED + i) for i in range(len(clean))])
    return Clips(plan, scenes, texts, native, clean, noise.to(clean.device))


def native_latents(pipeline: FreeSwimPipeline, plan: Plan, prompts: list[str], batch: int) -> torch.Tensor:
    """Latents (N, C, T', h, w) by the stock pipeline."""
    pipe, model, parts = pipeline.pipe, pipeline.model, []
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, flow_shift=model.native_shift)
    for start in range(0, len(prompts), batch):
        part = prompts[start : start + batch]
        seeds = range(NATIVE_SEED + start, NATIVE_SEED + start + len(part))
        parts.append(
            pipe(
                part, height=plan.native.height, width=plan.native.width, num_frames=FRAMES,
                num_inference_steps=plan.request.steps, guidance_scale=model.guidance_scale, output_type="latent",
                generator=[torch.Generator().manual_seed(seed) for seed in seeds],
                max_sequence_length=model.max_sequence_length,
            ).frames
        )  # fmt: skip
    return torch.cat(parts).float()


@torch.no_grad()
def refine(
    pipeline: FreeSwimPipeline, clips: Clips, config: FreeSwimConfig | None, *, strength: float, steps: int, batch: int
) -> Run:
    """Stage 2 of all clips, as `FreeSwimPipeline` does it for one. config None: the stock model, full attention."""
    pipe, model, parts = pipeline.pipe, pipeline.model, []
    cuda = clips.clean.device.type == "cuda"
    dtype = pipe.transformer.dtype
    begin = steps - refine_steps(steps, strength)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    started = time.perf_counter()
    for part in torch.arange(len(clips.prompts)).split(batch):
        scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, flow_shift=model.refine_shift)
        scheduler.set_timesteps(steps, device=clips.clean.device)
        scheduler.set_begin_index(begin)
        sigma = float(scheduler.sigmas[begin])
        start = (1 - sigma) * clips.clean[part] + sigma * clips.noise[part] if begin else clips.noise[part]
        text, negative = pipe.encode_prompt(
            [clips.prompts[i] for i in part], None, True, max_sequence_length=model.max_sequence_length
        )
        if config is not None:
            apply_freeswim(pipe.transformer, config)
        try:
            parts.append(
                denoise(
                    pipe.transformer, scheduler, start, text.to(dtype), negative.to(dtype),
                    guidance_scale=model.guidance_scale,
                )
            )  # fmt: skip
        finally:
            remove_freeswim(pipe.transformer)
    if cuda:
        torch.cuda.synchronize()
    seconds = (time.perf_counter() - started) / (steps - begin)
    peak = torch.cuda.max_memory_allocated() / 2**30 if cuda else None
    return Run(decode(pipeline, torch.cat(parts), clips.size), seconds, peak)


def true_videos(clips: Clips, device: torch.device) -> torch.Tensor:
    """The clips' scenes drawn at the target size: uint8 (N, T, H, W, 3)."""
    renderer, size = Renderer(device), (clips.size.height, clips.size.width)
    # the renderer draws only the kinds of subject that a batch holds; one scene at a time bounds memory too
    return torch.cat([to_uint8(renderer([s], [whole_scene(s, clips.size)], size, FRAMES)) for s in clips.scenes])


def whole_scene(scene: Scene, size: Size) -> View:
    """What shows all of `scene` in a picture of `size`, and no more."""
    return View(zoom=size.height / (scene.height * PIXELS_PER_UNIT))


def enlarged(clips: Clips) -> torch.Tensor:
    """The native videos at the target size, bilinearly: uint8 (N, T, H, W, 3)."""
    size = clips.size
    pixels = (codec.enlarged_input(video, size, size, dtype=torch.float32) for video in clips.native)
    return torch.cat([_to_uint8(video) for video in pixels])


def encode(pipeline: FreeSwimPipeline, videos: torch.Tensor, plan: Plan) -> torch.Tensor:
    """Normalised latents of uint8 videos (N, T, h, w, 3), enlarged to the target and padded to whole tokens."""
    vae, latents = pipeline.pipe.vae, []
    for video in videos:
        pixels = codec.enlarged_input(video, plan.target, plan.padded, dtype=vae.dtype)
        latents.append(whole_clip.encode(vae, pixels).mode().float())
    mean, deviation = codec.latent_statistics(vae, latents[0])
    return (torch.cat(latents) - mean) / deviation


@torch.no_grad()
def decode(pipeline: FreeSwimPipeline, latents: torch.Tensor, size: Size) -> torch.Tensor:
    """uint8 (N, T, H, W, 3), cropped to `size`."""
    vae = pipeline.pipe.vae
    mean, deviation = codec.latent_statistics(vae, latents)
    clip = FRAMES * size.width * size.height
    parts = (latents * deviation + mean).split(max(1, MAX_DECODED // clip))
    return torch.cat([_to_uint8(whole_clip.decode(vae, part)[..., : size.height, : size.width]) for part in parts])


def _to_uint8(videos: torch.Tensor) -> torch.Tensor:
    """(N, 3, T, H, W) in -1..1 to uint8 (N, T, H, W, 3)."""
    return ((videos.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 4, 1).contiguous()


def _noise(shape: torch.Size, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
