"""What the hook owns and the processors read: the pass that is running, and what the guide has recorded."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from diffusers.hooks.hooks import BaseState

from freeswim.config import FreeSwimConfig
from freeswim.hoststore import HostStore
from freeswim.rotary import Rotary, apply_rotary

Grid = tuple[int, int, int]
"""(T, H, W) in tokens."""


@dataclass
class BlockRecord:
    """What is kept of one block in the guide pass, at the guide's own resolution and on the activations' device.

    With a host store the tensors lie in main memory between the block's passes, and are None here meanwhile.
    """

    output: torch.Tensor | None = None
    """Cross-attention output, (B, T*h*w, C)."""
    key: torch.Tensor | None = None
    """Self-attention keys, normalised and rotated to the target's grid, (B, T*h*w, heads, D)."""
    value: torch.Tensor | None = None
    """Self-attention values, (B, T*h*w, heads, D)."""


@dataclass
class GuideRecord:
    """All that is cached of a guide pass."""

    grid: Grid
    """The guide's tokens."""
    keeps_output: bool
    """Override "output": the cross-attention's output is kept."""
    key_rotary: Rotary | None
    """Override "context": the self-attention's keys and values are kept, the keys with this rotary embedding: the
    guide's tokens at their places on the target's grid. None: not kept."""
    blocks: list[BlockRecord] = field(default_factory=list)
    clean: torch.Tensor | None = None
    """The anchor: the guide's estimate of the clean latents, (B, C, T, h, w) float32. None: not kept."""
    store: HostStore | None = None
    """Where the blocks' records are kept between passes; None leaves them on the device."""


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
    context: bool = True
    """Whether windows see the guide's keys and values, where these are recorded."""

    @property
    def replays_output(self) -> bool:
        """Whether the guide's cross-attention output takes the place of this pass's own."""
        return self.phase == "window" and self.record is not None and self.record.keeps_output


STOCK = ForwardPass("stock")


@dataclass
class Slot:
    """A block's view of the running pass: its own record. The same for every block, so that code compiled for one
    serves all."""

    record: BlockRecord | None = None
    following: BlockRecord | None = None
    """The next block's, to be fetched ahead."""
    store: HostStore | None = None

    def open(self) -> None:
        """Has the block's record at hand, and the next one's on its way."""
        if self.store is not None and self.record is not None:
            self.store.fetch(self.record)
            if self.following is not None:
                self.store.fetch(self.following)
            self.store.wait(self.record)

    def close(self, phase: str) -> None:
        """Sends away what the guide recorded, or drops what the window pass has read."""
        if self.store is not None and self.record is not None:
            if phase == "guide":
                self.store.send(self.record)
            else:
                self.store.drop(self.record)

    def keep_context(self, key_rotary: Rotary, key_BLHD: torch.Tensor, value_BLHD: torch.Tensor) -> None:
        """Keep a block's normalised, unrotated keys and its values."""
        assert self.record is not None
        self.record.key = apply_rotary(key_BLHD, key_rotary)
        # Of fused projections the values are a view, which would keep queries and keys alive.
        self.record.value = value_BLHD.contiguous()


@dataclass
class Conductor:
    """Shared by the hook, which sets what is running, and the processors, which act on it."""

    config: FreeSwimConfig
    current: ForwardPass = STOCK
    slots: list[Slot] = field(default_factory=list)

    @contextmanager
    def running(self, forward_pass: ForwardPass) -> Iterator[None]:
        """Run `forward_pass` inside the block; outside of such blocks the model is stock."""
        record = forward_pass.record
        self.current = forward_pass
        if record is not None:
            for slot, own, following in zip(self.slots, record.blocks, [*record.blocks[1:], None], strict=True):
                slot.record, slot.store = own, record.store
                slot.following = following if forward_pass.phase == "window" else None
        try:
            yield
        finally:
            self.current = STOCK
            for slot in self.slots:
                slot.record = slot.following = slot.store = None


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
