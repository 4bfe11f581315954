"""The denoising loop of stage 2."""

from collections.abc import Callable

import torch
from diffusers import UniPCMultistepScheduler, WanTransformer3DModel


def denoise(
    transformer: WanTransformer3DModel,
    scheduler: UniPCMultistepScheduler,
    latents: torch.Tensor,
    text: torch.Tensor,
    negative_text: torch.Tensor | None,
    *,
    guidance_scale: float,
    on_step: Callable[[], None] = lambda: None,
) -> torch.Tensor:
    """Denoises `latents` (1, C, T, H, W), noised to the scheduler's begin index, through the steps that are left.

    Stage 2 of arXiv 2511.14712, SDEdit's second half (arXiv 2108.01073). `transformer` is stock or has FreeSwim
    applied: the cache context tells its hook the branch, the step (counted from here) and the noise level.
    text, negative_text: (1, L, D); without negative_text there is no classifier-free guidance.
    """
    begin = scheduler.begin_index
    timesteps = scheduler.timesteps[begin:]
    for i, t in enumerate(timesteps):
        context = {
            "step_index": i,
            "sigma": float(scheduler.sigmas[begin + i]),
            "num_inference_steps": len(timesteps),
        }
        inputs = {"hidden_states": latents.to(transformer.dtype), "timestep": t.expand(1), "return_dict": False}
        with transformer.cache_context("cond", **context):
            velocity = transformer(**inputs, encoder_hidden_states=text)[0].float()
        if negative_text is not None:
            with transformer.cache_context("uncond", **context):
                away = transformer(**inputs, encoder_hidden_states=negative_text)[0].float()
            velocity = away + guidance_scale * (velocity - away)
        latents = scheduler.step(velocity, t, latents, return_dict=False)[0]  # one latent: UniPC keeps a history
        on_step()
    return latents
