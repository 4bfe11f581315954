"""A Wan block on CUDA with what lies between its matrix products fused, and its feed-forward in pieces.

The arithmetic is that of diffusers' WanTransformerBlock, submodule by submodule; only how often it walks through memory
differs. A block with anything that is not plain (weights elsewhere, a timestep per token, gradients, torch.compile)
runs its stock forward.
"""

from typing import Any

import torch
from diffusers.hooks.hooks import ModelHook
from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from torch import nn

from freeswim import fused
from freeswim.rotary import Rotary
from freeswim.state import Conductor, Slot

# Rows of the feed-forward's hidden layer computed at a time: enough to keep the GPU busy, and 0.3 GiB in a 1.3B model.
_ROWS = 16384


class BlockHook(ModelHook):  # type: ignore[misc]  # diffusers is untyped
    """Runs a block fused where it can be, and has its part of the guide's record at hand meanwhile."""

    def __init__(self, slot: Slot, conductor: Conductor) -> None:
        super().__init__()
        self.slot = slot
        self.conductor = conductor

    def new_forward(
        self,
        module: WanTransformerBlock,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        temb: torch.Tensor,
        rotary_emb: Rotary,
    ) -> torch.Tensor:
        """The block's forward, with the stock arguments. May write to `hidden_states` on CUDA."""
        current = self.conductor.current
        if current.phase == "stock":
            return self.fn_ref.original_forward(hidden_states, encoder_hidden_states, temb, rotary_emb)
        self.slot.open()
        if _is_plain(module, hidden_states, temb):
            out = fused_block(
                module, hidden_states, encoder_hidden_states, temb, rotary_emb, replays=current.replays_output
            )
        else:
            out = self.fn_ref.original_forward(hidden_states, encoder_hidden_states, temb, rotary_emb)
        self.slot.close(current.phase)
        return out


def fused_block(
    block: WanTransformerBlock,
    x_BLC: torch.Tensor,
    text: torch.Tensor,
    temb_B6C: torch.Tensor,
    rotary: Rotary,
    *,
    replays: bool,
) -> torch.Tensor:
    """What `block` computes of the residual stream `x_BLC`, written to it.

    replays: the cross-attention's output is at hand, so its input need not be computed.
    """
    modulation = (block.scale_shift_table + temb_B6C.float()).chunk(6, dim=1)
    shift, scale, gate, ff_shift, ff_scale, ff_gate = modulation
    normed = fused.add_and_norm(x_BLC, scale=scale, shift=shift, eps=block.norm1.eps)
    y = block.attn1(normed, None, None, rotary)
    del normed
    if replays or isinstance(block.norm2, nn.Identity):
        fused.add_and_norm(x_BLC, y, gate)
        normed = x_BLC
    else:
        norm = block.norm2
        normed = fused.add_and_norm(
            x_BLC, y, gate, scale=norm.weight, shift=norm.bias, eps=norm.eps, modulated=False
        )  # fmt: skip
    del y
    y = block.attn2(normed, text, None, None)
    normed = fused.add_and_norm(x_BLC, y, scale=ff_scale, shift=ff_shift, eps=block.norm3.eps)
    del y
    assert normed is not None
    fused.add_and_norm(x_BLC, feed_forward(block.ffn, normed), ff_gate)
    return x_BLC


def feed_forward(ffn: Any, x_BLC: torch.Tensor) -> torch.Tensor:
    """`ffn` of the input, written over it in pieces of rows: its hidden layer is 6 times as wide as the stream.

    Plain layers run with bias and GELU inside the matrix product; others (LoRA, quantised) as they are.
    """
    rows = x_BLC.flatten(0, 1)
    plain = _plain_layers(ffn, rows)
    count = -(-len(rows) // _ROWS)
    for piece in rows.chunk(count):
        if plain is None:
            piece.copy_(ffn(piece))
        else:
            first, second = plain
            hidden = torch._addmm_activation(first.bias, piece, first.weight.t(), use_gelu=True)
            torch.addmm(second.bias, hidden, second.weight.t(), out=piece)
    return x_BLC


def _plain_layers(ffn: Any, like: torch.Tensor) -> tuple[nn.Linear, nn.Linear] | None:
    """The two linear layers of a feed-forward with tanh-approximated GELU, if nothing stands between us and them."""
    first, second = getattr(ffn.net[0], "proj", None), ffn.net[2]
    if getattr(ffn.net[0], "approximate", None) != "tanh" or not like.is_cuda:
        return None
    for layer in (first, second):
        if type(layer) is not nn.Linear or layer.bias is None or _has_hooks(layer):
            return None
        # A quantised weight is a tensor of its own kind, which only its own layer knows how to use.
        if type(layer.weight) is not nn.Parameter or layer.weight.dtype != like.dtype:
            return None
        if layer.weight.device != like.device:
            return None
    if first is None or _has_hooks(ffn) or _has_hooks(ffn.net[0]):
        return None
    return first, second


def _has_hooks(module: nn.Module) -> bool:
    registry: Any = getattr(module, "_diffusers_hook", None)
    return (
        bool(module._forward_hooks or module._forward_pre_hooks)
        or getattr(module, "_hf_hook", None) is not None
        or (registry is not None and bool(registry.hooks))
    )


def _is_plain(block: WanTransformerBlock, x_BLC: torch.Tensor, temb: torch.Tensor) -> bool:
    tensors = [x_BLC, temb, block.scale_shift_table]
    if not isinstance(block.norm2, nn.Identity):
        tensors += [block.norm2.weight, block.norm2.bias]
    hooked = (block.norm1, block.norm2, block.norm3)
    return (
        temb.ndim == 3
        and fused.available(*tensors)
        and x_BLC.is_contiguous()
        and not any(_has_hooks(module) for module in hooked)
    )
