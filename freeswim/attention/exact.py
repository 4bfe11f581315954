"""Windows that differ from query to query, in one Triton kernel: for CUDA, where small tiles leave most of a dense
call's rows empty, and a call under a mask wastes its masked keys and cannot use the fastest kernels."""

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from statistics import median_low

import torch

from freeswim.fused import available, copy_tokens
from freeswim.windows import Segment

try:
    from freeswim.attention import exact_kernel
except ImportError:  # CPU builds of torch come without Triton
    exact_kernel = None  # type: ignore[assignment]

# Measured on an H100: other blocks of queries or keys, more or fewer warps and stages, and loads by the copy engine are
# slower or no faster.
_QUERIES = 128  # of a program; of a dense kernel's as well
_KEYS = 64  # that it reads at a time
_WARPS = 8
_STAGES = 4
_PRICE = 1.25  # of a pair of query and key, over a dense kernel's


def is_faster(
    q_BLHD: torch.Tensor, frames: int, rows: Sequence[Segment], columns: Sequence[Segment], scale: float | None
) -> bool:
    """Whether `exact_attention` takes such queries and beats dense calls, one for each window."""
    return _takes(q_BLHD) and (scale is None or scale > 0) and _beats_dense_calls(frames, tuple(rows), tuple(columns))


@lru_cache(maxsize=64)
def _beats_dense_calls(frames: int, rows: tuple[Segment, ...], columns: tuple[Segment, ...]) -> bool:
    sharing = frames * _typical_run(rows) * _typical_run(columns)
    filled = sharing / (-(-sharing // _QUERIES) * _QUERIES)
    height, width = _longest(rows), _longest(columns)
    union = _keys_of_a_block(_rows_of_a_block(frames, height, width), frames, height, width) / (height * width)
    return _PRICE * union < 1 / filled


def _typical_run(axis: tuple[Segment, ...]) -> int:
    """How many neighbouring queries of an axis share a window, at the median: at its ends more do."""
    runs = (list(run) for _, run in groupby(axis, key=lambda segment: segment.keys))
    return median_low(run[-1].queries[1] - run[0].queries[0] for run in runs)


def _longest(axis: Sequence[Segment]) -> int:
    return max(segment.keys[1] - segment.keys[0] for segment in axis)


def _takes(q_BLHD: torch.Tensor) -> bool:
    dim = q_BLHD.shape[-1]
    half = q_BLHD.dtype in (torch.bfloat16, torch.float16)
    return half and 16 <= dim <= 128 and dim & (dim - 1) == 0 and exact_kernel is not None and available(q_BLHD)


def exact_attention(
    q_BLHD: torch.Tensor,
    k_BLHD: torch.Tensor,
    v_BLHD: torch.Tensor,
    *,
    frames: int,
    rows: Sequence[Segment],
    columns: Sequence[Segment],
    scale: float | None,
    wants_sum: bool = False,
    block_rows: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Window attention of (B, T*H*W, heads, D), windows given by the segments of both axes; D a power of 2 from 16.

    block_rows: rows of the grid that a program's queries lie in, a power of 2 up to 16; None: the best for the windows.

    Returns the output, and if it is wanted the logarithm of each query's sum of exponentials, (B, T*H*W, heads)
    float32.
    """
    height, width = rows[-1].queries[1], columns[-1].queries[1]
    batch, _, heads, dim = q_BLHD.shape
    q_BLHD = q_BLHD.contiguous()
    keys, values = (_column_by_column(x, (frames, height, width)) for x in (k_BLHD, v_BLHD))
    out = torch.empty_like(q_BLHD)
    sums = torch.empty(q_BLHD.shape[:3], dtype=torch.float32, device=q_BLHD.device) if wants_sum else None
    block_rows = block_rows or _rows_of_a_block(frames, _longest(rows), _longest(columns))
    span = _QUERIES // block_rows
    exact_kernel.attend_in_windows[(-(-height // block_rows) * -(-width * frames // span), heads, batch)](
        q_BLHD, keys, values, out, out if sums is None else sums,
        _bounds(tuple(rows), q_BLHD.device), _bounds(tuple(columns), q_BLHD.device),
        heads, frames, height, width, (dim**-0.5 if scale is None else scale) / math.log(2),
        ROWS=block_rows, SPAN=span, DIM=dim, KEYS=_KEYS, SUMS=wants_sum, num_warps=_WARPS, num_stages=_STAGES,
    )  # fmt: skip
    return out, sums


def build(like_BLHD: torch.Tensor, frames: int, rows: Sequence[Segment], columns: Sequence[Segment]) -> None:
    """Has the kernels built that queries like these need on such a grid, by running them on one column of it."""
    tokens = like_BLHD.new_zeros(1, frames, *like_BLHD.shape[2:])
    alone = [Segment((0, 1), (0, 1))]
    block_rows = _rows_of_a_block(frames, _longest(rows), _longest(columns))
    for wants_sum in (False, True):
        exact_attention(
            tokens, tokens, tokens, frames=frames, rows=alone, columns=alone, scale=None,
            wants_sum=wants_sum, block_rows=block_rows,
        )  # fmt: skip


def _column_by_column(x_BLHD: torch.Tensor, grid: tuple[int, int, int]) -> torch.Tensor:
    """(B, H*W*T, heads, D): what is seen of a row, some columns in all frames, lies in one piece."""
    x = x_BLHD.unflatten(1, grid).permute(0, 2, 3, 1, 4, 5)
    copy = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    copy_tokens(copy, x)
    return copy.flatten(1, 3)


@lru_cache
def _rows_of_a_block(frames: int, height: int, width: int) -> int:
    """Of the shapes of a block of queries, that with the fewest keys in the union of its windows of height x width."""
    return min((1, 2, 4, 8, 16), key=lambda rows: _keys_of_a_block(rows, frames, height, width))


def _keys_of_a_block(rows: int, frames: int, height: int, width: int) -> float:
    """Keys of a frame that some query of a block of so many rows sees."""
    return (height + rows - 1) * (width + (_QUERIES // rows - 1) / frames)


@lru_cache(maxsize=64)
def _bounds(segments: tuple[Segment, ...], device: torch.device) -> torch.Tensor:
    """(2, size) int32: the first key that each query of an axis sees, and the one behind the last."""
    # A tensor made under inference_mode could not serve a later call that records gradients.
    with torch.inference_mode(False):
        keys = [segment.keys for segment in segments for _ in range(*segment.queries)]
        return torch.tensor(keys, dtype=torch.int32).T.contiguous().to(device)
