"""One dense attention on whichever backend is set, and the join of two attentions over different keys."""

import torch
from diffusers.models.attention_dispatch import (
    AttentionBackendName,
    _AttentionBackendRegistry,  # the only way to ask which backend is active
    dispatch_attention_fn,
)
from torch.nn.attention import SDPBackend

Backend = str | None
"""A diffusers attention backend (AttentionBackendName is a str); None is the one that is active."""

# Flash, Sage and variable-length kernels know no mask per query and key: masked calls go to native attention there.
_BACKENDS_WITH_MASK = frozenset(
    {
        AttentionBackendName.NATIVE,
        AttentionBackendName._NATIVE_CUDNN,
        AttentionBackendName._NATIVE_EFFICIENT,
        AttentionBackendName._NATIVE_MATH,
    }
)
# torch's fast kernels. Whoever sets another backend wants that one.
_FAST = frozenset({AttentionBackendName.NATIVE, AttentionBackendName._NATIVE_CUDNN, AttentionBackendName._NATIVE_FLASH})
_LARGEST_HEAD = 128


def attend(
    q_BLHD: torch.Tensor,
    k_BLHD: torch.Tensor,
    v_BLHD: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float | None,
    backend: Backend,
) -> torch.Tensor:
    """Dense attention (B, L, heads, D), called as stock processors call it.

    diffusers copies the inputs of cuDNN's kernel so that they are contiguous. Ours are views with strides on purpose,
    which the kernel takes as they are (held to the reference on a GPU by the tests), so it is called directly.
    """
    active = _active(backend)
    if mask is not None and active not in _BACKENDS_WITH_MASK:
        backend = AttentionBackendName.NATIVE
    elif mask is None and active == AttentionBackendName._NATIVE_CUDNN and _fused_kernels_take(q_BLHD):
        return _cudnn(q_BLHD, k_BLHD, v_BLHD, scale, wants_sum=False)[0]
    return dispatch_attention_fn(
        q_BLHD, k_BLHD, v_BLHD, attn_mask=mask, dropout_p=0.0, is_causal=False, scale=scale, backend=backend
    )


def was_chosen(backend: Backend) -> bool:
    """Whether somebody set a backend other than torch's own fast kernels, Sage attention for one."""
    return _active(backend) not in _FAST


def tells_sum(q_BLHD: torch.Tensor, backend: Backend) -> bool:
    """Whether `attend_with_sum` has a kernel for such queries on this backend."""
    return _fused_kernels_take(q_BLHD) and _kernel(q_BLHD, backend) is not None


def attend_with_sum(
    q_BLHD: torch.Tensor, k_BLHD: torch.Tensor, v_BLHD: torch.Tensor, scale: float | None, backend: Backend
) -> tuple[torch.Tensor, torch.Tensor]:
    """Dense attention, and the logarithm of each query's sum of exponentials, (B, L, heads) float32."""
    if _kernel(q_BLHD, backend) == SDPBackend.CUDNN_ATTENTION:
        out_BLHD, sum_BHL = _cudnn(q_BLHD, k_BLHD, v_BLHD, scale, wants_sum=True)
    else:
        q, k, v = (x.transpose(1, 2) for x in (q_BLHD, k_BLHD, v_BLHD))
        out, sum_BHL, *_ = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, scale=scale)
        out_BLHD = out.transpose(1, 2)
    return out_BLHD, sum_BHL.transpose(1, 2)


def _kernel(q_BLHD: torch.Tensor, backend: Backend) -> SDPBackend | None:
    """The kernel of torch that a backend runs, if it is one that tells the sum."""
    active = _active(backend)
    if active == AttentionBackendName.NATIVE:
        q_BHLD = q_BLHD.transpose(1, 2)
        chosen = SDPBackend(torch._fused_sdp_choice(q_BHLD, q_BHLD, q_BHLD))
        return chosen if chosen in (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION) else None
    own = {
        AttentionBackendName._NATIVE_CUDNN: SDPBackend.CUDNN_ATTENTION,
        AttentionBackendName._NATIVE_FLASH: SDPBackend.FLASH_ATTENTION,
    }
    return own.get(active)


def join(
    out_BLHD: torch.Tensor, sum_BLH: torch.Tensor, other_BLHD: torch.Tensor, other_sum_BLH: torch.Tensor
) -> torch.Tensor:
    """One softmax over the keys of two attentions, from their outputs and sums. Written to the first output."""
    share = torch.sigmoid(other_sum_BLH - sum_BLH).to(out_BLHD.dtype)
    return out_BLHD.lerp_(other_BLHD, share.unsqueeze(-1))


def _active(backend: Backend) -> AttentionBackendName:
    if backend is None:
        return _AttentionBackendRegistry.get_active_backend()[0]
    return AttentionBackendName(backend)


def _fused_kernels_take(q_BLHD: torch.Tensor) -> bool:
    """Forward only: these calls bypass autograd's formulas for strided views and joined outputs."""
    half = q_BLHD.dtype in (torch.bfloat16, torch.float16)
    return q_BLHD.is_cuda and half and q_BLHD.shape[-1] <= _LARGEST_HEAD and not torch.is_grad_enabled()


def _cudnn(
    q_BLHD: torch.Tensor, k_BLHD: torch.Tensor, v_BLHD: torch.Tensor, scale: float | None, *, wants_sum: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output (B, L, heads, D), and (B, heads, L) the logarithm of the sums if wanted."""
    q, k, v = (x.transpose(1, 2) for x in (q_BLHD, k_BLHD, v_BLHD))
    out, sums, *_ = torch.ops.aten._scaled_dot_product_cudnn_attention(
        q, k, v, None, wants_sum, 0.0, False, False, scale=scale
    )
    # (B, heads, L, 1) since torch 2.9, (B, heads, L) before.
    return out.transpose(1, 2), sums.reshape(q.shape[:3]) if wants_sum else sums
