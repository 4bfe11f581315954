"""Window attention: each query of a (T, H, W) grid sees all frames and a spatial window, and optionally a context."""

from typing import Literal

import torch
from diffusers.models.attention_dispatch import AttentionBackendName

from freeswim.attention.reference import reference_attention
from freeswim.attention.tiles import tiled_attention
from freeswim.config import WindowMode
from freeswim.windows import axis_segments

__all__ = ["window_attention"]


def window_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    grid: tuple[int, int, int],
    window: tuple[int, int],
    query_tile: tuple[int, int] = (1, 1),
    window_mode: WindowMode = "inward",
    tile_shift: tuple[int, int] = (0, 0),
    context_k: torch.Tensor | None = None,
    context_v: torch.Tensor | None = None,
    scale: float | None = None,
    implementation: Literal["tiles", "reference"] = "tiles",
    backend: AttentionBackendName | str | None = None,
) -> torch.Tensor:
    """Softmax attention in which each query sees its spatial window in every frame (arXiv 2511.14712).

    Args:
        q, k, v: (B, T*H*W, heads, D), rows ordered frame by frame, then row by row. Any float dtype and device.
        grid: (T, H, W) of the tokens.
        window: (h, w) of the window; an axis no longer than the window is seen whole.
        query_tile: Queries of one such tile share the window around the tile's centre. (1, 1): a window per query.
            Not used by "blocks", whose blocks are the tiles.
        window_mode: Where windows lie at the border, see `freeswim.windows.window_range`.
        tile_shift: (y, x) by which the tile grid is moved; the tiles in front are then cut.
        context_k, context_v: (B, M, heads, D), keys and values that every query sees besides its window, in the same
            softmax.
        scale: Factor on the logits; None is 1 / sqrt(D).
        implementation: "tiles" is fast and runs on diffusers' attention backends; "reference" is the specification.
        backend: A diffusers attention backend for "tiles"; None is the one that is active.

    Returns:
        (B, T*H*W, heads, D), dtype of `q`.

    Raises:
        ValueError: Shapes, window or tile do not fit together.
    """
    frames, height, width = grid
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        if tensor.ndim != 4 or tensor.shape[1] != frames * height * width:
            raise ValueError(
                f"{name}.shape={tuple(tensor.shape)} is not (B, {frames * height * width}, heads, D): {grid=}."
            )
    if (context_k is None) != (context_v is None):
        raise ValueError("context_k and context_v belong together: give both or neither.")
    context = None if context_k is None or context_v is None else (context_k, context_v)
    rows, columns = (
        tuple(axis_segments(size, extent, tile=tile, shift=shift, mode=window_mode))
        for size, extent, tile, shift in zip((height, width), window, query_tile, tile_shift, strict=True)
    )
    if implementation == "reference":
        return reference_attention(q, k, v, frames=frames, rows=rows, columns=columns, context=context, scale=scale)
    if implementation == "tiles":
        return tiled_attention(
            q, k, v, frames=frames, rows=rows, columns=columns, context=context, scale=scale, backend=backend
        )
    raise ValueError(f"{implementation=} is not 'tiles' or 'reference'.")
