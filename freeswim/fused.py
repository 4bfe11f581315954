"""Triton kernels for what lies between the matrix products of a Wan block: one pass over memory instead of many.

Stock modules compute a norm, its modulation, a gate and a residual as a dozen elementwise kernels, most on float32
copies; at 1920x1088 these take more time than the linear layers. Arithmetic is float32 inside, and results are rounded
where the stock modules round them. Only for CUDA; `available` tells. No gradients.
"""

import logging
import math
from functools import lru_cache

import torch

try:
    import triton

    from freeswim import kernels
except ImportError:  # CPU builds of torch come without Triton
    triton = None


_LOGGER = logging.getLogger(__name__)


def available(*tensors: torch.Tensor) -> bool:
    """Whether the kernels can take these tensors: all on one CUDA device, no gradients, and not inside torch.compile,
    which fuses by itself."""
    return (
        triton is not None
        and not torch.compiler.is_compiling()
        and not torch.is_grad_enabled()
        and all(tensor.is_cuda and tensor.device == tensors[0].device for tensor in tensors)
        and _works(tensors[0].device)
    )


@lru_cache
def _works(device: torch.device) -> bool:
    """Whether Triton can build kernels for the device: it needs a C compiler, and a GPU that it knows."""
    x = torch.ones(1, 1, 16, device=device)
    try:
        add_and_norm(x, x.clone())
        return bool((x == 2).all())
    except Exception as error:  # whatever stops it, the stock modules go on
        _LOGGER.warning("Triton does not work here (%s): FreeSwim uses PyTorch's own, slower kernels.", error)
        return False


def add_and_norm(
    x_BLC: torch.Tensor,
    y_BLC: torch.Tensor | None = None,
    gate_B1C: torch.Tensor | None = None,
    *,
    scale: torch.Tensor | None = None,
    shift: torch.Tensor | None = None,
    eps: float = 1e-6,
    modulated: bool = True,
) -> torch.Tensor | None:
    """x += y * gate in place, and then the layer norm of x: norm(x) * (1 + scale) + shift, or with affine weights.

    Args:
        x_BLC: Residual stream, contiguous; changed in place when `y_BLC` is given.
        y_BLC: What is added; None adds nothing.
        gate_B1C: float32 factor on `y_BLC`; None is 1.
        scale, shift: (B, 1, C) float32 modulation, or the (C,) weights of an affine norm if not `modulated`. Without
            them there is no norm and None is returned.

    Returns:
        (B, L, C) in the dtype of `x_BLC`.
    """
    batch, length, channels = x_BLC.shape
    normed = None if scale is None else torch.empty_like(x_BLC)
    none = x_BLC  # stands for what the kernel doesn't read
    y = none if y_BLC is None else y_BLC.contiguous()
    kernels.add_and_norm[(batch * length,)](
        x_BLC, y, *_rows(gate_B1C, none), *_rows(scale, none), *_rows(shift, none), none if normed is None else normed,
        length, channels, eps,
        ADDS=y_BLC is not None, GATED=gate_B1C is not None, NORMS=scale is not None, MODULATED=modulated,
        BLOCK=triton.next_power_of_2(channels), num_warps=8 if channels > 2048 else 4,
    )  # fmt: skip
    return normed


def _rows(x: torch.Tensor | None, none: torch.Tensor) -> tuple[torch.Tensor, int]:
    """A tensor of C values for each of the batch, or for all, and the step from one of the batch to the next."""
    if x is None:
        return none, 0
    return x, x.stride(0) if x.ndim > 1 and x.shape[0] > 1 else 0


def rotates(head_dim: int) -> bool:
    """Whether `norm_and_rotate` has a kernel for heads of this size."""
    return head_dim >= 16 and head_dim & (head_dim - 1) == 0


def norm_and_rotate(
    x_BLC: torch.Tensor,
    weight: torch.Tensor | None,
    eps: float,
    rotary: tuple[torch.Tensor, torch.Tensor] | None,
    heads: int,
) -> torch.Tensor:
    """RMS norm over all heads (none without `weight`), then the rotary embedding: (B, L, C) to (B, L, heads, D).

    rotary: cos and sin as `freeswim.rotary.Rotary`; None rotates nothing.
    """
    x_BLC = x_BLC.contiguous()
    batch, length, channels = x_BLC.shape
    dim = channels // heads
    out = torch.empty_like(x_BLC)
    none = x_BLC  # stands for what the kernel doesn't read
    cos, sin = (none, none) if rotary is None else (part.contiguous() for part in rotary)
    kernels.norm_and_rotate[(batch * length,)](
        x_BLC, none if weight is None else weight, cos, sin, out, length, heads, eps,
        NORMS=weight is not None, ROTATES=rotary is not None, HEADS=triton.next_power_of_2(heads), HALF=dim // 2,
        num_warps=8 if channels > 2048 else 4,
    )  # fmt: skip
    return out.unflatten(2, (heads, dim))


def copy_tokens(target: torch.Tensor, source: torch.Tensor) -> None:
    """`target[...] = source` for views of tokens (up to 5 dimensions, then heads, D), each token contiguous in both.

    torch copies permuted views element by element, at a third of the memory's speed.
    """
    if not (available(target, source) and source.ndim <= 7 and _tokens_whole(source) and _tokens_whole(target)):
        target.copy_(source)
        return
    channels = source.shape[-2] * source.shape[-1]
    sizes = [*[1] * (7 - source.ndim), *source.shape[:-2]]
    steps = [[*[0] * (7 - x.ndim), *x.stride()[:-2]] for x in (source, target)]
    rows, chunk, grid = _pieces(math.prod(sizes), channels)
    kernels.copy_rows[grid](source, target, math.prod(sizes), *sizes[1:], *steps[0], *steps[1], ROWS=rows, CHUNK=chunk)


def _tokens_whole(x: torch.Tensor) -> bool:
    return x.stride(-1) == 1 and x.stride(-2) == x.shape[-1]


def _pieces(count: int, channels: int) -> tuple[int, int, tuple[int, int]]:
    """Rows and channels of a program, and the grid of programs: about 4096 elements each, channels divided evenly."""
    chunk = min(channels & -channels, 1024)
    rows = max(1, 4096 // chunk)
    return rows, chunk, (-(-count // rows), channels // chunk)


def resize_tokens(x_BLC: torch.Tensor, grid: tuple[int, int, int], target: tuple[int, int, int]) -> torch.Tensor:
    """Bilinear, frame by frame, as `torch.nn.functional.interpolate`: (B, T*h*w, C) to (B, T*H*W, C)."""
    batch, _, channels = x_BLC.shape
    out = x_BLC.new_empty(batch, math.prod(target), channels)
    count = batch * math.prod(target)
    rows, chunk, programs = _pieces(count, channels)
    kernels.resize[programs](
        x_BLC.contiguous(), out, count, channels, grid[1], grid[2], target[1], target[2],
        grid[1] / target[1], grid[2] / target[2], ROWS=rows, CHUNK=chunk,
    )  # fmt: skip
    return out
