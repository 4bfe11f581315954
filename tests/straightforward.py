"""FreeSwim on a Wan transformer written out plainly: block by block, dense masks, both branches by hand.

Independent of the package on purpose: it uses the transformer's weights, plain torch, and nothing of freeswim but the
config's fields. For batch 1 and patch (1, 2, 2), windows per query.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from diffusers import WanTransformer3DModel
from torch import Tensor

from freeswim import FreeSwimConfig


def angles(grid: tuple[int, int, int], dim: int, target: tuple[int, int, int]) -> Tensor:
    """Rotary angles (T*h*w, dim / 2) of a grid's tokens at their places on the target grid."""
    spatial = 2 * (dim // 6)
    parts = []
    for axis, part in enumerate((dim - 2 * spatial, spatial, spatial)):
        position = (torch.arange(grid[axis]).double() + 0.5) * target[axis] / grid[axis] - 0.5
        angle = position[:, None] * 10000.0 ** (-torch.arange(0, part, 2).double() / part)
        shape = [1, 1, 1, part // 2]
        shape[axis] = grid[axis]
        parts.append(angle.view(shape).expand(*grid, -1))
    return torch.cat(parts, dim=-1).flatten(0, 2)


def rotate(x: Tensor, angle: Tensor) -> Tensor:
    """Rotary embedding of (1, L, heads, D) by complex multiplication."""
    pairs = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)[:, None]).flatten(-2).to(x.dtype)


def window_mask(grid: tuple[int, int, int], window: tuple[int, int], mode: str) -> Tensor:
    """(L, L): which key each query sees, one query row and one query column at a time."""
    frames, *sizes = grid
    axes = []
    for size, extent in zip(sizes, window, strict=True):
        axis = torch.zeros(size, size, dtype=torch.bool)
        for query in range(size):
            start = query - extent // 2
            if extent >= size:
                start, extent = 0, size
            elif mode == "inward":
                start = max(0, min(start, size - extent))
            elif mode == "blocks":
                start = query - query % extent
            axis[query, max(0, start) : start + extent] = True
        axes.append(axis)
    plane = axes[0][:, None, :, None] & axes[1][None, :, None, :]
    return plane[None, :, :, None].expand(frames, -1, -1, frames, -1, -1).reshape(*[frames * sizes[0] * sizes[1]] * 2)


@dataclass
class Recorded:
    grid: tuple[int, int, int]
    outputs: list[Tensor] = field(default_factory=list)
    keys: list[Tensor] = field(default_factory=list)  # normalised, not rotated
    values: list[Tensor] = field(default_factory=list)
    clean: Tensor = field(default_factory=lambda: torch.empty(0))  # the clean latents, estimated at the smaller size


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, factor: float) -> Tensor:
    logits = torch.einsum("bqhd,bkhd->bhqk", q, k) * factor / q.shape[-1] ** 0.5
    if mask is not None:
        logits = logits.masked_fill(~mask, float("-inf"))
    return torch.einsum("bhqk,bkhd->bqhd", logits.softmax(-1), v)


def forward(
    model: WanTransformer3DModel,
    latents: Tensor,
    timestep: Tensor,
    text: Tensor,
    *,
    mask: Tensor | None = None,
    factor: float = 1.0,
    replay: Recorded | None = None,
    override: str = "",
) -> tuple[Tensor, Recorded]:
    """One pass over all blocks. Records everything that a guide could hand over, and replays `replay`, if given."""
    _, _, frames, height, width = latents.shape
    grid = (frames, height // 2, width // 2)
    recorded = Recorded(grid)
    x = model.patch_embedding(latents).flatten(2).transpose(1, 2)
    temb, six, text, _ = model.condition_embedder(timestep, text, None)
    six = six.unflatten(1, (6, -1))
    for index, block in enumerate(model.blocks):
        shift1, scale1, gate1, shift2, scale2, gate2 = (block.scale_shift_table + six).chunk(6, dim=1)

        attn = block.attn1
        hidden = block.norm1(x) * (1 + scale1) + shift1
        q, k, v = attn.norm_q(attn.to_q(hidden)), attn.norm_k(attn.to_k(hidden)), attn.to_v(hidden)
        q, k, v = (tensor.unflatten(2, (attn.heads, -1)) for tensor in (q, k, v))
        recorded.keys.append(k)
        recorded.values.append(v)
        angle = angles(grid, q.shape[-1], grid)
        q, k = rotate(q, angle), rotate(k, angle)
        seen = mask
        if replay is not None and override in ("context", "both"):
            k = torch.cat([k, rotate(replay.keys[index], angles(replay.grid, q.shape[-1], grid))], dim=1)
            v = torch.cat([v, replay.values[index]], dim=1)
            assert mask is not None
            seen = torch.cat([mask, torch.ones(mask.shape[0], k.shape[1] - mask.shape[1], dtype=torch.bool)], dim=1)
        x = x + attn.to_out[0](softmax_attention(q, k, v, seen, factor).flatten(2)) * gate1

        attn = block.attn2
        if replay is not None and override in ("output", "both"):
            picture = replay.outputs[index].unflatten(1, replay.grid)[0].permute(0, 3, 1, 2)
            picture = F.interpolate(picture, size=grid[1:], mode="bilinear")
            cross = picture.permute(0, 2, 3, 1).flatten(0, 2)[None]
        else:
            q, k, v = attn.norm_q(attn.to_q(block.norm2(x))), attn.norm_k(attn.to_k(text)), attn.to_v(text)
            q, k, v = (tensor.unflatten(2, (attn.heads, -1)) for tensor in (q, k, v))
            cross = attn.to_out[0](softmax_attention(q, k, v, None, 1.0).flatten(2))
        recorded.outputs.append(cross)
        x = x + cross

        x = x + block.ffn(block.norm3(x) * (1 + scale2) + shift2) * gate2

    shift, scale = (model.scale_shift_table + temb.unsqueeze(1)).chunk(2, dim=1)
    x = model.proj_out(model.norm_out(x) * (1 + scale) + shift)
    x = x.unflatten(1, grid).unflatten(-1, (2, 2, -1))  # b t h w ph pw c
    return x.permute(0, 6, 1, 2, 4, 3, 5).flatten(5, 6).flatten(3, 4), recorded


@dataclass(frozen=True)
class Position:
    """Where in a run a call is."""

    branch: str
    step: int
    steps: int
    sigma: float


class StraightforwardFreeSwim:
    """FreeSwim over the steps of one run, windows per query; the downsampled guide for whole ratios only."""

    def __init__(self, model: WanTransformer3DModel, config: FreeSwimConfig, ratio: int = 2) -> None:
        self.model, self.config, self.ratio = model, config, ratio
        self.recorded: dict[str, Recorded] = {}

    def guide(self, latents: Tensor, timestep: Tensor, text: Tensor, sigma: float) -> Recorded:
        ratio = (1, self.ratio, self.ratio)
        if self.config.guide == "full":
            velocity, recorded = forward(self.model, latents, timestep, text, factor=self.config.effective_logit_scale)
            recorded.clean = F.avg_pool3d(latents - sigma * velocity, ratio)
            return recorded
        divisor = (1 - sigma) + sigma / self.ratio
        small, level = F.avg_pool3d(latents, ratio) / divisor, sigma / self.ratio / divisor
        velocity, recorded = forward(self.model, small, level * (timestep / sigma), text)
        recorded.clean = small - level * velocity
        return recorded

    def anchored(self, velocity: Tensor, latents: Tensor, recorded: Recorded, sigma: float) -> Tensor:
        """The velocity towards a clean picture whose averages over ratio x ratio are the guide's picture."""
        clean = latents - sigma * velocity
        missing = recorded.clean - F.avg_pool3d(clean, (1, self.ratio, self.ratio))
        frames = [F.interpolate(frame, clean.shape[-2:], mode="bicubic") for frame in missing.unbind(2)]
        return (latents - (clean + torch.stack(frames, 2))) / sigma

    def __call__(self, latents: Tensor, timestep: Tensor, text: Tensor, position: Position) -> Tensor:
        config, branch, step = self.config, position.branch, position.step
        guided = config.guide != "none" and (branch == "cond" or config.guide_unconditional)
        due = step % config.refresh_interval == 0 and (step == 0 or step / position.steps < config.refresh_until)
        if guided and due:
            self.recorded[branch] = self.guide(latents, timestep, text, position.sigma)
        grid = (latents.shape[2], latents.shape[3] // 2, latents.shape[4] // 2)
        override = config.override
        if step / position.steps >= config.context_until:
            guided, override = guided and override != "context", "output"
        velocity = forward(
            self.model,
            latents,
            timestep,
            text,
            mask=window_mask(grid, config.window, config.window_mode),
            factor=config.effective_logit_scale,
            replay=self.recorded[branch] if guided else None,
            override=override,
        )[0]
        recorded = self.recorded.get(branch)
        if recorded is None or position.sigma <= config.anchor_above:
            return velocity
        return self.anchored(velocity, latents, recorded, position.sigma)
