"""Window attention as a few dense calls, one per row of tiles that look alike, through diffusers' attention backends.

The rows of keys that a row of tiles needs are copied once into a strip, column after column, so that a window of any
columns is a view of it. Tiles whose windows lie at equal steps are one batched call over overlapping views. If the
queries of a call have different windows, it has a mask. See `plan.py` for how calls are chosen. On a GPU, tiles too
small for dense calls go to a kernel of our own (`exact.py`), on Hopper large ones too.
"""

from collections.abc import Sequence
from functools import lru_cache, partial

import torch

from freeswim.attention import exact
from freeswim.attention.dense import Backend, attend, attend_with_sum, join, tells_sum, was_chosen
from freeswim.attention.plan import Cost, Run, batches, plan_calls
from freeswim.fused import copy_tokens
from freeswim.windows import Range, Segment

Context = tuple[torch.Tensor, torch.Tensor]
"""Keys and values, each (B, M, heads, D), that every query sees."""


@torch.compiler.disable  # type: ignore[untyped-decorator]
def tiled_attention(
    q_BLHD: torch.Tensor,
    k_BLHD: torch.Tensor,
    v_BLHD: torch.Tensor,
    *,
    frames: int,
    rows: Sequence[Segment],
    columns: Sequence[Segment],
    context: Context | None,
    scale: float | None,
    backend: Backend,
) -> torch.Tensor:
    """Window attention of `freeswim.attention.window_attention`, windows given by the segments of both axes.

    torch.compile leaves it as it is: its kernels are compiled already, and geometry in a graph would compile it anew
    for every grid.
    """
    # Joining two softmaxes costs a pass over the output; appending the context to every window costs copies of both.
    joins = context is not None and tells_sum(q_BLHD, backend)
    kernel = None
    if joins or context is None:
        kernel = exact.choose(q_BLHD, frames, rows, columns, scale, than_chosen=was_chosen(backend))
    if kernel is not None:
        out_BLHD, own_sum_BLH = exact.exact_attention(
            q_BLHD, k_BLHD, v_BLHD, frames=frames, rows=rows, columns=columns, scale=scale, kernel=kernel,
            wants_sum=joins,
        )  # fmt: skip
        if context is not None and own_sum_BLH is not None:
            join(out_BLHD, own_sum_BLH, *attend_with_sum(q_BLHD, *context, scale, backend))
        return out_BLHD
    appended = None if joins else context
    cost = _cost(q_BLHD, 0 if appended is None else appended[0].shape[1])
    row_runs, column_runs = plan_calls(rows, columns, frames=frames, cost=cost)
    if len(row_runs) == len(column_runs) == 1 and row_runs[0].uniform and column_runs[0].uniform:
        if context is not None:
            k_BLHD, v_BLHD = torch.cat([k_BLHD, context[0]], dim=1), torch.cat([v_BLHD, context[1]], dim=1)
        return attend(q_BLHD, k_BLHD, v_BLHD, None, scale, backend)

    masked = not all(run.uniform for run in (*row_runs, *column_runs))
    joins = joins and not masked
    if masked:
        appended = context
    grid = (frames, rows[-1].queries[1], columns[-1].queries[1])
    q_BTYXHD, k_BTYXHD, v_BTYXHD = (tensor.unflatten(1, grid) for tensor in (q_BLHD, k_BLHD, v_BLHD))
    out_BTYXHD = torch.empty_like(q_BTYXHD)
    sum_BTYXH = torch.empty(q_BTYXHD.shape[:-1], dtype=torch.float32, device=q_BLHD.device) if joins else None
    # Windows with the context appended are copies: one at a time they stay small.
    column_batches = batches(column_runs) if appended is None else tuple((run,) for run in column_runs)
    for row_run in row_runs:
        _attend_strip(
            q_BTYXHD, k_BTYXHD, v_BTYXHD, out_BTYXHD, sum_BTYXH, row_run,
            columns=column_batches, context=appended, scale=scale, backend=backend,
        )  # fmt: skip
    out_BLHD = out_BTYXHD.flatten(1, 3)
    if joins and context is not None and sum_BTYXH is not None:
        join(out_BLHD, sum_BTYXH.flatten(1, 3), *attend_with_sum(q_BLHD, *context, scale, backend))
    return out_BLHD


def _attend_strip(
    q_BTYXHD: torch.Tensor,
    k_BTYXHD: torch.Tensor,
    v_BTYXHD: torch.Tensor,
    out_BTYXHD: torch.Tensor,
    sum_BTYXH: torch.Tensor | None,
    row_run: Run,
    *,
    columns: Sequence[tuple[Run, ...]],
    context: Context | None,
    scale: float | None,
    backend: Backend,
) -> None:
    """All tiles of a run of rows, written to the output and, if it is wanted, to the logarithm of the sums."""
    batch, frames, _, width = q_BTYXHD.shape[:4]
    k_strip, v_strip = (_column_major(x, row_run.keys) for x in (k_BTYXHD, v_BTYXHD))
    for runs in columns:
        tiles = partial(
            _tiles, rows=row_run.queries, columns=(runs[0].queries[0], runs[-1].queries[1]), count=len(runs)
        )
        queries = _copied(tiles(q_BTYXHD)).flatten(2, 4).flatten(0, 1)
        keys, values = (_windows(strip, runs, width) for strip in (k_strip, v_strip))
        if context is not None:
            keys, values = (torch.cat([x, extra], dim=1) for x, extra in zip((keys, values), context, strict=True))
        if sum_BTYXH is None:
            length = 0 if context is None else context[0].shape[1]
            out = attend(queries, keys, values, _run_mask(row_run, runs[0], frames, length, queries), scale, backend)
        else:
            out, sums = attend_with_sum(queries, keys, values, scale, backend)
            target = tiles(sum_BTYXH)
            target.copy_(sums.reshape(target.shape))
        target = tiles(out_BTYXHD)
        copy_tokens(target, out.unflatten(0, (batch, -1)).unflatten(2, target.shape[2:5]))


def _tiles(x_BTYX: torch.Tensor, *, rows: Range, columns: Range, count: int) -> torch.Tensor:
    """(B, count, T, y, x, ...): a row of `count` equal tiles, a view."""
    return x_BTYX[:, :, slice(*rows), slice(*columns)].unflatten(3, (count, -1)).movedim(3, 1)


def _column_major(x_BTYXHD: torch.Tensor, rows: Range) -> torch.Tensor:
    """(B, X*T*rows, heads, D): rows of all frames, copied once so that neighbouring columns lie behind each other."""
    return _copied(x_BTYXHD[:, :, slice(*rows)].permute(0, 3, 1, 2, 4, 5)).flatten(1, 3)


def _copied(tokens: torch.Tensor) -> torch.Tensor:
    copy = torch.empty(tokens.shape, dtype=tokens.dtype, device=tokens.device)
    copy_tokens(copy, tokens)
    return copy


def _windows(strip_BLHD: torch.Tensor, runs: Sequence[Run], width: int) -> torch.Tensor:
    """(B * runs, columns*T*rows, heads, D): the columns that each run sees. A view, unless B > 1 and runs > 1."""
    column = strip_BLHD.shape[1] // width
    first, last = (run.keys[0] * column for run in (runs[0], runs[-1]))
    length = runs[0].keys[1] * column - first
    if len(runs) == 1:
        return strip_BLHD[:, first : first + length]
    step = (last - first) // (len(runs) - 1)
    windows = strip_BLHD[:, first : last + length].unfold(1, length, step)  # (B, runs, heads, D, length)
    return windows.movedim(-1, 2).flatten(0, 1)


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
