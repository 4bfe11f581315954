"""Triton kernels for what lies between the matrix products of a Wan block: one pass over memory instead of many.

Stock modules compute a norm, its modulation, a gate and a residual as a dozen elementwise kernels, most on float32
copies; at 1920x1088 these take more time than the linear layers. Arithmetic is float32 inside, and results are rounded
where the stock modules round them. Only for CUDA; `available` tells. No gradients.
"""

from typing import Any

import torch

try:
    import triton
    import triton.language as tl
except ImportError:  # CPU builds of torch come without it
    triton = None


def available(*tensors: torch.Tensor) -> bool:
    """Whether the kernels can take these tensors: all on one CUDA device, no gradients, and not inside torch.compile,
    which fuses by itself."""
    return (
        triton is not None
        and all(tensor.is_cuda and tensor.device == tensors[0].device for tensor in tensors)
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
    )


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
    _add_and_norm[(batch * length,)](
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
    x_BLC: torch.Tensor, weight: torch.Tensor | None, eps: float, rotary: tuple[torch.Tensor, torch.Tensor], heads: int
) -> torch.Tensor:
    """RMS norm over all heads (none without `weight`), then the rotary embedding: (B, L, C) to (B, L, heads, D).

    rotary: cos and sin as `freeswim.rotary.Rotary`.
    """
    x_BLC = x_BLC.contiguous()
    batch, length, channels = x_BLC.shape
    dim = channels // heads
    out = torch.empty_like(x_BLC)
    cos, sin = (part.contiguous() for part in rotary)
    _norm_and_rotate[(batch * length,)](
        x_BLC, x_BLC if weight is None else weight, cos, sin, out, length, heads, eps,
        NORMS=weight is not None, HEADS=triton.next_power_of_2(heads), HALF=dim // 2,
        num_warps=8 if channels > 2048 else 4,
    )  # fmt: skip
    return out.unflatten(2, (heads, dim))


def _kernels() -> tuple[Any, Any]:
    @triton.jit
    def add_and_norm_kernel(  # type: ignore[no-untyped-def]
        x, y, gate, gate_step, scale, scale_step, shift, shift_step, normed, length, channels, eps,
        ADDS: tl.constexpr, GATED: tl.constexpr, NORMS: tl.constexpr, MODULATED: tl.constexpr, BLOCK: tl.constexpr,
    ):  # fmt: skip
        row = tl.program_id(0).to(tl.int64)
        column = tl.arange(0, BLOCK)
        inside = column < channels
        batch = row // length
        value = tl.load(x + row * channels + column, mask=inside, other=0.0).to(tl.float32)
        if ADDS:
            added = tl.load(y + row * channels + column, mask=inside, other=0.0).to(tl.float32)
            if GATED:
                added *= tl.load(gate + batch * gate_step + column, mask=inside, other=0.0)
            rounded = (value + added).to(x.dtype.element_ty)
            tl.store(x + row * channels + column, rounded, mask=inside)
            value = rounded.to(tl.float32)
        if NORMS:
            mean = tl.sum(value, 0) / channels
            centred = tl.where(inside, value - mean, 0.0)
            variance = tl.sum(centred * centred, 0) / channels
            factor = tl.load(scale + batch * scale_step + column, mask=inside, other=0.0).to(tl.float32)
            offset = tl.load(shift + batch * shift_step + column, mask=inside, other=0.0).to(tl.float32)
            if MODULATED:
                factor += 1.0
            result = centred * tl.rsqrt(variance + eps) * factor + offset
            tl.store(normed + row * channels + column, result.to(normed.dtype.element_ty), mask=inside)

    @triton.jit
    def norm_and_rotate_kernel(  # type: ignore[no-untyped-def]
        x, weight, cos, sin, out, length, heads, eps,
        NORMS: tl.constexpr, HEADS: tl.constexpr, HALF: tl.constexpr,
    ):  # fmt: skip
        row = tl.program_id(0).to(tl.int64)
        token = row % length
        head = tl.arange(0, HEADS)[:, None, None]
        pair = tl.arange(0, HALF)
        column = head * (2 * HALF) + 2 * pair[None, :, None] + tl.arange(0, 2)[None, None, :]
        inside = column < heads * (2 * HALF)
        value = tl.load(x + row * heads * (2 * HALF) + column, mask=inside, other=0.0).to(tl.float32)
        if NORMS:
            square = tl.sum(tl.sum(tl.sum(value * value, 2), 1), 0)
            value *= tl.rsqrt(square / (heads * (2 * HALF)) + eps)
            value *= tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
            value = value.to(x.dtype.element_ty).to(tl.float32)
        even, odd = tl.split(value)
        cosine = tl.load(cos + token * (2 * HALF) + 2 * pair)[None, :].to(tl.float32)
        sine = tl.load(sin + token * (2 * HALF) + 2 * pair + 1)[None, :].to(tl.float32)
        turned = tl.join(even * cosine - odd * sine, even * sine + odd * cosine)
        tl.store(out + row * heads * (2 * HALF) + column, turned.to(out.dtype.element_ty), mask=inside)

    return add_and_norm_kernel, norm_and_rotate_kernel


if triton is not None:
    _add_and_norm, _norm_and_rotate = _kernels()
