"""Window attention in one kernel, whatever windows the queries have: on CUDA.

Dense calls suit large tiles of queries that share a window. Small ones leave most of a call's rows empty, and a call
under a mask wastes its masked keys and cannot use the fastest kernels. Here a program takes a block of neighbouring
queries and reads the union of their windows; keys that all of them see, nearly all, need no mask. There is a kernel for
any GPU that Triton knows (`any_gpu.py`), and one for Hopper that beats dense calls even on large tiles (`hopper.py`).
"""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from statistics import median_low
from typing import Any

import torch

from freeswim.attention import any_gpu, hopper
from freeswim.attention.reference import reference_attention
from freeswim.fused import available, copy_tokens
from freeswim.windows import Segment, axis_segments, keys_by_query, length

_QUERIES = 128  # of a program; of a dense kernel's as well
# Rows of the grid that they lie in. On grids of videos no other number reads 3 % fewer keys, and each would be code of
# its own, which takes seconds to build.
_ROWS = 4

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kernel:
    """One of the kernels."""

    keys: int
    """That it reads at a time."""
    parts: int
    """Of a block of queries, that pass over rows which only the other sees."""
    price: float
    """Of a pair of query and key, in time, over that of a pair in dense calls with their copies; from an H100."""
    launch: Callable[..., None]
    """Starts it on what `exact_attention` hands over, the same for all."""
    takes: Callable[[torch.Tensor], bool]
    """Whether it is meant for such queries and their device."""


ANY_GPU = Kernel(keys=any_gpu.KEYS, parts=1, price=1.28, launch=any_gpu.launch, takes=any_gpu.takes)
HOPPER = Kernel(keys=hopper.KEYS, parts=2, price=0.87, launch=hopper.launch, takes=hopper.takes)
KERNELS = HOPPER, ANY_GPU  # the fastest first


@lru_cache
def _is_right(kernel: Kernel, device: torch.device, dtype: torch.dtype, dim: int) -> bool:
    """Whether a kernel can be built for the device and computes there what it should, on blocks of all kinds. As it is
    built for a run, so that nothing is built for this alone."""
    frames, (rows, columns) = 8, (tuple(axis_segments(size, side)) for size, side in ((7, 5), (48, 36)))
    generator = torch.Generator(device).manual_seed(0)
    q, k, v = torch.randn(3, 1, 8 * 7 * 48, 1, dim, generator=generator, device=device, dtype=dtype)
    options: dict[str, Any] = {"frames": frames, "rows": rows, "columns": columns, "scale": None}
    try:
        out, _ = exact_attention(q, k, v, **options, kernel=kernel)
        expected = reference_attention(q.float(), k.float(), v.float(), **options, context=None)
        error = float((out.float() - expected).norm() / expected.norm())
    except Exception as reason:  # whatever stops it, the other kernels go on
        _LOGGER.warning("An attention kernel does not work here (%s): FreeSwim uses a slower one.", reason)
        return False
    right = error < 0.02  # as NaN isn't
    if not right:
        _LOGGER.warning("An attention kernel is wrong here (error %s): FreeSwim uses a slower one.", error)
    return right


def choose(
    q_BLHD: torch.Tensor,
    frames: int,
    rows: Sequence[Segment],
    columns: Sequence[Segment],
    scale: float | None,
    *,
    than_chosen: bool = False,
) -> Kernel | None:
    """The kernel that takes such queries and beats dense calls, one for each window; None if there is none.

    The first choice of a kernel builds it. than_chosen: somebody chose the backend of the dense calls. It then keeps
    the tiles that fill its calls.
    """
    if not available(q_BLHD) or not (scale is None or scale > 0):
        return None
    axes, built_for = (tuple(rows), tuple(columns)), (q_BLHD.device, q_BLHD.dtype, q_BLHD.shape[-1])
    for kernel in KERNELS:
        if not kernel.takes(q_BLHD):
            continue
        price = max(kernel.price, 1.0) if than_chosen else kernel.price
        wins = price * _work(kernel, frames, *axes) < _work_of_dense_calls(frames, *axes)
        if wins and _is_right(kernel, *built_for):
            return kernel
    return None


def exact_attention(
    q_BLHD: torch.Tensor,
    k_BLHD: torch.Tensor,
    v_BLHD: torch.Tensor,
    *,
    frames: int,
    rows: Sequence[Segment],
    columns: Sequence[Segment],
    scale: float | None,
    kernel: Kernel,
    wants_sum: bool = False,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Window attention of (B, T*H*W, heads, D), windows given by the segments of both axes.

    Returns the output, and if it is wanted the logarithm of each query's sum of exponentials, (B, T*H*W, heads)
    float32.
    """
    _, height, width = grid = frames, rows[-1].queries[1], columns[-1].queries[1]
    batch, _, heads, dim = q_BLHD.shape
    span = _QUERIES // _ROWS
    out = torch.empty(q_BLHD.shape, dtype=q_BLHD.dtype, device=q_BLHD.device)
    sums = torch.empty(q_BLHD.shape[:3], dtype=torch.float32, device=q_BLHD.device) if wants_sum else None
    kernel.launch(
        (-(-height // _ROWS) * -(-width * frames // span), heads, batch),
        q_BLHD.contiguous(), _column_by_column(k_BLHD, grid), _column_by_column(v_BLHD, grid),
        out, out if sums is None else sums, _bounds(tuple(rows), q_BLHD.device), _bounds(tuple(columns), q_BLHD.device),
        heads, frames, height, width, (dim**-0.5 if scale is None else scale) / math.log(2),
        ROWS=_ROWS, SPAN=span, DIM=dim, SUMS=wants_sum,
    )  # fmt: skip
    return out, sums


def build_with_sums(kernel: Kernel, like_BLHD: torch.Tensor) -> None:
    """Has a kernel built that tells queries like these their sums, by running it on one token. Without sums it is built
    when it is chosen."""
    token = like_BLHD[:1, :1].contiguous()
    alone = [Segment((0, 1), (0, 1))]
    exact_attention(token, token, token, frames=1, rows=alone, columns=alone, scale=None, kernel=kernel, wants_sum=True)


def _column_by_column(x_BLHD: torch.Tensor, grid: tuple[int, int, int]) -> torch.Tensor:
    """(B, H*W*T, heads, D): what is seen of a row, some columns in all frames, lies in one piece."""
    x = x_BLHD.unflatten(1, grid).permute(0, 2, 3, 1, 4, 5)
    copy = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    copy_tokens(copy, x)
    return copy.flatten(1, 3)


@lru_cache(maxsize=64)
def _work(kernel: Kernel, frames: int, rows: tuple[Segment, ...], columns: tuple[Segment, ...]) -> float:
    """Pairs of query and key that the kernel computes, over those that are seen."""
    seen = frames**2 * math.prod(sum(length(s.queries) * length(s.keys) for s in axis) for axis in (rows, columns))
    return _pairs(kernel, frames, rows, columns) / seen


def _pairs(kernel: Kernel, frames: int, rows: tuple[Segment, ...], columns: tuple[Segment, ...]) -> int:
    """Pairs of query and key that are computed: whole blocks of keys in each row that a query sees."""
    parts = min(kernel.parts, _ROWS)
    across = _unions(columns, _QUERIES // _ROWS, frames)
    read = sum(-(-places // kernel.keys) * kernel.keys for places in across)
    return _QUERIES // parts * sum(_unions(rows, _ROWS // parts, 1)) * read


def _unions(axis: tuple[Segment, ...], step: int, frames: int) -> list[int]:
    """Places that some query of each `step` neighbours sees, `frames` places to a token."""
    bounds = keys_by_query(axis)
    last = len(bounds) * frames - 1
    return [
        frames * (bounds[min(first + step - 1, last) // frames][1] - bounds[first // frames][0])
        for first in range(0, last + 1, step)
    ]


@lru_cache(maxsize=64)
def _work_of_dense_calls(frames: int, rows: tuple[Segment, ...], columns: tuple[Segment, ...]) -> float:
    """Pairs that dense calls compute, one for each window and in blocks of queries, over those that are seen."""
    sharing = frames * _typical_run(rows) * _typical_run(columns)
    return -(-sharing // _QUERIES) * _QUERIES / sharing


def _typical_run(axis: tuple[Segment, ...]) -> int:
    """How many neighbouring queries of an axis share a window, at the median: at its ends more do."""
    runs = (list(run) for _, run in groupby(axis, key=lambda segment: segment.keys))
    return median_low(run[-1].queries[1] - run[0].queries[0] for run in runs)


@lru_cache(maxsize=64)
def _bounds(segments: tuple[Segment, ...], device: torch.device) -> torch.Tensor:
    """(2, size) int32: the first key that each query of an axis sees, and the one behind the last."""
    # A tensor made under inference_mode could not serve a later call that records gradients.
    with torch.inference_mode(False):
        return torch.tensor(keys_by_query(segments), dtype=torch.int32).T.contiguous().to(device)
