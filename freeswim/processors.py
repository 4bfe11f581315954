"""Attention processors for stock WanTransformer3DModel blocks. They do what the running pass says (see `state.py`), and
leave all else to the processor that was there before."""

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.transformers.transformer_wan import (
    WanAttention,
    WanAttnProcessor,
    _get_qkv_projections,  # knows fused and separate projections
)

from freeswim.attention import window_attention
from freeswim.rotary import apply_rotary
from freeswim.state import Conductor, Grid


class _DelegatingProcessor:
    """Stands in for `original`. Settings that diffusers writes to a processor reach the original, and live there."""

    def __init__(self, original: WanAttnProcessor, block: int, conductor: Conductor) -> None:
        self.original = original
        self.block = block
        self.conductor = conductor

    @property
    def _attention_backend(self) -> Any:
        return self.original._attention_backend

    @_attention_backend.setter
    def _attention_backend(self, backend: Any) -> None:
        self.original._attention_backend = backend

    @property
    def _parallel_config(self) -> Any:
        return self.original._parallel_config

    @_parallel_config.setter
    def _parallel_config(self, config: Any) -> None:
        self.original._parallel_config = config


class FreeSwimSelfAttnProcessor(_DelegatingProcessor):
    """Self-attention: windows in the window pass; in the guide pass, full attention whose keys and values are kept."""

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """`hidden_states` (B, T*H*W, C) to the same shape; layout and meaning as in WanAttnProcessor."""
        current = self.conductor.current
        record = current.record if current.record is not None and current.record.key_rotary is not None else None
        is_guide = current.phase == "guide"
        if current.phase == "stock" or (is_guide and record is None and current.logit_scale == 1):
            return self.original(attn, hidden_states, encoder_hidden_states, attention_mask, rotary_emb)

        query, key, value = _get_qkv_projections(attn, hidden_states, None)
        query, key, value = (x.unflatten(2, (attn.heads, -1)) for x in (attn.norm_q(query), attn.norm_k(key), value))
        if is_guide and record is not None:
            record.keys[self.block] = apply_rotary(key, record.key_rotary)
            # Of fused projections the value is a view, which would keep query and key alive.
            record.values[self.block] = value.contiguous()
        if rotary_emb is not None:
            query, key = apply_rotary(query, rotary_emb), apply_rotary(key, rotary_emb)
        scale = None if current.logit_scale == 1 else current.logit_scale * query.shape[-1] ** -0.5
        out = self._attend(query, key, value, scale)
        return attn.to_out[1](attn.to_out[0](out.flatten(2, 3).type_as(query)))

    def _attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None) -> torch.Tensor:
        """Attention over windows, or over everything in the guide pass. (B, T*H*W, heads, D)."""
        config, current = self.conductor.config, self.conductor.current
        if current.phase == "guide":
            return window_attention(
                query,
                key,
                value,
                grid=current.grid,
                window=current.grid[1:],
                scale=scale,
                backend=self._attention_backend,
            )
        tile = config.query_tile
        shifted = config.shift_tiles and self.block % 2 == 1
        context = current.record if current.record is not None and current.record.key_rotary is not None else None
        return window_attention(
            query,
            key,
            value,
            grid=current.grid,
            window=config.window,
            query_tile=tile,
            window_mode=config.window_mode,
            tile_shift=(tile[0] // 2, tile[1] // 2) if shifted else (0, 0),
            context_k=None if context is None else context.keys[self.block],
            context_v=None if context is None else context.values[self.block],
            scale=scale,
            backend=self._attention_backend,
        )


class FreeSwimCrossAttnProcessor(_DelegatingProcessor):
    """Cross-attention: computed and kept in the guide pass; in the window pass, what was kept takes its place."""

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """`hidden_states` (B, T*H*W, C) to the same shape; layout and meaning as in WanAttnProcessor."""
        current = self.conductor.current
        record = current.record
        if record is None or not record.keeps_output:
            return self.original(attn, hidden_states, encoder_hidden_states, attention_mask, rotary_emb)
        if current.phase == "window":
            return resize_tokens(record.outputs[self.block], record.grid, current.grid)
        out = self.original(attn, hidden_states, encoder_hidden_states, attention_mask, rotary_emb)
        record.outputs[self.block] = out
        return out


def resize_tokens(x_BLC: torch.Tensor, grid: Grid, target: Grid) -> torch.Tensor:
    """Resize features on a token grid, bilinearly and frame by frame. (B, T*h*w, C) to (B, T*H*W, C)."""
    if grid == target:
        return x_BLC
    frames, height, width = grid
    x = x_BLC.unflatten(1, (frames, height, width)).flatten(0, 1).movedim(-1, 1)  # (B*T, C, h, w), channels last
    x = F.interpolate(x, size=target[1:], mode="bilinear", align_corners=False)
    return x.movedim(1, -1).unflatten(0, (-1, frames)).flatten(1, 3)
