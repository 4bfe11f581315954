"""Where the kernel for Hopper GPUs (`hopper_kernel.py`) runs, and how it is started."""

from functools import lru_cache
from typing import Any

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


def launch(
    programs: tuple[int, int, int],
    q_BLHD: torch.Tensor,
    keys_BLHD: torch.Tensor,
    values_BLHD: torch.Tensor,
    *rest: Any,
    **constants: Any,
) -> None:
    """Starts the kernel: it writes the attention, and the sums if they are wanted, as
    `freeswim.attention.exact.exact_attention` has them.

    Queries in the order of tokens; keys and values of the same (T, H, W) grid row by row, column by column and frame by
    frame. The rest is the kernel's own arguments: output, sums, bounds, (2, H) and (2, W) int32, sizes and scale.
    """
    from triton.experimental.gluon import language as gl
    from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

    heads, dim = q_BLHD.shape[2:]
    layout = gl.NVMMASharedLayout.get_default_for([KEYS, dim], gl.bfloat16)  # float16 is laid out alike
    k, v = (
        TensorDescriptor.from_tensor(x.view(-1, heads * dim), [KEYS, dim], layout) for x in (keys_BLHD, values_BLHD)
    )
    hopper_kernel.attend_in_windows[programs](q_BLHD, k, v, *rest, **constants, KEYS=KEYS, STAGES=_STAGES, num_warps=4)
