"""Loads a base model as a stock diffusers WanPipeline: device, precision, offloading, and errors people can read."""

from typing import Any, get_args

import torch
from diffusers import WanPipeline

from freeswim.models import MODELS, BaseModel
from freeswim.offload import Offload, choose_offload

__all__ = ["Offload", "load_pipeline", "place_pipeline"]


def load_pipeline(
    model: BaseModel,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    offload: Offload = "auto",
) -> WanPipeline:
    """The model's pipeline on `device` (default: CUDA where there is one, else the CPU).

    dtype: of transformer and text encoder; default bfloat16 on CUDA, float32 elsewhere. Layers that the models keep in
        float32 stay so, and the VAE is always float32, as Wan's authors recommend (bfloat16 shows banding).
    offload: "model" keeps one component at a time on the GPU, "group" one layer at a time (slower, least memory);
        both are diffusers' own. "auto" is "model" where all components would take more than a third of the GPU memory
        that is free, else "none".

    Raises:
        ValueError: In one line, and before any download where that can be told: a device that isn't there, a model
            that needs CUDA (unless device="cpu" is given), a checkpoint that is missing or broken.
    """
    model.check()
    place = _device(model, device)
    if offload not in get_args(Offload):
        raise ValueError(f"offload={offload!r} is unknown: use {', '.join(get_args(Offload))}")
    if offload in ("model", "group") and place.type == "cpu":
        raise ValueError(f"offload={offload!r} needs an accelerator, but device={str(place)!r}: use offload 'none'")
    dtype = dtype or (torch.bfloat16 if place.type == "cuda" else torch.float32)
    pipe = _load(model, {"vae": torch.float32, "default": dtype})
    pipe.set_progress_bar_config(disable=True)
    place_pipeline(pipe, place, offload)
    return pipe


def place_pipeline(pipe: WanPipeline, place: torch.device, offload: Offload = "auto") -> None:
    """Puts a pipeline's components where `offload` says, as `load_pipeline` does."""
    if offload == "auto":
        offload = choose_offload(_weights(pipe), torch.cuda.mem_get_info(place)[0]) if place.type == "cuda" else "none"
    if offload == "model":
        pipe.enable_model_cpu_offload(device=place)
    elif offload == "group":
        # No stream: prefetching expects every leaf to run, and cross-attention that is overridden does not. Waiting for
        # the copies costs little beside a step at the large size.
        pipe.enable_group_offload(onload_device=place, offload_type="leaf_level", low_cpu_mem_usage=True)
    else:
        pipe.to(place)


def _weights(pipe: WanPipeline) -> int:
    """Bytes of all parameters and buffers."""
    modules = (part for part in pipe.components.values() if isinstance(part, torch.nn.Module))
    return sum(tensor.nbytes for part in modules for tensor in (*part.parameters(), *part.buffers()))


def _device(model: BaseModel, device: str | torch.device | None) -> torch.device:
    if device is None:
        if not torch.cuda.is_available() and model.needs == "cuda":
            others = [other.name for other in MODELS.values() if other.needs == "cpu"]
            raise ValueError(
                f"model={model.name!r} needs a CUDA device and there is none here ({model.memory}): "
                f"use model {' or '.join(map(repr, others))}, or give device 'cpu' to run it very slowly all the same"
            )
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device={str(device)!r} is unknown: use 'cpu', 'cuda' or 'cuda:1'") from error
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device={str(device)!r} isn't there: this machine has {torch.cuda.device_count()} CUDA devices"
        )
    return place


def _load(model: BaseModel, dtype: dict[str, torch.dtype]) -> Any:
    try:
        return WanPipeline.from_pretrained(model.source, dtype=dtype)
    except torch.OutOfMemoryError:
        raise
    # diffusers, transformers, safetensors and the hub's client raise what they like for a bad or absent checkpoint.
    except Exception as error:
        where = "its folder" if model.folder is not None else "the Hugging Face hub or its local cache"
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(
            f"model={model.name!r} could not be loaded from {where} ({model.source}): {lines[0][:300]}; "
            "get the checkpoint again, or check the connection and the free disk space"
        ) from error
