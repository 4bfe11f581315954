"""Which transformers FreeSwim can run on, and how it takes its place among the hooks of others."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttnProcessor


def check_stock_processors(module: WanTransformer3DModel) -> None:
    """Raises ValueError, with the layer's name, where attention is somebody else's already."""
    for name, processor in module.attn_processors.items():
        if type(processor) is not WanAttnProcessor:
            raise ValueError(
                f"FreeSwim replaces stock attention: {name} is {type(processor).__name__}, not WanAttnProcessor."
            )


def check_supported(module: WanTransformer3DModel) -> None:
    """Raises ValueError for what may be switched on after FreeSwim was applied, and says how to go on."""
    if module.blocks[0].attn1.processor._parallel_config is not None:
        raise ValueError(
            "FreeSwim's windows need the whole token grid on each device, and context parallelism splits it. "
            "Load the transformer without enable_parallelism(), or remove_freeswim(transformer)."
        )
    if module.is_cache_enabled:
        raise ValueError(
            "FreeSwim does not combine with diffusers' own caching, which would mix guide and window passes: "
            "call transformer.disable_cache()."
        )


@contextmanager
def without_accelerate_hook(module: torch.nn.Module) -> Iterator[None]:
    """Take accelerate's offload hook off meanwhile, so that it stays the outermost wrapper of `module.forward`.

    Pipelines take that hook off and on after every run, which restores the forward from before it: ours must be inside.
    """
    hook = getattr(module, "_hf_hook", None)
    if hook is None:
        yield
        return
    from accelerate.hooks import add_hook_to_module, remove_hook_from_module

    remove_hook_from_module(module)
    try:
        yield
    finally:
        add_hook_to_module(module, hook)
