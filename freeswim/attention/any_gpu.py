"""Where the kernel for any GPU (`any_gpu_kernel.py`) runs, and how it is started."""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch

try:
    from freeswim.attention import any_gpu_kernel
except ImportError:  # CPU builds of torch come without Triton
    any_gpu_kernel = None  # type: ignore[assignment]

# Measured on an H100: other blocks of keys, more or fewer warps and stages, and loads by the copy engine are slower or
# no faster.
QUERIES = 128  # of a program
KEYS = 64  # of a block
_WARPS = 8
_STAGES = 4  # blocks that are there or under way, if the GPU has room for them


def takes(q_BLHD: torch.Tensor) -> bool:
    """Whether the kernel is meant for such queries: half precision, a head size that is a power of 2 up to 128."""
    half, dim = q_BLHD.dtype in (torch.bfloat16, torch.float16), q_BLHD.shape[-1]
    return half and 16 <= dim <= 128 and dim & (dim - 1) == 0 and any_gpu_kernel is not None


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
    """As `freeswim.attention.hopper.attend`."""
    frames, height, width = grid
    batch, _, heads, dim = q_BLHD.shape
    span = QUERIES // block_rows
    programs = (-(-height // block_rows) * -(-width * frames // span), heads, batch)
    any_gpu_kernel.attend_in_windows[programs](
        q_BLHD, keys_BLHD, values_BLHD, out_BLHD, out_BLHD if sum_BLH is None else sum_BLH, row_bounds, column_bounds,
        heads, frames, height, width, scale / math.log(2),
        ROWS=block_rows, SPAN=span, DIM=dim, KEYS=KEYS, SUMS=sum_BLH is not None,
        num_warps=_WARPS, num_stages=_stages(q_BLHD.device, dim),
    )  # fmt: skip


@lru_cache
def _stages(device: torch.device, dim: int) -> int:
    """As many as the shared memory has room for: consumers' GPUs have less than half of a data centre's."""
    if device.type != "cuda":
        return _STAGES
    gpu = torch.cuda.get_device_properties(device)
    shared = getattr(gpu, "shared_memory_per_block_optin", gpu.shared_memory_per_block)  # ROCm has the latter alone
    block = 2 * KEYS * dim * 2  # keys and values in half precision
    return max(1, min(_STAGES, shared // block))
