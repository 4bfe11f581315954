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

from freeswim import fused
from freeswim.attention import window_attention
from freeswim.attention.dense import attend
from freeswim.rotary import apply_rotary, norm_and_rotate
from freeswim.state import Conductor, Grid, Slot


class _DelegatingProcessor:
    """Stands in for `original`. Settings that diffusers writes to a processor reach the original, and live there."""

    def __init__(self, original: WanAttnProcessor, slot: Slot, conductor: Conductor) -> None:
        self.original = original
        self.slot = slot
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
    """Self-attention: windows in the window pass; in the guide pass, full attention whose keys and values are kept.

    shifted: the block's tiles are shifted by half a tile, if the config shifts tiles.
    """

    def __init__(self, original: WanAttnProcessor, slot: Slot, conductor: Conductor, *, shifted: bool) -> None:
        super().__init__(original, slot, conductor)
        self.shifted = shifted

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
        keeps_nothing = record is None or record.key_rotary is None
        if current.phase == "stock" or (current.phase == "guide" and keeps_nothing and current.logit_scale == 1):
            return self.original(attn, hidden_states, encoder_hidden_states, attention_mask, rotary_emb)

        query, key, value = _get_qkv_projections(attn, hidden_states, None)
        value = value.unflatten(2, (attn.heads, -1))
        query = norm_and_rotate(query, attn.norm_q, rotary_emb, attn.heads)
        if current.phase == "guide" and record is not None and record.key_rotary is not None:
            normed = norm_and_rotate(key, attn.norm_k, None, attn.heads)
            self.slot.keep_context(record.key_rotary, normed, value)
            key = normed if rotary_emb is None else apply_rotary(normed, rotary_emb)
        else:
            key = norm_and_rotate(key, attn.norm_k, rotary_emb, attn.heads)
        scale = None if current.logit_scale == 1 else current.logit_scale * query.shape[-1] ** -0.5
        out = window_attention(
            query, key, value, grid=current.grid, scale=scale, backend=self._attention_backend, **self._windows()
        )
        return attn.to_out[1](attn.to_out[0](out.flatten(2, 3).type_as(query)))

    def _windows(self) -> dict[str, Any]:
        """What a query of this block sees in the running pass, as arguments of `window_attention`."""
        config, current = self.conductor.config, self.conductor.current
        if current.phase == "guide":
            return {"window": current.grid[1:]}
        tile_height, tile_width = config.query_tile
        shifted = config.shift_tiles and self.shifted
        record = self.slot.record if current.context else None
        return {
            "window": config.window,
            "query_tile": config.query_tile,
            "window_mode": config.window_mode,
            "tile_shift": (tile_height // 2, tile_width // 2) if shifted else (0, 0),
            "context_k": record.key if record is not None else None,
            "context_v": record.value if record is not None else None,
        }


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
        record, own = current.record, self.slot.record
        if current.replays_output:
            assert own is not None
            assert own.output is not None
            assert record is not None
            return resize_tokens(own.output, record.grid, current.grid)
        simple = attn.add_k_proj is None and attention_mask is None and rotary_emb is None
        if current.phase != "stock" and simple and fused.available(hidden_states):
            out = self._with_fused_norms(attn, hidden_states, encoder_hidden_states)
        else:
            out = self.original(attn, hidden_states, encoder_hidden_states, attention_mask, rotary_emb)
        if record is not None and own is not None and record.keeps_output:
            own.output = out
        return out

    def _with_fused_norms(
        self, attn: WanAttention, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor | None
    ) -> torch.Tensor:
        """The arithmetic of WanAttnProcessor, whose norm of the queries walks through memory several times."""
        query, key, value = _get_qkv_projections(attn, hidden_states, encoder_hidden_states)
        query = norm_and_rotate(query, attn.norm_q, None, attn.heads)
        key = norm_and_rotate(key, attn.norm_k, None, attn.heads)
        value = value.unflatten(2, (attn.heads, -1))
        out = attend(query, key, value, None, None, self._attention_backend)
        return attn.to_out[1](attn.to_out[0](out.flatten(2, 3).type_as(query)))


def resize_tokens(x_BLC: torch.Tensor, grid: Grid, target: Grid) -> torch.Tensor:
    """Resize features on a token grid, bilinearly and frame by frame. (B, T*h*w, C) to (B, T*H*W, C)."""
    if grid == target:
        return x_BLC
    if fused.available(x_BLC):
        return fused.resize_tokens(x_BLC, grid, target)
    frames, height, width = grid
    x = x_BLC.unflatten(1, (frames, height, width)).flatten(0, 1).movedim(-1, 1)  # (B*T, C, h, w), channels last
    x = F.interpolate(x, size=target[1:], mode="bilinear", align_corners=False)
    return x.movedim(1, -1).unflatten(0, (-1, frames)).flatten(1, 3)
