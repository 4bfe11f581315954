"""Where the kernel for Hopper GPUs (`hopper_kernel.py`) runs, and how it is started."""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch

try:
    import triton

    from freeswim.attention import hopper_kernel
except (ImportError, AttributeError, TypeError):  # no Triton, or one whose Gluon is another
    hopper_kernel = None  # type: ignore[assignment]

# Gluon is an experiment of Triton's and changes from release to release. A kernel of barriers that is compiled
# differently may not fail but hang, so it runs only where it was tested.
_TESTED_TRITON = {(3, 6)}
_HOPPER = (9, 0)

KEYS = 128  # of a block; with 64 it is a sixth slower
_STAGES = 2  # blocks that are there or under way; a third one gains nothing


def takes(q_BLHD: torch.Tensor) -> bool:
    """Whether the kernel is meant for such queries and their device: half precision, heads of 64 or 128."""
    half = q_BLHD.dtype in (torch.bfloat16, torch.float16)
    return half and q_BLHD.shape[-1] in (64, 128) and q_BLHD.is_cuda and is_for(q_BLHD.device)


@lru_cache
def is_for(device: torch.device) -> bool:
    """Whether the kernel is meant for a CUDA device and was tested with this Triton."""
    if hopper_kernel is None or torch.cuda.get_device_capability(device) != _HOPPER:
        return False
    return tuple(int(part) for part in triton.__version__.split(".")[:2]) in _TESTED_TRITON


def attend(
    q_BLHD: torch.Tensor,
    keys_BLHD: torch.Tensor,
    values_BLHD: torch.Tensor,
    out_BLHD: torch.Tensor,
    sum_BLH: torch.Tensor | None,
    row_bounds: torch.Tensor,
    column_bounds: torch.Tensor,
    *,
    grid: Sequence[int],
    block_rows: int,
    scale: float,
) -> None:
    """Writes the attention, and the sums if they are wanted, as `freeswim.attention.exact.exact_attention` has them.

    Queries in the order of tokens; keys and values of the same (T, H, W) grid row by row, column by column and frame by
    frame. Bounds: (2, H) and (2, W) int32.
    """
    from triton.experimental.gluon import language as gl
    from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

    frames, height, width = grid
    batch, _, heads, dim = q_BLHD.shape
    layout = gl.NVMMASharedLayout.get_default_for([KEYS, dim], gl.bfloat16)  # float16 is laid out alike
    k, v = (
        TensorDescriptor.from_tensor(x.view(-1, heads * dim), [KEYS, dim], layout) for x in (keys_BLHD, values_BLHD)
    )
    span = hopper_kernel.QUERIES // block_rows
    programs = (-(-height // block_rows) * -(-width * frames // span), heads, batch)
    hopper_kernel.attend_in_windows[programs](
        q_BLHD, k, v, out_BLHD, out_BLHD if sum_BLH is None else sum_BLH, row_bounds, column_bounds,
        heads, frames, height, width, scale / math.log(2),
        ROWS=block_rows, SPAN=span, DIM=dim, KEYS=KEYS, STAGES=_STAGES, SUMS=sum_BLH is not None, num_warps=4,
    )  # fmt: skip
