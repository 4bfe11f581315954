"""Wan's rotary embedding at any positions, whole or fractional."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed
from torch import nn

from freeswim import fused

Rotary = tuple[torch.Tensor, torch.Tensor]
"""cos and sin, each (1, T*H*W, 1, D) float32, every value twice in a row, as WanTransformer3DModel hands them on."""


def rotary_embedding(rope: WanRotaryPosEmbed, positions: Sequence[torch.Tensor], device: torch.device) -> Rotary:
    """The rotary embedding of a grid whose rows along t, h and w lie at `positions` (each 1-D, in tokens).

    At whole positions it agrees with the buffers of `rope` to float32 precision; like these it is computed in float64.
    The head's dimensions are split between the axes as `rope` splits them.
    """
    dims = (rope.t_dim, rope.h_dim, rope.w_dim)
    shape = tuple(len(axis) for axis in positions)
    cos: list[torch.Tensor] = []
    sin: list[torch.Tensor] = []
    for axis, (dim, position) in enumerate(zip(dims, positions, strict=True)):
        tables = get_1d_rotary_pos_embed(
            dim, position.double().cpu(), use_real=True, repeat_interleave_real=True, freqs_dtype=torch.float64
        )
        view = [1, 1, 1, dim]
        view[axis] = shape[axis]
        for parts, table in zip((cos, sin), tables, strict=True):
            parts.append(table.view(view).expand(*shape, dim))
    whole_cos, whole_sin = (torch.cat(parts, dim=-1).view(1, -1, 1, sum(dims)).to(device) for parts in (cos, sin))
    return whole_cos, whole_sin


def scaled_positions(size: int, target: int) -> torch.Tensor:
    """Where the centres of `size` tokens fall on an axis of `target` tokens over the same picture: (size,) float64."""
    return (torch.arange(size, dtype=torch.float64) + 0.5) * (target / size) - 0.5


def norm_and_rotate(x_BLC: torch.Tensor, norm: Any, rotary: Rotary | None, heads: int) -> torch.Tensor:
    """Wan's norm of queries or keys over all heads and then their rotary embedding: (B, L, C) to (B, L, heads, D)."""
    head_dim = x_BLC.shape[-1] // heads
    plain = type(norm) is nn.RMSNorm and norm.weight is not None and norm.eps is not None
    if plain and fused.rotates(head_dim) and fused.available(x_BLC, norm.weight, *(rotary or ())):
        return fused.norm_and_rotate(x_BLC, norm.weight, norm.eps, rotary, heads)
    normed = norm(x_BLC).unflatten(2, (heads, -1))
    return normed if rotary is None else apply_rotary(normed, rotary)


def apply_rotary(x_BLHD: torch.Tensor, rotary: Rotary) -> torch.Tensor:
    """Rotate each pair of neighbouring dimensions, in Wan's order of arithmetic, so that the result is Wan's own."""
    if fused.rotates(x_BLHD.shape[-1]) and fused.available(x_BLHD, *rotary):
        return fused.norm_and_rotate(x_BLHD.flatten(2), None, 0.0, rotary, x_BLHD.shape[2])
    cos, sin = rotary[0][..., 0::2], rotary[1][..., 1::2]
    x1, x2 = x_BLHD.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((x1 * cos - x2 * sin, x1 * sin + x2 * cos), dim=-1).flatten(-2).type_as(x_BLHD)
