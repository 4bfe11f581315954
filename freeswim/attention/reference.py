"""The specification of window attention: a dense boolean mask and a plain softmax. Slow, exact, on any device."""

from collections.abc import Sequence

import torch

from freeswim.windows import Segment


def axis_mask(segments: Sequence[Segment]) -> torch.Tensor:
    """(size, size) bool: [query, key] is True where the query's window holds the key."""
    size = segments[-1].queries[1]
    mask = torch.zeros(size, size, dtype=torch.bool)
    for segment in segments:
        mask[slice(*segment.queries), slice(*segment.keys)] = True
    return mask


def dense_mask(frames: int, rows: Sequence[Segment], columns: Sequence[Segment]) -> torch.Tensor:
    """(T*H*W, T*H*W) bool: [query, key] is True where the key lies in the query's window, in whatever frame."""
    plane_QK = torch.kron(axis_mask(rows).int(), axis_mask(columns).int()).bool()
    return plane_QK.repeat(frames, frames)


def reference_attention(
    q_BLHD: torch.Tensor,
    k_BLHD: torch.Tensor,
    v_BLHD: torch.Tensor,
    *,
    frames: int,
    rows: Sequence[Segment],
    columns: Sequence[Segment],
    context: tuple[torch.Tensor, torch.Tensor] | None,
    scale: float | None,
) -> torch.Tensor:
    """Attention under `dense_mask`, with softmax in float32 or better. Context keys are seen by every query."""
    mask_QK = dense_mask(frames, rows, columns).to(q_BLHD.device)
    if context is not None:
        mask_QK = torch.cat([mask_QK, mask_QK.new_ones(mask_QK.shape[0], context[0].shape[1])], dim=1)
        k_BLHD, v_BLHD = torch.cat([k_BLHD, context[0]], dim=1), torch.cat([v_BLHD, context[1]], dim=1)
    dtype = torch.promote_types(q_BLHD.dtype, torch.float32)
    scale = q_BLHD.shape[-1] ** -0.5 if scale is None else scale
    logits_BHQK = torch.einsum("bqhd,bkhd->bhqk", q_BLHD.to(dtype), k_BLHD.to(dtype)) * scale
    weights_BHQK = logits_BHQK.masked_fill(~mask_QK, float("-inf")).softmax(dim=-1)
    return torch.einsum("bhqk,bkhd->bqhd", weights_BHQK, v_BLHD.to(dtype)).to(q_BLHD.dtype)
