"""Window attention as a few dense calls, one per tile of queries, through diffusers' attention dispatch.

A tile's queries and the keys of its window are gathered and handed to whatever attention backend is set. If the queries
of a call have different windows, the call has a mask. See `plan.py` for how calls are chosen.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from diffusers.models.attention_dispatch import (
    AttentionBackendName,
    _AttentionBackendRegistry,  # the only way to ask which backend is active
    dispatch_attention_fn,
)

from freeswim.attention.plan import Cost, Run, plan_calls
from freeswim.windows import Range, Segment

# Flash, Sage and variable-length kernels know no mask per query and key: masked calls go to native attention there.
_BACKENDS_WITH_MASK = frozenset(
    {
        AttentionBackendName.NATIVE,
        AttentionBackendName._NATIVE_CUDNN,
        AttentionBackendName._NATIVE_EFFICIENT,
        AttentionBackendName._NATIVE_MATH,
    }
)


def tiled_attention(
    q_BLHD: torch.Tensor,
    k_BLHD: torch.Tensor,
    v_BLHD: torch.Tensor,
    *,
    frames: int,
    rows: Sequence[Segment],
    columns: Sequence[Segment],
    context: tuple[torch.Tensor, torch.Tensor] | None,
    scale: float | None,
    backend: AttentionBackendName | str | None,
) -> torch.Tensor:
    """Window attention of `freeswim.attention.window_attention`, windows given by the segments of both axes."""
    height, width = rows[-1].queries[1], columns[-1].queries[1]
    context_length = 0 if context is None else context[0].shape[1]
    row_runs, column_runs = plan_calls(rows, columns, frames=frames, cost=_cost(q_BLHD, context_length))
    if len(row_runs) == len(column_runs) == 1 and row_runs[0].uniform and column_runs[0].uniform:
        if context is not None:
            k_BLHD, v_BLHD = torch.cat([k_BLHD, context[0]], dim=1), torch.cat([v_BLHD, context[1]], dim=1)
        return _attend(q_BLHD, k_BLHD, v_BLHD, None, scale, backend)

    grid = (frames, height, width)
    q_BTYXHD, k_BTYXHD, v_BTYXHD = (tensor.unflatten(1, grid) for tensor in (q_BLHD, k_BLHD, v_BLHD))
    out_BTYXHD = torch.empty_like(q_BTYXHD)
    for row_run in row_runs:
        k_strip, v_strip = _column_major(k_BTYXHD, row_run.keys), _column_major(v_BTYXHD, row_run.keys)
        for column_run in column_runs:
            keys = _columns(k_strip, column_run.keys, width)
            values = _columns(v_strip, column_run.keys, width)
            if context is not None:
                keys, values = torch.cat([keys, context[0]], dim=1), torch.cat([values, context[1]], dim=1)
            mask = _run_mask(row_run, column_run, frames, context_length, q_BLHD)
            tile = (slice(None), slice(None), slice(*row_run.queries), slice(*column_run.queries))
            queries = q_BTYXHD[tile]
            out = _attend(queries.flatten(1, 3), keys, values, mask, scale, backend)
            out_BTYXHD[tile] = out.unflatten(1, queries.shape[1:4])
    return out_BTYXHD.flatten(1, 3)


def _column_major(x_BTYXHD: torch.Tensor, rows: Range) -> torch.Tensor:
    """(B, X*T*rows, heads, D): rows of all frames, copied once so that neighbouring columns lie behind each other."""
    return x_BTYXHD[:, :, slice(*rows)].permute(0, 3, 1, 2, 4, 5).flatten(1, 3)


def _columns(strip_BLHD: torch.Tensor, columns: Range, width: int) -> torch.Tensor:
    """(B, columns*T*rows, heads, D): some columns of a strip, without a copy."""
    column = strip_BLHD.shape[1] // width
    return strip_BLHD[:, columns[0] * column : columns[1] * column]


def _attend(
    q_BLHD: torch.Tensor,
    k_BLHD: torch.Tensor,
    v_BLHD: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float | None,
    backend: AttentionBackendName | str | None,
) -> torch.Tensor:
    """One dense attention, called as stock processors call it."""
    if mask is not None:
        active = _AttentionBackendRegistry.get_active_backend()[0] if backend is None else backend
        if AttentionBackendName(active) not in _BACKENDS_WITH_MASK:
            backend = AttentionBackendName.NATIVE
    return dispatch_attention_fn(
        q_BLHD, k_BLHD, v_BLHD, attn_mask=mask, dropout_p=0.0, is_causal=False, scale=scale, backend=backend
    )


def _run_mask(
    row_run: Run, column_run: Run, frames: int, context_length: int, like: torch.Tensor
) -> torch.Tensor | None:
    """The additive mask (1, 1, queries, keys) of a call, or None if its queries share one window."""
    if row_run.uniform and column_run.uniform:
        return None
    return _mask(row_run.relative_keys, column_run.relative_keys, frames, context_length, like.dtype, like.device)


@lru_cache(maxsize=32)
def _mask(
    rows: tuple[Range, ...],
    columns: tuple[Range, ...],
    frames: int,
    context_length: int,
    dtype: torch.dtype,
    device: torch.device,
) -> torch.Tensor:
    """Depends on relative geometry only, so that the calls inside a grid, and all layers and steps, share a few masks.

    Additive (0 or -inf) in the queries' dtype: kernels turn a boolean mask into this one at every call.
    """
    # A tensor made under inference_mode could not serve a later call that records gradients.
    with torch.inference_mode(False):
        row_mask, column_mask = (
            torch.tensor(
                [[start <= key < stop for key in range(max(stop for _, stop in axis))] for start, stop in axis]
            )
            for axis in (rows, columns)
        )
        # Queries are ordered (t, y, x) and keys, as `_column_major` puts them, (X, T, Y).
        seen = row_mask[:, None, None, None, :] & column_mask[None, :, :, None, None]
        seen = seen.expand(-1, -1, -1, frames, -1).flatten(2).flatten(0, 1)
        seen = torch.cat([seen.repeat(frames, 1), seen.new_ones(frames * seen.shape[0], context_length)], dim=1)
        mask = torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, float("-inf"))
        return mask.to(device)[None, None]


def _cost(q_BLHD: torch.Tensor, context_length: int) -> Cost:
    """What a call of this size costs on this kind of device.

    On CPU cores (measured on two) a call's overhead is worth about 6e6 floating-point operations, and copying a key as
    much as 16 queries reading it; a mask costs little. On an H100 a call of few queries, which cannot fill the chip, is
    worth about 1e11 operations, a copy as much as 360 queries, and a mask costs the flash kernel.
    """
    batch, _, heads, dim = q_BLHD.shape
    pair = 4 * batch * heads * dim
    if q_BLHD.device.type == "cpu":
        call, gather, masked, mask_limit = 6e6, 16.0, 1.05, 2**22
    else:
        call, gather, masked, mask_limit = 1e11, 360.0, 2.5, 2**25
    return Cost(call / pair, gather, context_length, masked, mask_limit)
