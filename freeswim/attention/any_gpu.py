"""Where the kernel for any GPU (`any_gpu_kernel.py`) runs, and how it is started."""

from functools import lru_cache
from typing import Any

import torch

try:
    from freeswim.attention import any_gpu_kernel
except ImportError:  # CPU builds of torch come without Triton
    any_gpu_kernel = None  # type: ignore[assignment]

# Measured on an H100: other blocks of keys, more or fewer warps and stages, and loads by the copy engine are slower or
# no faster.
KEYS = 64  # of a block
_WARPS = 8
_STAGES = 4  # blocks that are there or under way, if the GPU has room for them


def takes(q_BLHD: torch.Tensor) -> bool:
    """Whether the kernel is meant for such queries: half precision, a head size that is a power of 2 up to 128."""
    half, dim = q_BLHD.dtype in (torch.bfloat16, torch.float16), q_BLHD.shape[-1]
    return half and 16 <= dim <= 128 and dim & (dim - 1) == 0 and any_gpu_kernel is not None


def launch(
    programs: tuple[int, int, int],
    q_BLHD: torch.Tensor,
    keys_BLHD: torch.Tensor,
    values_BLHD: torch.Tensor,
    *rest: Any,
    **constants: Any,
) -> None:
    """As `freeswim.attention.hopper.launch`."""
    stages = _stages(q_BLHD.device, q_BLHD.shape[-1])
    any_gpu_kernel.attend_in_windows[programs](
        q_BLHD, keys_BLHD, values_BLHD, *rest, **constants, KEYS=KEYS, num_warps=_WARPS, num_stages=stages
    )


@lru_cache
def _stages(device: torch.device, dim: int) -> int:
    """As many as the shared memory has room for: consumers' GPUs have less than half of a data centre's."""
    if device.type != "cuda":
        return _STAGES
    gpu = torch.cuda.get_device_properties(device)
    shared = getattr(gpu, "shared_memory_per_block_optin", gpu.shared_memory_per_block)  # ROCm has the latter alone
    block = 2 * KEYS * dim * 2  # keys and values in half precision
    return max(1, min(_STAGES, shared // block))
