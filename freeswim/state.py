"""What the hook owns and the processors read: the pass that is running, and what the guide has recorded."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from diffusers.hooks.hooks import BaseState

from freeswim.config import FreeSwimConfig
from freeswim.rotary import Rotary, apply_rotary

Grid = tuple[int, int, int]
"""(T, H, W) in tokens."""


@dataclass
class GuideRecord:
    """All that is cached of a guide pass, per block, at the guide's own resolution and on the activations' device."""

    grid: Grid
    """The guide's tokens."""
    keeps_output: bool
    """Override "output": the cross-attention's output is kept."""
    key_rotary: Rotary | None
    """Override "context": the self-attention's keys and values are kept, the keys with this rotary embedding: the
    guide's tokens at their places on the target's grid. None: not kept."""
    outputs: dict[int, torch.Tensor] = field(default_factory=dict)
    """Cross-attention output of each block, (B, T*h*w, C)."""
    keys: dict[int, torch.Tensor] = field(default_factory=dict)
    """Self-attention keys of each block, normalised and rotated by `key_rotary`, (B, T*h*w, heads, D)."""
    values: dict[int, torch.Tensor] = field(default_factory=dict)
    """Self-attention values of each block, (B, T*h*w, heads, D)."""

    def keep_context(self, block: int, key_BLHD: torch.Tensor, value_BLHD: torch.Tensor) -> None:
        """Keep a block's normalised, unrotated keys and its values, if the override needs them."""
        if self.key_rotary is not None:
            self.keys[block] = apply_rotary(key_BLHD, self.key_rotary)
            # Of fused projections the values are a view, which would keep queries and keys alive.
            self.values[block] = value_BLHD.contiguous()


@dataclass(frozen=True)
class ForwardPass:
    """What a forward pass of the transformer does."""

    phase: Literal["stock", "guide", "window"]
    grid: Grid = (0, 0, 0)
    """The tokens of this pass."""
    record: GuideRecord | None = None
    """Written by the guide, read by the window pass (None there: windows alone)."""
    logit_scale: float = 1.0
    """Factor on self-attention logits."""


STOCK = ForwardPass("stock")


@dataclass
class Conductor:
    """Shared by the hook, which sets what is running, and the processors, which act on it."""

    config: FreeSwimConfig
    current: ForwardPass = STOCK

    @contextmanager
    def running(self, forward_pass: ForwardPass) -> Iterator[None]:
        """Run `forward_pass` inside the block; outside of such blocks the model is stock."""
        self.current = forward_pass
        try:
            yield
        finally:
            self.current = STOCK


class BranchState(BaseState):  # type: ignore[misc]  # diffusers is untyped
    """The state of one branch, conditional or unconditional; diffusers' StateManager keeps one per cache context."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the guide, and count from step 0."""
        self.record: GuideRecord | None = None
        self.shape: torch.Size | None = None
        self.step = -1

    def enter_step(self, step_index: int | None, shape: torch.Size) -> int:
        """The step that begins. A run that starts again, or latents of another shape, start the branch afresh.

        Args:
            step_index: The step as the cache context tells it, or None: then calls are counted.
            shape: Shape of the latents.
        """
        starts_again = step_index is not None and (step_index == 0 or step_index < self.step)
        if starts_again or shape != self.shape:
            self.reset()
        self.shape = shape
        self.step = self.step + 1 if step_index is None else step_index
        return self.step

    def guide_is_due(self, config: FreeSwimConfig, steps: int | None) -> bool:
        """Whether the guide runs at the current step of `steps`: at 0, P, 2P, ... and whenever nothing is recorded."""
        if self.record is None:
            return True
        if self.step % config.refresh_interval:
            return False
        # Divided, not multiplied: 7 / 100 < 0.07 is false, 7 < 0.07 * 100 is true.
        return config.refresh_until == 1 or steps is None or self.step / steps < config.refresh_until
