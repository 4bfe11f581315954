"""FreeSwimPipeline: native video -> enlarge -> encode -> noise -> denoise with FreeSwim -> decode.

The method is arXiv 2511.14712's: a video of the trained size is enlarged and denoised once more from the middle of the
noise schedule (SDEdit, arXiv 2108.01073), with self-attention windows of the trained size.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from threading import Event, Thread
from typing import Any

import numpy as np
import torch
from diffusers import UniPCMultistepScheduler, WanPipeline
from numpy.typing import NDArray

from freeswim import __version__, codec
from freeswim.config import FreeSwimConfig
from freeswim.denoise import denoise
from freeswim.hook import apply_freeswim, remove_freeswim
from freeswim.loading import Offload, load_pipeline
from freeswim.models import BaseModel, find_model
from freeswim.plan import Plan, Stage, make_plan
from freeswim.progress import Progress, Stop, Tracker
from freeswim.request import Request
from freeswim.sizes import Size
from freeswim.video import Video
from freeswim.warmup import build_kernels_behind

__all__ = ["FreeSwimPipeline", "Progress", "Result", "Stop", "Stopped", "Video"]

# Stage 2 draws its noise from this stream of the seed, stage 1 from the seed itself.
_REFINE_STREAM = 0x9E3779B9


@dataclass(frozen=True, kw_only=True)
class Result:
    """The videos of a run by name ("base", "freeswim", "naive"), uint8 (T, H, W, 3), in the order they were made.

    `seconds` holds the time of each stage that ended, `settings` the resolved request and, under "run", what it ran on.
    A target that fits into the native size has only a "base" video.
    """

    videos: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    fps: float
    seconds: dict[str, float] = field(default_factory=dict)
    settings: dict[str, Any]

    @property
    def main(self) -> str:
        """The name of the video that was asked for."""
        return "freeswim" if "freeswim" in self.videos else "base"


class Stopped(Exception):
    """The run was stopped. `result` holds the videos that were done by then."""

    def __init__(self, result: Result) -> None:
        super().__init__("the run was stopped")
        self.result = result


@dataclass(frozen=True)
class _Prompt:
    """Text embeddings (1, L, D); `negative` is None without guidance."""

    positive: torch.Tensor
    negative: torch.Tensor | None


class FreeSwimPipeline:
    """FreeSwim around a stock WanPipeline, which stays usable as `.pipe` and is left stock after every call.

    One run at a time; `stop()` may be called from another thread.
    """

    def __init__(self, pipe: WanPipeline, model: BaseModel) -> None:
        self.pipe = pipe
        self.model = model
        self._stop = Event()
        self._building: Thread | None = None

    @classmethod
    def from_pretrained(
        cls,
        model: str | BaseModel = "embedded",
        *,
        device: str | torch.device | None = None,
        torch_dtype: torch.dtype | None = None,
        offload: Offload = "auto",
    ) -> "FreeSwimPipeline":
        """Loads a model by name or folder (see freeswim.models); device, precision, errors: see load_pipeline."""
        base = find_model(model) if isinstance(model, str) else model
        return cls(load_pipeline(base, device=device, dtype=torch_dtype, offload=offload), base)

    def stop(self) -> None:
        """Ends the run within one step; it raises Stopped. Does nothing when none is under way."""
        self._stop.set()

    def __call__(
        self,
        request: Request,
        *,
        video: Video | None = None,
        on_progress: Callable[[Progress], object] | None = None,
        on_video: Callable[[str, Video], object] | None = None,
    ) -> Result:
        """Makes the native video, the FreeSwim video and, with `compare`, the naive one, in this order.

        The request's own `model` isn't looked at: this pipeline has one.

        video: 4k + 1 frames of any size to enlarge; stage 1 is left out then, and no "base" video made.
        on_progress: called at each stage's start and after each step. Returning False or raising Stop ends the run.
        on_video: called with a name and a video as soon as it exists, to save it before the next step that may fail.

        Raises:
            ValueError: The request is refused (see Request.resolved); nothing was done.
            Stopped: The run was ended; carries what was done.
        """
        plan = make_plan(request, self.model, own_frames=None if video is None else len(video.frames))
        result = Result(fps=self.model.fps if video is None else video.fps, settings=self._settings(plan))

        def finished(name: str, made: Video) -> Video:
            result.videos[name] = made.frames
            if on_video is not None:
                on_video(name, made)
            return made

        with self._run(plan, plan.stages(), result, on_progress, configs=plan.passes.values()) as track:
            prompt = self._encode_prompt(plan, track)
            base = video or finished("base", self._native(plan, prompt, track))
            noisy = self._noisy(plan, base, track) if plan.passes else None
            for name, config in plan.passes.items():
                finished(name, self._refined(plan, name, base, noisy, config, prompt, track))
        return result

    def native(self, request: Request, *, on_progress: Callable[[Progress], object] | None = None) -> Video:
        """Stage 1 alone: the native video for the request, by the stock pipeline. Raises what a call raises."""
        plan = make_plan(request, self.model)
        result = Result(fps=self.model.fps, settings=self._settings(plan))
        with self._run(plan, plan.native_stages(), result, on_progress) as track:
            return self._native(plan, self._encode_prompt(plan, track), track)

    def refine(
        self,
        video: Video,
        request: Request,
        *,
        config: FreeSwimConfig | None = None,
        on_progress: Callable[[Progress], object] | None = None,
    ) -> Video:
        """Stage 2 alone: `video`, of any size and 4k + 1 frames, remade at the request's size after its prompt.

        config: default is the request's own. Raises what a call raises.
        """
        plan = make_plan(request, self.model, own_frames=len(video.frames))
        config = config or plan.config
        result = Result(fps=video.fps, settings=self._settings(plan))
        with self._run(plan, plan.refine_stages("freeswim"), result, on_progress, configs=[config]) as track:
            prompt = self._encode_prompt(plan, track)
            noisy = self._noisy(plan, video, track)
            return self._refined(plan, "freeswim", video, noisy, config, prompt, track)

    def settings(self, request: Request, *, own_frames: int | None = None) -> dict[str, Any]:
        """What belongs into a video file: the resolved request and, under "run", what it comes to here. JSON-safe.

        own_frames: the length of a video that the caller brings.
        """
        return self._settings(make_plan(request, self.model, own_frames=own_frames))

    @contextmanager
    def _run(
        self,
        plan: Plan,
        stages: list[Stage],
        result: Result,
        on_progress: Callable[[Progress], object] | None,
        *,
        configs: Iterable[FreeSwimConfig] = (),
    ) -> Iterator[Tracker]:
        """No gradients, progress, stop, times, and models back to where they rest. `configs`: of the passes to come."""
        self._stop.clear()
        passes = [(plan.grid(plan.padded), config) for config in configs]
        self._building = build_kernels_behind(self.pipe.transformer, self.pipe._execution_device, passes)
        track = Tracker([Stage(name="prompt", kind="prompt"), *stages], on_progress, self._stop)
        try:
            with torch.no_grad():
                yield track
        except Stop:
            raise Stopped(result) from None
        finally:
            result.seconds.update(track.seconds)
            self.pipe.maybe_free_model_hooks()

    def _encode_prompt(self, plan: Plan, track: Tracker) -> _Prompt:
        """Text embeddings of the prompts, made once and used by every stage."""
        with track.stage("prompt") as step:
            guided = plan.request.guidance_scale > 1
            positive, negative = self.pipe.encode_prompt(
                prompt=plan.request.prompt,
                negative_prompt=plan.request.negative_prompt,
                do_classifier_free_guidance=guided,
                max_sequence_length=self.model.max_sequence_length,
            )
            step()
        dtype = self.pipe.transformer.dtype
        return _Prompt(positive.to(dtype), negative.to(dtype) if guided else None)

    def _native(self, plan: Plan, prompt: _Prompt, track: Tracker) -> Video:
        """Stage 1: text to video by the stock pipeline's own call."""

        def on_step_end(pipe: WanPipeline, index: int, timestep: torch.Tensor, tensors: Mapping[str, Any]) -> Any:
            step(_clean_latents(pipe.scheduler))
            return tensors

        with track.stage("native") as step:
            self.pipe.scheduler = self._scheduler(self.model.native_shift)
            latents = self.pipe(
                prompt_embeds=prompt.positive,
                negative_prompt_embeds=prompt.negative,
                height=plan.native.height,
                width=plan.native.width,
                num_frames=plan.request.num_frames,
                num_inference_steps=plan.request.steps,
                guidance_scale=plan.request.guidance_scale,
                generator=torch.Generator().manual_seed(plan.request.seed),  # on the CPU: the same on every device
                callback_on_step_end=on_step_end,
                max_sequence_length=self.model.max_sequence_length,
                output_type="latent",
            ).frames
        return self._decoded("native", latents, plan.native if plan.refines else plan.target, plan, track)

    def _noisy(self, plan: Plan, video: Video, track: Tracker) -> torch.Tensor | None:
        """The latents that stage 2 starts from, float32: the enlarged video, noised to its first step (SDEdit).

        None when the strength selects no step. From the first step on it is noise alone and nothing is encoded.
        """
        if plan.begin == plan.request.steps:
            return None
        device = self.pipe._execution_device
        vae, grid = self.pipe.vae, plan.grid(plan.padded)
        factor = vae.config.scale_factor_spatial
        shape = (1, vae.config.z_dim, grid[0], plan.padded.height // factor, plan.padded.width // factor)
        generator = torch.Generator().manual_seed(plan.request.seed ^ _REFINE_STREAM)
        noise = torch.randn(shape, generator=generator).to(device)
        if plan.begin == 0:
            return noise
        with track.stage("encode") as step:
            codec.set_tiling(vae, plan.padded, self.model.native, device)
            clean = codec.encode_frames(vae, video.frames, plan.target, plan.padded, device=device).to(device)
            step()
        scheduler = self._scheduler(plan.request.flow_shift)
        scheduler.set_timesteps(plan.request.steps)
        sigma = float(scheduler.sigmas[plan.begin])
        return (1 - sigma) * clean + sigma * noise

    def _refined(
        self,
        plan: Plan,
        name: str,
        video: Video,
        noisy: torch.Tensor | None,
        config: FreeSwimConfig,
        prompt: _Prompt,
        track: Tracker,
    ) -> Video:
        """Stage 2 from `noisy` under `config`; the transformer is stock again afterwards, whatever happens."""
        if noisy is None:
            return Video(codec.enlarge(video.frames, plan.target), video.fps)
        scheduler = self._scheduler(plan.request.flow_shift)
        scheduler.set_timesteps(plan.request.steps, device=noisy.device)
        scheduler.set_begin_index(plan.begin)
        with track.stage(name) as step:
            if self._building is not None:  # the first step would build what is not built yet a second time
                self._building.join()
            apply_freeswim(self.pipe.transformer, config)
            try:
                latents = denoise(
                    self.pipe.transformer, scheduler, noisy, prompt.positive, prompt.negative,
                    guidance_scale=plan.request.guidance_scale, on_step=lambda: step(_clean_latents(scheduler)),
                )  # fmt: skip
            finally:
                remove_freeswim(self.pipe.transformer)
        return dataclasses.replace(self._decoded(name, latents, plan.target, plan, track), fps=video.fps)

    def _decoded(self, name: str, latents: torch.Tensor, size: Size, plan: Plan, track: Tracker) -> Video:
        with track.stage(f"decode {name}") as step:
            denoised = plan.native if name == "native" else plan.padded
            codec.set_tiling(self.pipe.vae, denoised, self.model.native, latents.device)
            frames = codec.decode(self.pipe.vae, latents, size)
            step()
        return Video(frames, self.model.fps)

    def _scheduler(self, shift: float) -> UniPCMultistepScheduler:
        """A fresh scheduler for one stage, flow matching with `shift`, otherwise as the checkpoint has it."""
        flow = {"flow_shift": shift, "use_flow_sigmas": True, "prediction_type": "flow_prediction"}
        return UniPCMultistepScheduler.from_config(self.pipe.scheduler.config, **flow)

    def _settings(self, plan: Plan) -> dict[str, Any]:
        device = self.pipe._execution_device
        run = {
            "native_size": None if plan.own_video else str(plan.native),
            "own_video": plan.own_video,
            "token_grid": list(plan.grid(plan.padded)),
            "refine_steps": plan.request.steps - plan.begin if plan.refines else 0,
            "fps": self.model.fps,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
            "dtype": str(self.pipe.transformer.dtype).removeprefix("torch."),
            "versions": {"freeswim": __version__, "torch": torch.__version__, "diffusers": version("diffusers")},
        }
        return {**plan.request.to_dict(), "run": run}


def _clean_latents(scheduler: UniPCMultistepScheduler) -> torch.Tensor | None:
    """The clean latents that the scheduler's latest step aimed at: x - sigma * velocity, which UniPC keeps anyway."""
    return scheduler.model_outputs[-1] if scheduler.config.predict_x0 else None
