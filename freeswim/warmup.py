"""Kernels built ahead. Triton compiles each of ours once on a machine and loads it once in a process: a second or two
that the first step of stage 2 would wait for, and that nobody waits for behind stage 1."""

import logging
from collections.abc import Sequence
from threading import Thread

import torch
from diffusers import WanTransformer3DModel
from torch import nn

from freeswim import fused
from freeswim.attention import exact
from freeswim.config import FreeSwimConfig
from freeswim.state import Grid
from freeswim.windows import axis_segments

_LOGGER = logging.getLogger(__name__)
_GRID = (1, 2, 8)  # of tokens to run the kernels on; their code is the same for all grids


Passes = Sequence[tuple[Grid, FreeSwimConfig]]
"""What stage 2 is going to run: token grids and how."""


def build_kernels_behind(
    transformer: WanTransformer3DModel, device: torch.device, passes: Passes = ()
) -> Thread | None:
    """Begins to build the kernels that blocks like `transformer`'s run on `device`. None if it isn't CUDA.

    The thread ends by itself; what goes wrong in it will go wrong again, and be told, where the kernels are used.
    """
    if device.type != "cuda":
        return None
    thread = Thread(target=_guarded, args=(transformer, device, passes), name="build kernels", daemon=True)
    thread.start()
    return thread


def _guarded(transformer: WanTransformer3DModel, device: torch.device, passes: Passes) -> None:
    try:
        with torch.no_grad(), torch.cuda.device(device):
            if fused.available(torch.empty(0, device=device)):
                build_kernels(transformer, device, passes)
    except Exception as error:  # ahead of its use a kernel that cannot be built is no one's concern
        _LOGGER.info("kernels could not be built ahead: %s", error)


def build_kernels(transformer: WanTransformer3DModel, device: torch.device, passes: Passes = ()) -> None:
    """Runs each kernel once as `freeswim.block` and the processors do, on a few tokens."""
    heads, dim = transformer.config.num_attention_heads, transformer.config.attention_head_dim
    block, tokens = transformer.blocks[0], _GRID[0] * _GRID[1] * _GRID[2]
    x, y = (torch.zeros(1, tokens, heads * dim, dtype=transformer.dtype, device=device) for _ in range(2))
    modulation = torch.zeros(1, 1, heads * dim, device=device)
    fused.add_and_norm(x, scale=modulation, shift=modulation)
    fused.add_and_norm(x, y, modulation)
    fused.add_and_norm(x, y, scale=modulation, shift=modulation)
    if not isinstance(block.norm2, nn.Identity):
        weight = torch.ones_like(block.norm2.weight, device=device)
        fused.add_and_norm(x, y, modulation, scale=weight, shift=weight, modulated=False)
    if fused.rotates(dim):
        weight = torch.ones_like(block.attn1.norm_q.weight, device=device)
        rotary = torch.ones(1, tokens, 1, dim, device=device), torch.ones(1, tokens, 1, dim, device=device)
        fused.norm_and_rotate(x, weight, 1e-6, rotary, heads)
        fused.norm_and_rotate(x, weight, 1e-6, None, heads)
        fused.norm_and_rotate(x, None, 0.0, rotary, heads)
    tokens_of_heads = x.unflatten(2, (heads, dim)).unflatten(1, _GRID)
    fused.copy_tokens(y.view(tokens_of_heads.shape), tokens_of_heads)
    fused.resize_tokens(x, _GRID, (1, 4, 16))
    like = tokens_of_heads.flatten(1, 3)
    for (frames, *sizes), config in passes:
        rows, columns = (
            axis_segments(size, window, tile=tile, mode=config.window_mode)
            for size, window, tile in zip(sizes, config.window, config.query_tile, strict=True)
        )
        kernel = exact.choose(like, frames, rows, columns, None)
        if kernel is not None and config.override != "output":
            exact.build_with_sums(kernel, like)
